"""Media of the simulator: what hosts brought for their messages, and what handsets send.

The bytes lie in files named by their SHA-256, beside the file of lines. A handset's media have URLs
here, as a carrier gives them, and hosts fetch them from there.
"""

import asyncio
import secrets
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trunkline.blobs.store import BlobStore, name_of
from trunkline.domain.media import BYTES_MAX, SHA256, bare_type, is_sendable
from trunkline.protocols.simulated import MEDIA_PATH, Media
from trunkline.simulator.bodies import BadRequest, json_response, read_body

KEPT_S: Final = 31 * 86_400.0
"""Media that nobody brought or sent for a month are removed at the next start."""

_UNTYPED: Final = "application/octet-stream"
_HEADERS: Final = {
    "Cache-Control": "max-age=3600",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox",
}


def media_url(media: Media) -> str:
    """Where the simulator shows it: a path of its own."""
    return f"{MEDIA_PATH}/{media.sha256}?type={quote(media.content_type, safe='')}"


def media_routes(store: BlobStore) -> list[Route]:
    async def put(content: bytes) -> str:
        return await asyncio.to_thread(store.put, content, nonce=secrets.token_hex(8))

    async def upload(request: Request) -> Response:
        """A host says with `sha256` what it brings; a handset says with Content-Type."""
        content = await read_body(request, BYTES_MAX)
        expected = request.query_params.get("sha256")
        if expected is not None:
            if name_of(content) != expected:
                raise BadRequest("the bytes are not those of that sha256", field="sha256")
            return json_response({"sha256": await put(content)})
        content_type = bare_type(request.headers.get("content-type", ""))
        if not is_sendable(content_type):
            raise BadRequest(
                "say with Content-Type what it is: image/png, audio/mpeg, text/vcard or the like",
                field="content-type",
                status=415,
            )
        name = await put(content)
        path = media_url(Media(sha256=name, content_type=content_type))
        url = f"{str(request.base_url).rstrip('/')}{path}"
        return json_response({"url": url, "sha256": name}, 201)

    async def show(request: Request) -> Response:
        name: str = request.path_params["sha256"]
        content_type = request.query_params.get("type", "")
        found = await asyncio.to_thread(store.get, name) if SHA256.match(name) else None
        if found is None:
            raise BadRequest("there are no such media", status=404)
        kind = content_type if is_sendable(content_type) else _UNTYPED
        return Response(found, headers={**_HEADERS, "Content-Type": kind})

    return [
        Route(MEDIA_PATH, upload, methods=["POST"]),
        Route(f"{MEDIA_PATH}/{{sha256}}", show, methods=["GET"]),
    ]
