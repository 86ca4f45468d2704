"""A host's API without the host: a real read copy, and small true implementations of the ports."""

import functools
import itertools
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from starlette.types import ASGIApp
from starlette.types import Message as AsgiMessage
from tests.unit.api.api_copy import Copy
from tests.unit.api.api_ports import Acceptor, Changes, Lookup, Media, Numbers, Records

from trunkline.api.admission import API_LIMITS
from trunkline.api.app import create_app
from trunkline.api.services import ApiServices
from trunkline.directory.accounts import account_of
from trunkline.directory.applications import application_of
from trunkline.directory.keys import key_of
from trunkline.domain import sid
from trunkline.domain.events import AccountOpened, Kind, NumberOwned, Type
from trunkline.kernel import CALLER_STATE, FakeClock, Seen, ServerLimits

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
        self.applications = Records(self.copy, self.clock, Kind.APPLICATION, application_of)
        self.accounts = Records(self.copy, self.clock, Kind.ACCOUNT, account_of)
        self.keys = Records(self.copy, self.clock, Kind.KEY, key_of)
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
        self.app: ASGIApp = create_app(services, limits)
        self.open_account(ACCOUNT, TOKEN)
        self.open_account(OTHER_ACCOUNT, OTHER_TOKEN)
        self.give_number(ACCOUNT, OUR_NUMBER)
        self.give_number(OTHER_ACCOUNT, THEIR_NUMBER)
        self.copy.catch_up()

    def open_account(self, account: str, token: str) -> None:
        body = AccountOpened(sid=account, friendly_name="An account", auth_token=token)
        self.accounts.put(account, body)

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
