"""A host's API without the host: a real read copy, and small true implementations of the ports."""

import asyncio
import contextlib
import functools
import itertools
import sqlite3
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from starlette.types import ASGIApp
from starlette.types import Message as AsgiMessage

from trunkline.api.admission import API_LIMITS
from trunkline.api.app import create_app
from trunkline.api.services import ApiServices
from trunkline.directory.numbers import OwnAnswer, Owned, Taken
from trunkline.directory.records import Missing, Removed, Spent, Undecidable
from trunkline.domain import sid
from trunkline.domain.application import Application
from trunkline.domain.events import (
    AccountOpened,
    ApplicationMade,
    Body,
    Deleted,
    Kind,
    MessageCreated,
    NumberOwned,
    Type,
)
from trunkline.domain.message import Message, fold
from trunkline.domain.number import Number
from trunkline.kernel import (
    CALLER_STATE,
    Deadline,
    FakeClock,
    Seen,
    ServerLimits,
    ambient_deadline,
    is_retried_above,
)
from trunkline.log.event import Event, changed_subject, encode_body
from trunkline.log.interface import Stored, Unreadable
from trunkline.messaging.accept import AcceptAnswer, Created, KeyReused, NewMessage
from trunkline.replica import schema
from trunkline.replica.folding import Folding
from trunkline.replica.progress import Progress
from trunkline.replica.queries import Replica

ACCOUNT = "AC" + "a" * 32
OTHER_ACCOUNT = "AC" + "b" * 32
TOKEN = "a-made-up-token"
OTHER_TOKEN = "another-made-up-token"
OUR_NUMBER = "+15125550100"
THEIR_NUMBER = "+15125550199"
HANDSET = "+15125550123"
MESSAGES = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
NUMBERS = f"/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers.json"
AVAILABLE = f"/2010-04-01/Accounts/{ACCOUNT}/AvailablePhoneNumbers.json"
APPLICATIONS = f"/2010-04-01/Accounts/{ACCOUNT}/Applications.json"


def available(rest: str) -> str:
    """A path of the inventory, such as `US/Local`."""
    return AVAILABLE.replace(".json", f"/{rest}.json")


@dataclass
class Answered:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> int:
        return int(self.json["code"])


