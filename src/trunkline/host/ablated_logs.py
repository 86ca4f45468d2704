"""Logs with one habit left out, for the drills that show what it is there for. See `host/ablations`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from trunkline.domain.events import Kind, Type
from trunkline.kernel import Clock
from trunkline.log.event import UnreadableEvent, decode_all
from trunkline.log.interface import (
    Accepted,
    Exists,
    Follower,
    Log,
    PublishAnswer,
    RetainedLog,
    Stored,
)
from trunkline.log.limits import ANSWER_MAX_S, RETRY_PAUSE_S, TRY_TIMEOUT_S
from trunkline.log.marker import marker_subject

_MESSAGES: Final = frozenset({Kind.MESSAGE.value, Kind.INBOUND.value})


class _Changed:
    """The log behind it, but for what a subclass does otherwise."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


class Unfenced(_Changed):
    """Says that a tombstone stands, and stores none."""

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        if _is_tombstone(payload):
            return Accepted(1)
        return await self._log.publish(
            shard, subject, payload, expected=expected, timeout_s=timeout_s
        )


class Undiverted(_Changed):
    """Has each publish wait for its own shard, as long as a create may be waited for at all: asked
    again and again in short tries, so that nothing but the shard's leader is waited for."""

    def __init__(self, log: Log, clock: Clock) -> None:
        super().__init__(log)
        self._clock = clock

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        until = self._clock.monotonic() + ANSWER_MAX_S
        is_repeat = False
        while True:
            answer = await self._log.publish(
                shard, subject, payload, expected=expected, timeout_s=timeout_s
            )
            if isinstance(answer, Exists) and is_repeat:
                return await self._own(shard, subject, payload) or answer
            if isinstance(answer, Accepted | Exists) or self._clock.monotonic() >= until:
                return answer
            is_repeat = True
            await self._clock.sleep(RETRY_PAUSE_S)

    async def _own(self, shard: int, subject: str, payload: bytes) -> Accepted | None:
        """An earlier try that landed after all."""
        standing = await self._log.read_first(shard, subject, timeout_s=TRY_TIMEOUT_S)
        if isinstance(standing, Stored) and standing.payload == payload:
            return Accepted(standing.sequence)
        return None


class Unhurried(_Changed):
    """Waits for every answer as long as a create may be waited for at all."""

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        del timeout_s
        return await self._log.publish(
            shard, subject, payload, expected=expected, timeout_s=ANSWER_MAX_S
        )


class Forgetful(_Changed):
    """Gives to who follows it none of the messages that were stored before `since`, a wall time."""

    def __init__(self, log: RetainedLog, since: float) -> None:
        super().__init__(log)
        self._since = since

    async def follower(self, shard: int, *, after: int) -> Follower:
        return _ForgetfulFollower(await self._log.follower(shard, after=after), self._since)


class _ForgetfulFollower:
    def __init__(self, inner: Follower, since: float) -> None:
        self._inner = inner
        self._since = since

    @property
    def is_at_end(self) -> bool:
        return self._inner.is_at_end

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[Stored]:
        return [self._seen(each) for each in await self._inner.fetch(items_max, wait_s)]

    async def close(self) -> None:
        await self._inner.close()

    def _seen(self, stored: Stored) -> Stored:
        """A marker in the place of a message from before, so that the sequence goes on."""
        is_message = stored.subject.split(".")[2] in _MESSAGES
        if stored.at >= self._since or not is_message:
            return stored
        return replace(stored, subject=marker_subject(stored.shard))


def _is_tombstone(payload: bytes) -> bool:
    try:
        return decode_all(payload)[0].type is Type.TOMBSTONE
    except UnreadableEvent:
        return False
