"""Asking one log engine who it is, over a connection of its own: is it there, does it take our token,
is it one of ours, does its cluster have a leader for what all shards have in common.

A client library would wait two seconds after a first connection that was refused; this asks once
and says what came of it.
"""

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import Final

from trunkline.host.listen import Address

PROBE_S: Final = 1.0
"""The longest one probe takes; an engine of the same data centre answers in milliseconds."""

_LINE_BYTES_MAX: Final = 64 * 1024
_LINES_MAX: Final = 16
_INBOX: Final = "_INBOX.trunkline-probe"


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing that speaks as an engine answers there."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refuses:
    """An engine is there, and does not take our token."""


@dataclass(frozen=True, slots=True)
class Answers:
    """It takes our token. `cluster` is empty for an engine alone. `has_meta_leader` is None where
    that was not asked."""

    server: str
    cluster: str
    has_meta_leader: bool | None = None


Probed = Silent | Refuses | Answers


async def probe(
    address: Address, token: str, *, tls: ssl.SSLContext | None = None, ask_leader: bool = False
) -> Probed:
    """Never raises for what is or is not there."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection(
                address.host, address.port, ssl=tls, limit=_LINE_BYTES_MAX
            )
            return await _ask(reader, writer, token, ask_leader=ask_leader)
    except ssl.SSLError as error:
        return Silent(f"its TLS is not ours ({error.reason or error})")
    except TimeoutError:
        return Silent("it does not answer")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Silent(reason.lower())
    finally:
        if writer is not None:
            writer.close()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str, *, ask_leader: bool
) -> Probed:
    greeting = await reader.readline()
    if not greeting.startswith(b"INFO "):
        return Silent("what listens there is no log engine, or one that wants TLS")
    facts = json.loads(greeting[5:])
    said = json.dumps({"auth_token": token, "verbose": False, "pedantic": False})
    writer.write(f"CONNECT {said}\r\nPING\r\n".encode())
    if not (await _next(reader)).startswith(b"PONG"):
        return Refuses()
    server, cluster = str(facts.get("server_name", "")), str(facts.get("cluster", ""))
    if not ask_leader:
        return Answers(server, cluster)
    return Answers(server, cluster, has_meta_leader=await _has_meta_leader(reader, writer))


async def _has_meta_leader(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Only the leader answers with facts; the others are silent, or say that there is none."""
    writer.write(f"SUB {_INBOX} 1\r\nPUB $JS.API.INFO {_INBOX} 0\r\n\r\n".encode())
    try:
        async with asyncio.timeout(PROBE_S / 2):
            line = await _next(reader)
            while not line.startswith(b"MSG "):
                line = await _next(reader)
            size = int(line.split()[-1])
            if size > _LINE_BYTES_MAX:
                return False
            answer = json.loads(await reader.readexactly(size))
    except TimeoutError:
        return False
    return isinstance(answer, dict) and "error" not in answer


async def _next(reader: asyncio.StreamReader) -> bytes:
    """The next line that is not about the engine's own doings."""
    for _ in range(_LINES_MAX):
        line = await reader.readline()
        if not line:
            raise OSError("it hung up")
        if not line.startswith((b"INFO ", b"+OK", b"PING", b"HMSG")):
            return line
    raise OSError("it says too much")
