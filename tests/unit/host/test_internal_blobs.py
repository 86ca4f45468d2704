"""What hosts ask each other about blobs: only whole ones, only under their own names."""

import os
from pathlib import Path

import pytest
from starlette.types import Message, Scope

from trunkline.blobs.store import BlobStore, name_of
from trunkline.domain.media import BYTES_MAX
from trunkline.host.internal_blobs import BLOBS, Answer, HostBlobs
from trunkline.kernel import Deadline, FakeClock

pytestmark = pytest.mark.anyio

PICTURE = b"\x89PNG and so on"


@pytest.fixture
def blobs(tmp_path: Path) -> HostBlobs:
    return HostBlobs(BlobStore(tmp_path / "blobs"), os.urandom)


async def ask(
    blobs: HostBlobs, method: str, name: str, *pieces: bytes, cut: bool = False
) -> Answer:
    """One request; with `cut` the other host is gone before its end."""
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": cut or number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    scope: Scope = {"method": method, "path": f"{BLOBS}{name}"}
    return await blobs.answer(scope, receive, Deadline.after(5.0, FakeClock()))


async def test_what_is_brought_is_given(blobs: HostBlobs) -> None:
    name = name_of(PICTURE)
    assert await ask(blobs, "GET", name) == (404, b"it is not here")

    assert await ask(blobs, "PUT", name, PICTURE[:5], PICTURE[5:]) == (200, b"")

    assert await ask(blobs, "GET", name) == (200, PICTURE)


@pytest.mark.parametrize("name", ["", "../../format.json", "0" * 63, "G" * 64])
async def test_what_is_no_name_is_not_looked_for(blobs: HostBlobs, name: str) -> None:
    for method in ("GET", "PUT"):
        assert (await ask(blobs, method, name, PICTURE))[0] == 404
    assert blobs.store.size() == (0, 0)


async def test_other_bytes_than_the_name_says_are_refused(blobs: HostBlobs) -> None:
    assert (await ask(blobs, "PUT", "0" * 64, PICTURE))[0] == 400
    assert (await ask(blobs, "PUT", name_of(PICTURE), PICTURE, cut=True))[0] == 400
    large = b"x" * (BYTES_MAX + 1)
    assert (await ask(blobs, "PUT", name_of(large), large))[0] == 400
    assert blobs.store.size() == (0, 0)


async def test_no_other_method_is_known(blobs: HostBlobs) -> None:
    assert (await ask(blobs, "DELETE", name_of(PICTURE)))[0] == 405
