"""What the API needs of the rest of the host: ports, and the one bundle they are handed down in.

A read comes from the host's copy and may lag; what must be certain goes through a port that says
when it is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry

from trunkline.directory.numbers import OwnAnswer
from trunkline.domain.account import Account
from trunkline.domain.events import NumberOwned
from trunkline.domain.message import Message
from trunkline.domain.number import Number
from trunkline.domain.ports import Entropy
from trunkline.kernel import Clock, Deadline
from trunkline.log.interface import Unreadable
from trunkline.messaging.accept import AcceptAnswer, NewMessage
from trunkline.messaging.cancel import CancelAnswer
from trunkline.replica.queries import MessageFilter, NumberFilter, Place


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

    async def redact(self, message: Message) -> Message | None: ...

    async def delete(self, message: Message) -> bool: ...


class NumbersPort(Protocol):
    """Decides who owns a telephone number."""

    async def own(
        self, account: str, settings: NumberOwned, *, deadline: Deadline
    ) -> OwnAnswer: ...


class LookupPort(Protocol):
    """Asks the log itself for a resource that the copy does not have yet."""

    async def message(
        self, account: str, sid: str, *, deadline: Deadline
    ) -> Message | Unreadable | None:
        """None only when every shard said no."""


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

    def lag_ms(self) -> float: ...

    def version(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ApiServices:
    """Everything the API is built from. `readiness` names what is not ready; empty means ready.
    The API counts in `registry`; `metrics` renders it with whatever else the host counts. A message
    may be scheduled for `send_at_min_s` seconds ahead and more, while `has_room_for_later`."""

    acceptor: AcceptorPort
    canceller: CancellerPort
    eraser: EraserPort
    numbers: NumbersPort
    replica: ReplicaPort
    lookup: LookupPort
    clock: Clock
    entropy: Entropy
    registry: CollectorRegistry
    metrics: Callable[[], bytes]
    readiness: Callable[[], list[str]]
    has_room_for_later: Callable[[], bool]
    send_at_min_s: float = 900.0
