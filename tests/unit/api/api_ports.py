"""What the API needs of the rest of a host, small and true: what is done is shown by the copy at once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Generic

import msgspec
from tests.unit.api.api_copy import Copy

from trunkline.directory.collection import Shown
from trunkline.directory.numbers import OwnAnswer, Owned, Taken
from trunkline.directory.records import Missing, Record, Removed, Spent, Undecidable
from trunkline.domain import sid
from trunkline.domain.events import (
    Body,
    Canceled,
    Deleted,
    Kind,
    MediaRemoved,
    MessageCreated,
    NumberOwned,
    Redacted,
    Settings,
    Type,
)
from trunkline.domain.message import Message, fold
from trunkline.domain.number import Number
from trunkline.kernel import Deadline, FakeClock, ambient_deadline, is_retried_above
from trunkline.log.interface import Unreadable
from trunkline.messaging.accept import AcceptAnswer, Created, KeyReused, NewMessage
from trunkline.messaging.cancel import CancelAnswer, Done


@dataclass
class Numbers:
    """First come, first served."""

    copy: Copy
    clock: FakeClock
    says: OwnAnswer | None = None
    owned: dict[str, Number] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)
    spent: set[str] = field(default_factory=set)
    when_asked: Callable[[str], Awaitable[None]] | None = None
    """What happens meanwhile, whenever it is asked whether a SID named a number."""
    is_electing: bool = False
    caught_up: int = 0
    asked: int = 0
    """How often the log was asked who owns a number."""

    async def own(
        self, account: str, settings: NumberOwned, *, is_keyed: bool, deadline: Deadline
    ) -> OwnAnswer:
        del is_keyed
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        if settings.sid in self.spent:
            return Spent()
        earlier = self.owned.get(settings.phone_number)
        if earlier is None and settings.phone_number not in self.released:
            earlier = self.copy.replica.number_by_phone(settings.phone_number)
        self.released.discard(settings.phone_number)
        if earlier is not None:
            return Owned(earlier, True) if earlier.sid == settings.sid else Taken()
        now = self.clock.wall()
        number = Number(account=account, settings=settings, created_at=now, updated_at=now)
        self.owned[settings.phone_number] = number
        return Owned(number)

    async def change(
        self, number: Number, edit: Callable[[NumberOwned], NumberOwned], *, deadline: Deadline
    ) -> Number | Missing | Undecidable:
        assert not deadline.has_passed()
        if isinstance(self.says, Undecidable):
            return self.says
        standing = self.owned.get(number.phone_number, number)
        if standing.sid != number.sid or number.phone_number in self.released:
            return Missing()
        settings = edit(standing.settings)
        changed = Number(
            account=number.account,
            settings=settings,
            created_at=number.created_at,
            updated_at=self.clock.wall(),
        )
        self.owned[number.phone_number] = changed
        self.copy.put(Kind.NUMBER, Type.CHANGE, number.account, number.sid, settings)
        self.copy.catch_up()
        return changed

    async def release(
        self, number: Number, *, deadline: Deadline
    ) -> Removed | Missing | Undecidable:
        assert not deadline.has_passed()
        if isinstance(self.says, Undecidable):
            return self.says
        if number.phone_number in self.released:
            return Missing()
        self.owned.pop(number.phone_number, None)
        self.released.add(number.phone_number)
        self.spent.add(number.sid)
        self.copy.put(Kind.NUMBER, Type.DELETED, number.account, number.sid, Deleted())
        self.copy.catch_up()
        return Removed(0, 1)

    async def find_owned(
        self, account: str, phone_number: str, *, deadline: Deadline
    ) -> Number | Unreadable | None:
        assert not deadline.has_passed()
        self.asked += 1
        if self.is_electing:
            return Unreadable("electing")
        found = self.owned.get(phone_number)
        return found if found is not None and found.account == account else None

    async def was_named(
        self, phone_number: str, sid: str, *, deadline: Deadline
    ) -> bool | Undecidable:
        assert not deadline.has_passed()
        if self.is_electing:
            return Undecidable("electing")
        found = self.owned.get(phone_number)
        is_seen = sid in self.spent or (found is not None and found.sid == sid)
        if self.when_asked is not None:
            await self.when_asked(phone_number)
        return is_seen

    async def catch_up(self, *, deadline: Deadline) -> bool:
        assert not deadline.has_passed()
        self.caught_up += 1
        if self.is_electing:
            return False
        self.copy.catch_up()
        return True


@dataclass
class Records(Generic[Settings, Shown]):
    """Records of one kind by SID; `made` is what the log would say."""

    copy: Copy
    clock: FakeClock
    kind: Kind
    shown_of: Callable[[Record[Settings]], Shown]
    says: Undecidable | None = None
    is_electing: bool = False
    is_copy_behind: bool = False
    made: dict[str, Record[Settings]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    async def make(
        self, account: str, settings: Settings, *, is_keyed: bool, deadline: Deadline
    ) -> Shown | Spent | Undecidable:
        del is_keyed
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        if settings.sid in self.deleted:
            return Spent()
        if settings.sid not in self.made:
            self.put(account, settings)
            self._show()
        return self.shown_of(self.made[settings.sid])

    async def change(
        self, account: str, sid: str, edit: Callable[[Settings], Settings], *, deadline: Deadline
    ) -> Shown | Missing | Undecidable:
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        standing = self._own(account, sid)
        if standing is None:
            return Missing()
        edited = edit(standing.body)
        if edited != standing.body:
            self.made[sid] = replace(standing, body=edited, changed_at=self.clock.wall())
            self.copy.put(self.kind, Type.CHANGE, account, sid, edited)
            self._show()
        return self.shown_of(self.made[sid])

    async def delete(
        self, account: str, sid: str, *, deadline: Deadline
    ) -> Removed | Missing | Undecidable:
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        if self._own(account, sid) is None:
            return Missing()
        del self.made[sid]
        self.deleted.add(sid)
        self.copy.put(self.kind, Type.DELETED, account, sid, Deleted())
        self._show()
        return Removed(0, 1)

    async def find(self, sid: str, *, deadline: Deadline) -> Shown | Unreadable | None:
        assert not deadline.has_passed()
        if self.is_electing:
            return Unreadable("electing")
        return self.shown_of(self.made[sid]) if sid in self.made else None

    def put(self, account: str, settings: Settings) -> None:
        """Make it, for whoever has the copy catch up."""
        self.keep(account, settings)
        self.copy.put(self.kind, Type.ORIGINAL, account, settings.sid, settings)

    def keep(self, account: str, settings: Settings) -> None:
        """Have it in the log alone."""
        now = self.clock.wall()
        self.made[settings.sid] = Record(account, settings.sid, settings, now, now, 0, 1)

    def _own(self, account: str, sid: str) -> Record[Settings] | None:
        standing = self.made.get(sid)
        return standing if standing is not None and standing.account == account else None

    def _show(self) -> None:
        if not self.is_copy_behind:
            self.copy.catch_up()


@dataclass
class Acceptor:
    """Keeps what it accepted; `says` is what it answers instead, where a test needs that."""

    copy: Copy
    clock: FakeClock
    says: AcceptAnswer | None = None
    accepted: list[tuple[NewMessage, str | None]] = field(default_factory=list)
    by_key: dict[tuple[str, str], tuple[NewMessage, Message]] = field(default_factory=dict)
    may_go_on: asyncio.Event | None = None
    asked_with: list[tuple[float, bool]] = field(default_factory=list)
    """For each call, the seconds that the ambient deadline left, and whether a caller retries."""

    async def accept(self, new: NewMessage, *, key: str | None, deadline: Deadline) -> AcceptAnswer:
        assert not deadline.has_passed()
        ambient = ambient_deadline()
        assert ambient is not None
        self.asked_with.append((ambient.remaining_s(), is_retried_above()))
        if self.may_go_on is not None:
            await self.may_go_on.wait()
        if self.says is not None:
            return self.says
        earlier = self.by_key.get((new.account, key)) if key is not None else None
        if earlier is not None:
            is_same = _asked_for(earlier[0]) == _asked_for(new)
            return Created(earlier[1], True) if is_same else KeyReused(earlier[1].sid)
        self.accepted.append((new, key))
        message = self._stored(new)
        if key is not None:
            self.by_key[new.account, key] = (new, message)
        return Created(message)

    async def repeated(
        self, new: NewMessage, *, key: str, deadline: Deadline
    ) -> AcceptAnswer | None:
        if (new.account, key) not in self.by_key:
            return None
        return await self.accept(new, key=key, deadline=deadline)

    def _stored(self, new: NewMessage) -> Message:
        prefix = sid.MMS if new.media_urls else sid.SMS
        name = f"{prefix}{len(self.accepted):032x}"
        body = MessageCreated(
            sid=name,
            sender=new.sender,
            recipient=new.recipient,
            text=new.text,
            media_urls=new.media_urls,
            status_callback=new.status_callback,
            send_at=None if new.send_at is msgspec.UNSET else new.send_at,
        )
        self.copy.put(Kind.MESSAGE, Type.ORIGINAL, new.account, name, body)
        at = self.clock.wall()
        return fold(Message(account=new.account), body, at=at, event_id="e", position=0)


def _asked_for(new: NewMessage) -> NewMessage:
    """What the client asked for: the URL of its application is not a part of that."""
    is_ours = new.application is not msgspec.UNSET
    return msgspec.structs.replace(new, status_callback=None) if is_ours else new


@dataclass
class Changes:
    """Cancels and erases in the copy; `says` is what a cancel is answered instead."""

    copy: Copy
    says: CancelAnswer | None = None
    is_unsure: bool = False

    async def cancel(self, message: Message, *, deadline: Deadline) -> CancelAnswer:
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        return Done(self._changed(message, Type.CANCEL, Canceled()))

    async def redact(self, message: Message, *, deadline: Deadline) -> Message | None:
        assert not deadline.has_passed()
        return None if self.is_unsure else self._changed(message, Type.REDACTED, Redacted())

    async def delete(self, message: Message, *, deadline: Deadline) -> bool:
        assert not deadline.has_passed()
        if not self.is_unsure:
            self._changed(message, Type.DELETED, Deleted())
        return not self.is_unsure

    def _changed(self, message: Message, type_: Type, body: Body) -> Message:
        self.copy.put(Kind.MESSAGE, type_, message.account, message.sid, body)
        self.copy.catch_up()
        found = self.copy.replica.message(message.sid)
        assert found is not None
        return found


@dataclass
class Lookup:
    """What the log would say about a SID."""

    knows: dict[str, Message] = field(default_factory=dict)
    is_electing: bool = False
    asked: int = 0
    may_answer: asyncio.Event | None = None

    async def message(
        self, account: str, sid: str, *, deadline: Deadline
    ) -> Message | Unreadable | None:
        assert not deadline.has_passed()
        self.asked += 1
        if self.may_answer is not None:
            await self.may_answer.wait()
        found = self.knows.get(sid)
        assert found is None or found.account == account
        return Unreadable("electing") if found is None and self.is_electing else found


@dataclass
class Media:
    """The blobs of a host by name, and a log that takes what is deleted."""

    copy: Copy
    has: dict[str, bytes] = field(default_factory=dict)
    is_log_down: bool = False

    async def content(self, name: str, *, deadline: Deadline) -> bytes | None:
        assert not deadline.has_passed()
        return self.has.get(name)

    async def remove(self, message: Message, media: str, *, deadline: Deadline) -> bool:
        assert not deadline.has_passed()
        if not self.is_log_down:
            kind = Kind.MESSAGE if message.original else Kind.INBOUND
            removed = MediaRemoved(media=(media,))
            self.copy.put(kind, Type.MEDIA_REMOVED, message.account, message.sid, removed)
            self.copy.catch_up()
        return not self.is_log_down