class Copy:
    """The host's read copy, with the writing side in the test's hands."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self._path = path
        self._clock = clock
        self._ids = itertools.count()
        self._folding = Folding(schema.open_for_writing(path, cluster="test"))
        self._sequence = 0
        self._progress = Progress(path.with_suffix(".progress"), shards=1, clock=clock)
        self.replica = Replica(path, self._progress)

    def put(self, kind: Kind, type_: Type, account: str, of: str, body: Body) -> None:
        """One event of resource `of`, visible after `catch_up`."""
        now = self._clock.wall()
        event = Event(
            id=f"event-{next(self._ids)}",
            kind=kind,
            type=type_,
            sid=of,
            account=account,
            at=now,
            by_host="host-1",
            data=encode_body(body),
        )
        stored = Stored(0, changed_subject(0, kind, account), 1, now, b"")
        self._folding.add(event, body, stored)

    def catch_up(self) -> None:
        """Show everything put so far."""
        self._folding.write()
        self._folding.commit()
        self._folding.forget_written()
        self._sequence += 1
        self._progress.record(0, sequence=self._sequence, complete_at=self._clock.wall())

    def change_token(self, account: str, token: str) -> None:
        """As a projector does that has not said yet that it wrote."""
        known = self.replica.account(account)
        assert known is not None
        state = msgspec.msgpack.encode(msgspec.structs.replace(known, auth_token=token))
        with contextlib.closing(sqlite3.connect(self._path)) as database, database:
            database.execute("UPDATE account SET state = ? WHERE sid = ?", (state, account))

    def close(self) -> None:
        self.replica.close()
        self._progress.close()
        self._folding.close()


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
            is_same = earlier[0] == new
            return Created(earlier[1], True) if is_same else KeyReused(earlier[1].sid)
        self.accepted.append((new, key))
        message = self._stored(new)
        if key is not None:
            self.by_key[new.account, key] = (new, message)
        return Created(message)

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
        )
        self.copy.put(Kind.MESSAGE, Type.ORIGINAL, new.account, name, body)
        at = self.clock.wall()
        return fold(Message(account=new.account), body, at=at, event_id="e", position=0)


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
        self.copy.put(Kind.NUMBER, Type.DELETION, number.account, number.sid, Deleted())
        self.copy.catch_up()
        return Removed(0, 1)

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
        self._show(Type.DELETION, account, sid, Deleted())
        return Removed(0, 1)

    async def find(self, sid: str, *, deadline: Deadline) -> Application | Unreadable | None:
        assert not deadline.has_passed()
        return Unreadable("electing") if self.is_electing else self.made.get(sid)

    def _show(self, type_: Type, account: str, sid: str, body: Body) -> None:
        self.copy.put(Kind.APPLICATION, type_, account, sid, body)
        self.copy.catch_up()


@dataclass
class Lookup:
    """What the log would say about a SID."""

    knows: dict[str, Message] = field(default_factory=dict)
    is_electing: bool = False
    asked: int = 0

    async def message(
        self, account: str, sid: str, *, deadline: Deadline
    ) -> Message | Unreadable | None:
        assert not deadline.has_passed()
        self.asked += 1
        found = self.knows.get(sid)
        assert found is None or found.account == account
        return Unreadable("electing") if found is None and self.is_electing else found


@dataclass(frozen=True)
class _Client:
    """Who asks, as the server sees it."""

    seen: Seen

    def look(self) -> Seen:
        return self.seen


class World:
    """An application over all of the above, and a client of it."""

    def __init__(self, path: Path, limits: ServerLimits = API_LIMITS) -> None:
        self.clock = FakeClock()
        self.copy = Copy(path, self.clock)
        self.acceptor = Acceptor(self.copy, self.clock)
        self.numbers = Numbers(self.copy, self.clock)
        self.applications = Applications(self.copy, self.clock)
        self.lookup = Lookup()
        self.missing: list[str] = []
        self.registry = CollectorRegistry()
        entropy = itertools.count(1)
        services = ApiServices(
            acceptor=self.acceptor,
            numbers=self.numbers,
            applications=self.applications,
            replica=self.copy.replica,
            lookup=self.lookup,
            clock=self.clock,
            entropy=lambda size: next(entropy).to_bytes(size, "big"),
            registry=self.registry,
            metrics=functools.partial(generate_latest, self.registry),
            readiness=lambda: self.missing,
        )
        self.app: ASGIApp = create_app(services, limits)
        self.open_account(ACCOUNT, TOKEN)
        self.open_account(OTHER_ACCOUNT, OTHER_TOKEN)
        self.give_number(ACCOUNT, OUR_NUMBER)
        self.give_number(OTHER_ACCOUNT, THEIR_NUMBER)
        self.copy.catch_up()

    def open_account(self, account: str, token: str) -> None:
        body = AccountOpened(sid=account, friendly_name="An account", auth_token=token)
        self.copy.put(Kind.ACCOUNT, Type.ORIGINAL, account, account, body)

    def give_number(self, account: str, phone_number: str) -> str:
        name = sid.sid_from_key(sid.PHONE_NUMBER, account, phone_number)
        body = NumberOwned(sid=name, phone_number=phone_number, friendly_name="Front desk")
        self.copy.put(Kind.NUMBER, Type.ORIGINAL, account, name, body)
        return name

    async def send(self, **parameters: Any) -> Answered:
        """Create a message from our number to the handset, unless told otherwise."""
        form = {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello"} | parameters
        given = {name: value for name, value in form.items() if value is not None}
        return await self.post(MESSAGES, given)

    async def post(
        self, path: str, form: dict[str, Any] | bytes, headers: dict[str, str] | None = None
    ) -> Answered:
        body = form if isinstance(form, bytes) else urlencode(form, doseq=True).encode()
        return await self.call("POST", path, body=body, headers=headers)

    async def metric(self, line: str) -> float:
        """The value of one series, as a scrape shows it."""
        text = (await self.call("GET", "/metrics", user=None)).body.decode()
        return next(float(row.split()[-1]) for row in text.splitlines() if row.startswith(line))

    async def get(self, path_and_query: str) -> Answered:
        return await self.call("GET", path_and_query)

    async def call(
        self,
        method: str,
        path_and_query: str,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        user: str | None = ACCOUNT,
        token: str = TOKEN,
        seen: Seen | None = None,
    ) -> Answered:
        """One request through the application's ASGI interface, body in two pieces. `seen` is what
        the server knows of the client."""
        path, _, query = path_and_query.partition("?")
        sent = {"host": "127.0.0.1:8000"}
        if body:
            sent["content-type"] = "application/x-www-form-urlencoded"
        if user is not None:
            sent["authorization"] = "Basic " + b64encode(f"{user}:{token}".encode()).decode()
        sent |= headers or {}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
            "state": {} if seen is None else {CALLER_STATE: _Client(seen)},
        }
        middle = len(body) // 2
        incoming: list[AsgiMessage] = [
            {"type": "http.request", "body": body[:middle], "more_body": True},
            {"type": "http.request", "body": body[middle:], "more_body": False},
        ]
        outgoing: list[AsgiMessage] = []

        async def receive() -> AsgiMessage:
            return incoming.pop(0) if incoming else {"type": "http.disconnect"}

        async def send(message: AsgiMessage) -> None:
            outgoing.append(message)

        await self.app(scope, receive, send)
        start, end = outgoing
        answered = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answered(start["status"], answered, end["body"])
