"""Small true implementations of the ports through which the API changes numbers and applications."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from tests.unit.api.api_copy import Copy

from trunkline.directory.numbers import OwnAnswer, Owned, Taken
from trunkline.directory.records import Missing, Removed, Spent, Undecidable
from trunkline.domain.application import Application
from trunkline.domain.events import ApplicationMade, Body, Deleted, Kind, NumberOwned, Type
from trunkline.domain.number import Number
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.interface import Unreadable


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

    async def move(
        self,
        number: Number,
        account: str,
        edit: Callable[[NumberOwned], NumberOwned],
        *,
        deadline: Deadline,
    ) -> Number | Missing | Undecidable:
        changed = await self.change(number, edit, deadline=deadline)
        if isinstance(changed, Number):
            changed = msgspec.structs.replace(changed, account=account)
            self.owned[number.phone_number] = changed
            # The stand-in's events do not say when the record was created, as those of old did not.
            self.copy.put(Kind.NUMBER, Type.DELETED, number.account, number.sid, Deleted())
            self.copy.put(Kind.NUMBER, Type.CHANGE, account, number.sid, changed.settings)
            self.copy.catch_up()
        return changed

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
class Applications:
    """Applications by SID, shown at once."""

    copy: Copy
    clock: FakeClock
    says: Undecidable | None = None
    is_electing: bool = False
    made: dict[str, Application] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    async def make(
        self, account: str, settings: ApplicationMade, *, is_keyed: bool, deadline: Deadline
    ) -> Application | Spent | Undecidable:
        del is_keyed
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        if settings.sid in self.deleted:
            return Spent()
        if settings.sid not in self.made:
            now = self.clock.wall()
            self.made[settings.sid] = Application(
                account=account, settings=settings, created_at=now, updated_at=now
            )
            self._show(Type.ORIGINAL, account, settings.sid, settings)
        return self.made[settings.sid]

    async def change(
        self,
        account: str,
        sid: str,
        edit: Callable[[ApplicationMade], ApplicationMade],
        *,
        deadline: Deadline,
    ) -> Application | Missing | Undecidable:
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        standing = self.made.get(sid)
        if standing is None or standing.account != account:
            return Missing()
        self.made[sid] = msgspec.structs.replace(
            standing, settings=edit(standing.settings), updated_at=self.clock.wall()
        )
        self._show(Type.CHANGE, account, sid, self.made[sid].settings)
        return self.made[sid]

    async def delete(
        self, account: str, sid: str, *, deadline: Deadline
    ) -> Removed | Missing | Undecidable:
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        standing = self.made.get(sid)
        if standing is None or standing.account != account:
            return Missing()
        del self.made[sid]
        self.deleted.add(sid)
        self._show(Type.DELETED, account, sid, Deleted())
        return Removed(0, 1)

    async def find(self, sid: str, *, deadline: Deadline) -> Application | Unreadable | None:
        assert not deadline.has_passed()
        return Unreadable("electing") if self.is_electing else self.made.get(sid)

    def _show(self, type_: Type, account: str, sid: str, body: Body) -> None:
        self.copy.put(Kind.APPLICATION, type_, account, sid, body)
        self.copy.catch_up()
