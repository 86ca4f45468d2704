"""What the API needs of the rest of the host: ports, and the one bundle they are handed down in.

A read comes from the host's copy and may lag; what must be certain goes through a port that says
when it is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from prometheus_client import CollectorRegistry

from trunkline.directory.numbers import OwnAnswer
from trunkline.directory.records import Missing, Removed, Spent, Undecidable
from trunkline.domain.account import Account, AccountStatus
from trunkline.domain.application import Application
from trunkline.domain.events import AccountOpened, ApplicationMade, KeyMade, NumberOwned, Settings
from trunkline.domain.key import Key
from trunkline.domain.message import Message
from trunkline.domain.number import Number
from trunkline.domain.ports import Entropy
from trunkline.kernel import Clock, Deadline
from trunkline.log.interface import Unreadable
from trunkline.messaging.accept import AcceptAnswer, NewMessage
from trunkline.messaging.cancel import CancelAnswer
from trunkline.replica.queries import MessageFilter, NumberFilter, Place, Usage

Shown_co = TypeVar("Shown_co", covariant=True)


class AcceptorPort(Protocol):
    """Takes messages on."""

    async def accept(
        self, new: NewMessage, *, key: str | None, deadline: Deadline
    ) -> AcceptAnswer: ...

    async def repeated(
        self, new: NewMessage, *, key: str, deadline: Deadline
    ) -> AcceptAnswer | None:
        """What `accept` would answer to a repeat; `None` if there surely was nothing before."""


class CancellerPort(Protocol):
    """Takes scheduled messages back."""

    async def cancel(self, message: Message, *, deadline: Deadline) -> CancelAnswer: ...


class EraserPort(Protocol):
    """Takes finished messages, or what they said, out of every answer. `None` and `False`: it may be
    done or not, and asking again is safe."""

    async def redact(self, message: Message, *, deadline: Deadline) -> Message | None: ...

    async def delete(self, message: Message, *, deadline: Deadline) -> bool: ...


class NumbersPort(Protocol):
    """Decides who owns a telephone number."""

    async def own(
        self, account: str, settings: NumberOwned, *, is_keyed: bool, deadline: Deadline
    ) -> OwnAnswer: ...

    async def change(
        self, number: Number, edit: Callable[[NumberOwned], NumberOwned], *, deadline: Deadline
    ) -> Number | Missing | Undecidable: ...

    async def release(
        self, number: Number, *, deadline: Deadline
    ) -> Removed | Missing | Undecidable: ...

    async def find_owned(
        self, account: str, phone_number: str, *, deadline: Deadline
    ) -> Number | Unreadable | None:
        """The account's number, by the word of the log where the copy does not show it as that;
        `None` only when it surely is none of the account's."""

    async def was_named(
        self, phone_number: str, sid: str, *, deadline: Deadline
    ) -> bool | Undecidable: ...

    async def catch_up(self, *, deadline: Deadline) -> bool: ...


class RecordsPort(Protocol[Settings, Shown_co]):
    """Makes, changes and deletes records of one kind: see `directory/collection`."""

    async def make(
        self, account: str, settings: Settings, *, is_keyed: bool, deadline: Deadline
    ) -> Shown_co | Spent | Undecidable: ...

    async def change(
        self, account: str, sid: str, edit: Callable[[Settings], Settings], *, deadline: Deadline
    ) -> Shown_co | Missing | Undecidable: ...

    async def delete(
        self, account: str, sid: str, *, deadline: Deadline
    ) -> Removed | Missing | Undecidable: ...

    async def find(self, sid: str, *, deadline: Deadline) -> Shown_co | Unreadable | None: ...


class KnownPort(Protocol):
    """Who may act, as newly as it is known here: see `directory/news`."""

    def account(self, sid: str) -> Account | None: ...

    def key(self, sid: str) -> Key | None: ...

    def version(self) -> bytes:
        """Another one whenever either may be another than before."""


class LookupPort(Protocol):
    """Asks the log itself for a resource that the copy does not have yet."""

    async def message(
        self, account: str, sid: str, *, deadline: Deadline
    ) -> Message | Unreadable | None:
        """None only when every shard said no."""


class MediaPort(Protocol):
    """The bytes of media, and their end."""

    async def content(self, name: str, *, deadline: Deadline) -> bytes | None:
        """The bytes with this SHA-256; `None` if nobody that can be asked has them."""

    async def remove(self, message: Message, media: str, *, deadline: Deadline) -> bool:
        """Whether it is written down that the message's piece `media` is deleted, and shown here."""


class ReplicaPort(Protocol):
    """The reads of `trunkline.replica.queries.Replica`: see there for what they promise."""

    def message(self, sid: str) -> Message | None: ...

    def messages(
        self, account: str, wanted: MessageFilter, *, items_max: int, behind: Place | None = None
    ) -> list[Message]: ...

    def number(self, sid: str) -> Number | None: ...

    def number_by_phone(self, phone_number: str) -> Number | None: ...

    def numbers(
        self, account: str, wanted: NumberFilter, *, items_max: int, behind: Place | None = None
    ) -> list[Number]: ...

    def account(self, sid: str) -> Account | None: ...

    def accounts(
        self,
        owner: str,
        friendly_name: str | None = None,
        status: AccountStatus | None = None,
        *,
        only: str | None = None,
        items_max: int,
        behind: Place | None = None,
    ) -> list[Account]: ...

    def key(self, sid: str) -> Key | None: ...

    def keys(self, account: str, *, items_max: int, behind: Place | None = None) -> list[Key]: ...

    def application(self, sid: str) -> Application | None: ...

    def applications(
        self,
        account: str,
        friendly_name: str | None = None,
        *,
        items_max: int,
        behind: Place | None = None,
    ) -> list[Application]: ...

    def usage(
        self, account: str, first_day: int, last_day: int, *, with_subaccounts: bool = False
    ) -> list[Usage]: ...

    def lag_ms(self) -> float: ...

    def version(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ApiServices:
    """Everything the API is built from. `readiness` names what is not ready; empty means ready.
    The API counts in `registry`; `metrics` renders it with whatever else the host counts. Every
    account began with `opening_balance` millionths. `has_magic_numbers` where the carrier is simulated.
    The bytes of media are given to anybody who knows their URL, unless `media_needs_credentials`. A
    message may be scheduled for `send_at_min_s` seconds ahead and more, while `has_room_for_later`."""

    acceptor: AcceptorPort
    canceller: CancellerPort
    eraser: EraserPort
    numbers: NumbersPort
    applications: RecordsPort[ApplicationMade, Application]
    accounts: RecordsPort[AccountOpened, Account]
    keys: RecordsPort[KeyMade, Key]
    known: KnownPort
    replica: ReplicaPort
    lookup: LookupPort
    media: MediaPort
    clock: Clock
    entropy: Entropy
    registry: CollectorRegistry
    metrics: Callable[[], bytes]
    readiness: Callable[[], list[str]]
    has_room_for_later: Callable[[], bool]
    opening_balance: int = 0
    has_magic_numbers: bool = False
    media_needs_credentials: bool = False
    send_at_min_s: float = 900.0
