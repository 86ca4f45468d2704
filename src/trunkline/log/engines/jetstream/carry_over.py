"""Carrying a whole log from an engine alone into a cluster of engines that has none yet.

Events go as the engine's own snapshots: sequences, times, and what each service has answered stay as
they were, so fences, cursors and copies go on where they stood. Timers are written again, because a
schedule that comes out of a snapshot never fires (tried on 2.15.1). A last stream says that all is
there: nobody may use the log before.
"""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import msgspec

from trunkline.log.engines.jetstream import api, timers
from trunkline.log.engines.jetstream.connection import Connection
from trunkline.log.interface import LogUnavailable
from trunkline.log.shards import SHARDS
from trunkline.log.timers import TIMER_SHARDS
from trunkline.protocols import nats

ASK_S: Final = 5.0
CHUNK_S: Final = 30.0
"""A chunk is flushed by the one who takes it; the last one waits for a whole shard to be opened."""
CHUNK_BYTES: Final = 128 * 1024
CHUNKS_MAX: Final = 1024
"""The engine sends 8 MiB ahead at the most, and this many chunks are far more."""
SNAPSHOT_END: Final = 204
COMPLETE: Final = "CARRIED_OVER"

_WAITING: Final = ".waiting."


class LogExists(Exception):
    """The cluster has a shard of its own already, and it is not the one that is carried over."""


