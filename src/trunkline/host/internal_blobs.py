"""What a host answers another about blobs: gives one, takes one. Who asks is known by then."""

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Scope

from trunkline.blobs.store import BlobStore, name_of
from trunkline.domain.media import BYTES_MAX, SHA256
from trunkline.domain.ports import Entropy
from trunkline.host.peers import PREFIX
from trunkline.kernel import Deadline

BLOBS: Final = f"{PREFIX}blob/"

_NONCE_BYTES: Final = 8

Answer = tuple[int, bytes]
"""A status, and the bytes or the reason."""


@dataclass(frozen=True, slots=True)
class HostBlobs:
    """This host's blobs, for the others. `answer` raises `OSError` where the disk fails."""

    store: BlobStore
    entropy: Entropy

    async def answer(self, scope: Scope, receive: Receive, deadline: Deadline) -> Answer:
        name = str(scope["path"]).removeprefix(BLOBS)
        if not SHA256.match(name):
            return 404, b"a blob is named by its SHA-256"
        match scope["method"]:
            case "GET":
                found = await asyncio.to_thread(self.store.get, name)
                return (404, b"it is not here") if found is None else (200, found)
            case "PUT":
                return await self._take(name, receive, deadline)
            case _:
                return 405, b"a blob is given by GET and taken by PUT"

    async def _take(self, name: str, receive: Receive, deadline: Deadline) -> Answer:
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                content = await _body(receive)
        except TimeoutError:
            return 408, b"it did not come in time"
        if content is None or name_of(content) != name:
            return 400, b"these are not the bytes of that name"
        nonce = self.entropy(_NONCE_BYTES).hex()
        await asyncio.to_thread(self.store.put, content, nonce=nonce)
        return 200, b""


async def _body(receive: Receive) -> bytes | None:
    """All that comes; `None` if it is cut off, or more than may be."""
    body = bytearray()
    is_more = True
    while is_more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > BYTES_MAX:
            return None
        is_more = message.get("more_body", False)
    return bytes(body)
