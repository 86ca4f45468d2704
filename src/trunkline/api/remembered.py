"""Reads of the host's copy that are remembered for as long as the copy stands still.

Every request reads who is asking, and every create whose number it sends from. Both change once in
weeks, and the copy moves some tens of times a second. So what was read is kept until the copy's
version moves: a token that was changed is refused from the moment the copy shows the change, or it is
heard from the host that made it (`directory/news`), as if nothing were remembered.
"""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from trunkline.api.services import ReplicaPort
from trunkline.domain.number import Number
from trunkline.kernel import Clock

REMEMBERED_MAX: Final = 4096
"""Different keys between two versions; beyond it everything is read again."""
REMEMBERED_MAX_S: Final = 1.0
"""The version is what the projector says it wrote. One that died between a write and its word would
leave the version standing, and a token that was changed in that write alive, until it is back."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """`read`, and what it gave since the version last moved. What is not there is not remembered:
    it may be asked for under any name. `read` may raise."""

    __slots__ = ("_clock", "_read", "_since", "_values", "_version", "_version_of")

    def __init__(
        self, read: Callable[[Key], Value | None], version: Callable[[], bytes], clock: Clock
    ) -> None:
        self._read = read
        self._version_of = version
        self._clock = clock
        self._version = b""
        self._since = 0.0
        self._values: dict[Key, Value] = {}

    def __call__(self, key: Key) -> Value | None:
        # The version is looked at before the reading: what is read may be newer than it, not older.
        version = self._version_of()
        now = self._clock.monotonic()
        if version != self._version or now - self._since >= REMEMBERED_MAX_S:
            self._values.clear()
            self._version, self._since = version, now
        value = self._values.get(key)
        if value is None:
            value = self._read(key)
            if value is not None and len(self._values) < REMEMBERED_MAX:
                self._values[key] = value
        return value


class RememberingReplica:
    """A `ReplicaPort` that remembers whose a phone number is, and passes everything else on."""

    def __init__(self, replica: ReplicaPort, clock: Clock) -> None:
        self.message = replica.message
        self.messages = replica.messages
        self.number = replica.number
        self.numbers = replica.numbers
        self.account = replica.account
        self.accounts = replica.accounts
        self.key = replica.key
        self.keys = replica.keys
        self.application = replica.application
        self.applications = replica.applications
        self.usage = replica.usage
        self.lag_ms = replica.lag_ms
        self.version = replica.version
        self.number_by_phone: Remembered[str, Number] = Remembered(
            replica.number_by_phone, replica.version, clock
        )