class Asker:
    """Questions over a connection of its own; `connection.run` is somebody else's task."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        self._prefix = f"_INBOX.{name}"
        self._numbers = itertools.count(1)

    def new_inbox(self) -> str:
        return f"{self._prefix}.{next(self._numbers)}"

    async def ask(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        header_block: bytes = b"",
        within_s: float = ASK_S,
    ) -> bytes:
        """Raises `LogUnavailable` without an answer."""
        inbox = self.new_inbox()
        answer: asyncio.Future[nats.Message] = asyncio.get_running_loop().create_future()
        sid = self.connection.subscribe(
            inbox, lambda message: None if answer.done() else answer.set_result(message)
        )
        try:
            said = nats.publish(subject, payload, reply=inbox, header_block=header_block)
            if not self.connection.write(said):
                raise LogUnavailable("not connected to the log server")
            async with asyncio.timeout(within_s):
                message = await answer
        except TimeoutError:
            raise LogUnavailable(f"{subject} was not answered in {within_s:g} s") from None
        finally:
            self.connection.unsubscribe(sid)
        if message.status:
            raise LogUnavailable(f"{subject} was answered {message.status}")
        return message.payload

    async def ask_api(self, what: str, question: Any = None, *, within_s: float = ASK_S) -> Any:
        """The answer of the JetStream API, with its `error` where it has one."""
        payload = b"" if question is None else msgspec.json.encode(question)
        return msgspec.json.decode(await self.ask(f"$JS.API.{what}", payload, within_s=within_s))

    async def state(self, stream: str) -> Any:
        """Of a stream; None where there is none."""
        answer = await self.ask_api(f"STREAM.INFO.{stream}")
        if answer.get("error", {}).get("err_code") == api.STREAM_NOT_FOUND:
            return None
        _raise_for(answer, f"cannot ask about {stream}")
        return answer["state"]


async def is_complete(target: Asker) -> bool:
    """Whether a log was carried over into this cluster, to its end."""
    return await target.state(COMPLETE) is not None


class Begun(Protocol):
    """Which streams an earlier try began, over crashes too: what is half there is ours then, and
    nobody has used it, because the log was never complete."""

    def has(self, stream: str) -> bool: ...

    def note(self, stream: str) -> None: ...


async def carry_over(source: Asker, target: Asker, *, replicas: int, begun: Begun) -> None:
    """Carry everything; a repeat goes on where the last one ended. Raises `LogUnavailable`, or
    `LogExists`, and then the log is not complete."""
    for shard in range(TIMER_SHARDS):
        await _carry_timers(source, target, shard, replicas)
    for shard in range(SHARDS):
        await _carry_events(source, target, api.stream_name(shard), replicas, begun)
    made = await target.ask_api(
        f"STREAM.CREATE.{COMPLETE}",
        {"name": COMPLETE, "subjects": [], "num_replicas": replicas, "storage": "file"},
    )
    _raise_for(made, "cannot say that all is there")


async def _carry_events(
    source: Asker, target: Asker, stream: str, replicas: int, begun: Begun
) -> None:
    there, here = await target.state(stream), await source.state(stream)
    if here is None:
        raise LogUnavailable(f"{stream} is missing from the log that is carried over")
    if there is not None:
        if (there["first_seq"], there["last_seq"]) == (here["first_seq"], here["last_seq"]):
            return
        if not begun.has(stream):
            raise LogExists(stream)
        _raise_for(await target.ask_api(f"STREAM.DELETE.{stream}"), f"cannot begin {stream} anew")
    begun.note(stream)
    inbox = source.new_inbox()
    chunks: asyncio.Queue[nats.Message] = asyncio.Queue(maxsize=CHUNKS_MAX)
    sid = source.connection.subscribe(inbox, chunks.put_nowait)
    try:
        snapshot = await source.ask_api(
            f"STREAM.SNAPSHOT.{stream}", {"deliver_subject": inbox, "chunk_size": CHUNK_BYTES}
        )
        _raise_for(snapshot, f"cannot read {stream}")
        config = {**snapshot["config"], "num_replicas": replicas}
        taking = await target.ask_api(
            f"STREAM.RESTORE.{stream}", {"config": config, "state": snapshot["state"]}
        )
        _raise_for(taking, f"cannot write {stream}")
        async for chunk in _chunks(source, chunks):
            await target.ask(taking["deliver_subject"], chunk, within_s=CHUNK_S)
        last = await target.ask(taking["deliver_subject"], within_s=CHUNK_S)
        _raise_for(msgspec.json.decode(last), f"cannot write {stream}")
    finally:
        source.connection.unsubscribe(sid)


async def _chunks(source: Asker, arriving: "asyncio.Queue[nats.Message]") -> AsyncIterator[bytes]:
    """Each chunk, acknowledged once it was taken, so that no more than a window is under way."""
    while True:
        try:
            async with asyncio.timeout(CHUNK_S):
                message = await arriving.get()
        except TimeoutError:
            raise LogUnavailable("the snapshot stopped in the middle") from None
        if not message.payload:
            if message.status and message.status != SNAPSHOT_END:
                raise LogUnavailable(f"the snapshot failed: {message.description}")
            return
        yield message.payload
        if message.reply:
            source.connection.write(nats.publish(message.reply, b""))


async def _carry_timers(source: Asker, target: Asker, shard: int, replicas: int) -> None:
    """What waits with its schedule; what is due already as what it has become."""
    stream = timers.stream_name(shard)
    made = msgspec.json.decode(
        await target.ask(
            f"$JS.API.STREAM.CREATE.{stream}", timers.stream_config(shard, replicas), within_s=ASK_S
        )
    )
    _raise_for(made, f"cannot make {stream}")
    if await source.state(stream) is None:
        return  # a log born before there were timers has none
    sequence = 0
    while True:
        found = await source.ask_api(
            f"STREAM.MSG.GET.{stream}", {"seq": sequence + 1, "next_by_subj": ">"}
        )
        if found.get("error", {}).get("err_code") == api.NO_MESSAGE:
            return
        _raise_for(found, f"cannot read {stream}")
        message = found["message"]
        sequence, subject = int(message["seq"]), str(message["subject"])
        block = base64.b64decode(message.get("hdrs", "")) if _WAITING in subject else b""
        payload = base64.b64decode(message.get("data", ""))
        stored = await target.ask(subject, payload, header_block=block)
        _raise_for(msgspec.json.decode(stored), f"cannot write {stream}")


def _raise_for(answer: Any, what: str) -> None:
    error = answer.get("error")
    if error is not None:
        raise LogUnavailable(f"{what}: {error.get('description')} ({error.get('err_code')})")
