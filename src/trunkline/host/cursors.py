"""How far the copy of every host is, so that the log is trimmed only behind all of them.

Each host says it every few seconds. One that is away holds trimming up where it was last heard, and
one that was never heard holds up everything: it may need all of the log.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from trunkline.host.members import Members
from trunkline.kernel import Clock
from trunkline.log.interface import Bus

SUBJECT: Final = "cursors"
SAID_EVERY_S: Final = 5.0


class Cursors(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`floors` has for each shard the sequence up to which the host's copy, and each snapshot that it
    keeps, holds everything, and up to which it knows the services to be through."""

    v: int = 1
    host: str
    floors: tuple[int, ...]


_DECODER: Final = msgspec.json.Decoder(Cursors)


class CursorExchange:
    """Use as a support: `run` until cancelled. `own` gives this host's floors."""

    name = "cursors"

    def __init__(
        self,
        bus: Bus,
        members: Members,
        *,
        shards: int,
        own: Callable[[], Sequence[int]],
        clock: Clock,
    ) -> None:
        self._bus = bus
        self._members = members
        self._shards = shards
        self._own = own
        self._clock = clock
        self._heard: dict[str, Sequence[int]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        stop_listening = self._bus.subscribe(f"{SUBJECT}.*", self._on_message)
        try:
            while True:
                said = Cursors(host=self._members.own, floors=tuple(self._own()))
                self._bus.send(f"{SUBJECT}.{said.host}", msgspec.json.encode(said))
                await self._clock.sleep(SAID_EVERY_S)
        finally:
            stop_listening()

    def floors(self, shard: int) -> Mapping[str, int]:
        """For every other member by name how far it is; 0 for one that has not said it."""
        return {
            f"copy of {host}": self._heard[host][shard] if host in self._heard else 0
            for host in self._members.hosts
            if host != self._members.own
        }

    def _on_message(self, subject: str, payload: bytes) -> None:
        try:
            said = _DECODER.decode(payload)
        except msgspec.MsgspecError:
            return
        is_whole = len(said.floors) == self._shards and subject == f"{SUBJECT}.{said.host}"
        if is_whole and said.host in self._members.hosts:
            # A host that lost its disk says less than before, and that is what counts.
            self._heard[said.host] = said.floors
