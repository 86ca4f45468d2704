"""The streams of the shards as they must be, made where they are missing.

Where there are several servers, each host does this when it starts, perhaps all at the same moment:
who makes a stream that another one has just made finds it standing. A stream without a leader is
silent and is waited for. That it is missing must be said by the servers, and more than once: just
after they have begun they may not have read all that they know.
"""

from typing import Final

import msgspec
import structlog

from trunkline.kernel import Clock, Deadline
from trunkline.log.engines.jetstream import api
from trunkline.log.engines.jetstream.consume import ADMIN_TIMEOUT_S
from trunkline.log.engines.jetstream.requests import NotReceived, Requests, Unanswered
from trunkline.log.interface import LogUnavailable, ShardMissing

log: Final = structlog.get_logger(__name__)

LEADERS_WAIT_S: Final = 30.0
"""Servers that start together take some seconds to agree who leads what."""

MISSING_FOR_S: Final = 3.0
"""So long, several servers must say of a shard of a log in use that they know nothing of it."""
AGAIN_S: Final = 0.25


class StreamKeeper:
    """Asks about streams, and makes them. `what` names one for a person, as in "shard 3"."""

    def __init__(self, requests: Requests, clock: Clock) -> None:
        self._requests = requests
        self._clock = clock
        self._timeout_s = LEADERS_WAIT_S if requests.has_others else ADMIN_TIMEOUT_S

    async def look(self, stream: str, what: str) -> api.StreamAnswer:
        """What stands, or that it is missing. Raises `LogUnavailable`."""
        deadline = self._deadline()
        while True:
            found = await self._ask("INFO", stream, what)
            if found.error is None or is_missing(found):
                return found
            await self._bear_with(found.error, f"cannot ask about {what}", deadline)

    async def is_surely_missing(self, stream: str, what: str) -> bool:
        """Whether the servers keep saying so. Raises `LogUnavailable`."""
        deadline = Deadline.after(MISSING_FOR_S if self._requests.has_others else 0.0, self._clock)
        while is_missing(await self.look(stream, what)):
            if deadline.has_passed():
                return True
            await self._clock.sleep(AGAIN_S)
        return False

    async def make(self, stream: str, config: bytes, what: str) -> api.StreamAnswer:
        """What stands then, also if another host was quicker. Raises `LogUnavailable`."""
        deadline = self._deadline()
        while True:
            made = await self._ask("CREATE", stream, what, config)
            if made.error is not None and made.error.err_code == api.STREAM_NAME_TAKEN:
                # By another host, whose disk is of another size. It may not stand yet.
                made = await self._ask("INFO", stream, what)
            if made.error is None:
                return made
            await self._bear_with(made.error, f"cannot make {what}", deadline)

    async def change(self, stream: str, config: bytes, what: str) -> api.StreamAnswer:
        """What the servers say to another configuration. Raises `LogUnavailable`."""
        return await self._ask("UPDATE", stream, what, config)

    def _deadline(self) -> Deadline:
        return Deadline.after(self._timeout_s if self._requests.has_others else 0.0, self._clock)

    async def _bear_with(self, error: api.ApiError, failure: str, deadline: Deadline) -> None:
        """Servers that have just begun do not know one another yet, and refuse what they will take
        a moment later. Raises `LogUnavailable` when that has lasted too long."""
        if deadline.has_passed():
            api.raise_for(error, failure)
        await self._clock.sleep(AGAIN_S)

    async def _ask(
        self, verb: str, stream: str, what: str, question: bytes = b""
    ) -> api.StreamAnswer:
        subject = f"$JS.API.STREAM.{verb}.{stream}"
        reply = await self._requests.ask(subject, question, timeout_s=self._timeout_s)
        if isinstance(reply, NotReceived | Unanswered):
            raise LogUnavailable(f"{what} cannot be asked: {reply.reason}")
        return msgspec.json.decode(reply, type=api.StreamAnswer)


def is_missing(answer: api.StreamAnswer) -> bool:
    return answer.error is not None and answer.error.err_code == api.STREAM_NOT_FOUND


async def ensure_shard(
    keeper: StreamKeeper, shard: int, config: api.StreamConfig, *, is_born: bool
) -> int:
    """Make the shard where it is missing; raise its bound, but never lower it: a stream that is
    larger than its bound may lose its oldest messages. Gives the bound, in bytes. Raises
    `LogUnavailable`, also where the shard of a log that `is_born` is missing."""
    what = f"shard {shard}"
    info = await keeper.look(config.name, what)
    if is_missing(info):
        if is_born and await keeper.is_surely_missing(config.name, what):
            raise ShardMissing(
                f"{what} is missing from the log, and with it what was accepted into it"
            )
        info = await keeper.make(config.name, api.encode(config), what)
    standing = info.config or api.Bounds(config.max_bytes, config.num_replicas)
    note_replicas(config.name, standing.num_replicas, config.num_replicas)
    if standing.max_bytes >= config.max_bytes:
        return standing.max_bytes
    # Only the bound: to add replicas is for a person to decide, at a time of their choice.
    larger = msgspec.structs.replace(config, num_replicas=standing.num_replicas)
    changed = await keeper.change(config.name, api.encode(larger), what)
    if changed.error is not None:
        log.warning(
            "log.bound_kept",
            shard=shard,
            bytes=standing.max_bytes,
            reason=changed.error.description,
        )
        return standing.max_bytes
    return config.max_bytes


def note_replicas(stream: str, replicas: int, wanted: int) -> None:
    """Say so where a stream stands on fewer servers than it should."""
    if replicas < wanted:
        log.error("log.fewer_replicas", stream=stream, replicas=replicas, wanted=wanted)
