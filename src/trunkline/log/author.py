"""Who writes events: this host, by its clock, with ids nobody else gives."""

from dataclasses import dataclass

from trunkline.domain.events import Body, Kind, Type
from trunkline.domain.ports import Entropy
from trunkline.kernel import Clock
from trunkline.log.event import Event, encode_body

EVENT_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class Author:
    """One process's pen."""

    host: str
    clock: Clock
    entropy: Entropy

    def new_id(self) -> str:
        return self.entropy(EVENT_ID_BYTES).hex()

    def event(self, kind: Kind, type_: Type, account: str, sid: str, body: Body) -> Event:
        """An event that happens now, for a chain or for what may arrive in any order."""
        return Event(
            id=self.new_id(),
            kind=kind,
            type=type_,
            sid=sid,
            account=account,
            at=self.clock.wall(),
            by_host=self.host,
            data=encode_body(body),
        )
