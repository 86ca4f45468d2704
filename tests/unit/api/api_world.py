"""A host's API without the host: a real read copy, and small true implementations of the ports."""

import asyncio
import functools
import itertools
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from starlette.types import ASGIApp
from starlette.types import Message as AsgiMessage
from tests.unit.api.account_ports import Accounts, Keys
from tests.unit.api.api_copy import Copy
from tests.unit.api.api_directory import Applications, Numbers

from trunkline.api import catalogue
from trunkline.api.admission import API_LIMITS
from trunkline.api.app import create_app
from trunkline.api.services import ApiServices
from trunkline.domain import sid
from trunkline.domain.events import (
    AccountOpened,
    Body,
    Canceled,
    Deleted,
    Kind,
    MediaRemoved,
    MessageCreated,
    NumberOwned,
    Redacted,
    Type,
)
from trunkline.domain.message import Message, fold
from trunkline.kernel import (
    CALLER_STATE,
    Deadline,
    FakeClock,
    Seen,
    ServerLimits,
    ambient_deadline,
    is_retried_above,
)
from trunkline.log.interface import Unreadable
from trunkline.messaging.accept import AcceptAnswer, Created, KeyReused, NewMessage
from trunkline.messaging.cancel import CancelAnswer, Done

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


known = functools.cache(catalogue.load)
"""Read once for all worlds, of which there are hundreds."""


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


@dataclass(frozen=True)
class _Client:
    """Who asks, as the server sees it."""

    seen: Seen

    def look(self) -> Seen:
        return self.seen


class World:
    """An application over all of the above, and a client of it."""

    def __init__(
        self,
        path: Path,
        limits: ServerLimits = API_LIMITS,
        *,
        has_magic_numbers: bool = True,
        media_needs_credentials: bool = False,
    ) -> None:
        self.clock = FakeClock()
        self.copy = Copy(path, self.clock)
        self.acceptor = Acceptor(self.copy, self.clock)
        self.changes = Changes(self.copy)
        self.numbers = Numbers(self.copy, self.clock)
        self.applications = Applications(self.copy, self.clock)
        self.accounts = Accounts(self.copy, self.clock)
        self.keys = Keys(self.copy, self.clock)
        self.lookup = Lookup()
        self.media = Media(self.copy)
        self.missing: list[str] = []
        self.has_room_for_later = True
        self.registry = CollectorRegistry()
        entropy = itertools.count(1)
        services = ApiServices(
            acceptor=self.acceptor,
            canceller=self.changes,
            eraser=self.changes,
            numbers=self.numbers,
            applications=self.applications,
            accounts=self.accounts,
            keys=self.keys,
            known=self.copy.replica,
            replica=self.copy.replica,
            lookup=self.lookup,
            media=self.media,
            media_needs_credentials=media_needs_credentials,
            clock=self.clock,
            entropy=lambda size: next(entropy).to_bytes(size, "big"),
            registry=self.registry,
            metrics=functools.partial(generate_latest, self.registry),
            readiness=lambda: self.missing,
            has_magic_numbers=has_magic_numbers,
            has_room_for_later=lambda: self.has_room_for_later,
        )
        self.app: ASGIApp = create_app(services, limits, known=known())
        self.open_account(ACCOUNT, TOKEN)
        self.open_account(OTHER_ACCOUNT, OTHER_TOKEN)
        self.give_number(ACCOUNT, OUR_NUMBER)
        self.give_number(OTHER_ACCOUNT, THEIR_NUMBER)
        self.copy.catch_up()

    def open_account(self, account: str, token: str) -> None:
        body = AccountOpened(sid=account, friendly_name="An account", auth_token=token)
        self.accounts.bodies[account] = body
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
