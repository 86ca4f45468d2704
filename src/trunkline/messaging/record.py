"""Recording what may arrive in any order: an event goes to any shard that takes it.

Two copies of one event fold into one, so a try whose answer was lost is simply made elsewhere.
"""

from collections.abc import Sequence

from trunkline.domain.events import Body, Kind, Type
from trunkline.domain.sid import digits_of
from trunkline.kernel import Deadline
from trunkline.log.author import Author
from trunkline.log.event import Event, changed_subject, encode_all
from trunkline.log.interface import Accepted, Log
from trunkline.log.limits import RETRY_PAUSE_S, TRY_TIMEOUT_S
from trunkline.log.shards import order

RECORD_DEADLINE_S = 10.0


class EventRecorder:
    """Appends later events of resources."""

    def __init__(self, log: Log, *, author: Author) -> None:
        self._log = log
        self._author = author

    async def record(
        self,
        kind: Kind,
        type_: Type,
        account: str,
        sid: str,
        body: Body,
        *,
        deadline: Deadline | None = None,
    ) -> bool:
        """Whether the event is stored; False after the deadline, and then it may be."""
        event = self._author.event(kind, type_, account, sid, body)
        return await self.store([event], deadline=deadline) is not None

    async def record_all(self, events: Sequence[Event], *, home: int | None = None) -> bool:
        """The same for several events at once, of one kind: in one flush, and in one place. That is
        `home` if it takes them, or where the first of them would stand."""
        return await self.store(events, home=home) is not None

    async def store(
        self, events: Sequence[Event], *, home: int | None = None, deadline: Deadline | None = None
    ) -> tuple[int, int] | None:
        """The same, and where they stand: shard and sequence. `deadline` is for whom somebody waits:
        without it, and at most, it takes `RECORD_DEADLINE_S`."""
        first = events[0]
        payload = encode_all(events)
        shards = order(digits_of(first.sid), self._log.shards)
        if home is not None:
            shards = (home, *(shard for shard in shards if shard != home))
        max_s = RECORD_DEADLINE_S
        if deadline is not None:
            max_s = min(max_s, deadline.remaining_s())
        until = Deadline.after(max_s, self._author.clock)
        while not until.has_passed():
            for shard in shards:
                timeout_s = min(TRY_TIMEOUT_S, until.remaining_s())
                if timeout_s <= 0.0:
                    return None
                subject = changed_subject(shard, first.kind, first.account)
                answer = await self._log.publish(
                    shard, subject, payload, expected=None, timeout_s=timeout_s
                )
                if isinstance(answer, Accepted):
                    return shard, answer.sequence
            await self._author.clock.sleep(min(RETRY_PAUSE_S, until.remaining_s()))
        return None
