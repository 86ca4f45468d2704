"""A web of media by script, and a carrier that is brought some."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
from tests.unit.log.scripted_log import draft
from tests.unit.messaging.message_bench import Bench

from trunkline.blobs.shared import SharedBlobs
from trunkline.blobs.store import BlobStore
from trunkline.domain.media import Piece
from trunkline.kernel import Deadline
from trunkline.log.append import Appended, ShardHealth, append
from trunkline.messaging.media import Media
from trunkline.messaging.media_fetch import (
    MEDIA_TYPE_UNSUPPORTED,
    Answer,
    Fetched,
    NotFetched,
)
from trunkline.messaging.media_shelf import MediaShelf
from trunkline.messaging.record import EventRecorder

PICTURE = b"\x89PNG and so on"
CAT = "https://media.example/cat.png"
DOG = "https://media.example/dog.png"
GONE = NotFetched(11200, "it answered 404", is_final=True)
SLOW = NotFetched(11200, "no whole answer in time", is_final=False)


class Web:
    """Answers by URL; a picture without. Keeps what it was asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.silent: set[str] = set()
        """URLs that never answer."""
        self.slow: set[str] = set()
        """URLs that take all the time there is."""

    async def fetch(
        self, url: str, *, bytes_max: Callable[[str], int], deadline: Deadline
    ) -> Answer:
        if deadline.has_passed():
            return SLOW
        self.asked.append(url)
        if url in self.slow:
            await deadline.clock.sleep(deadline.remaining_s())
            return SLOW
        if url in self.silent:
            await asyncio.Event().wait()
        answer = self.answers.get(url, Fetched(PICTURE, "image/png"))
        if isinstance(answer, Fetched) and not bytes_max(answer.content_type):
            return NotFetched(MEDIA_TYPE_UNSUPPORTED, answer.content_type, is_final=True)
        return answer


class MediaCarrier:
    """Keeps what it was brought; takes nothing while it is down."""

    def __init__(self) -> None:
        self.brought: list[bytes] = []
        self.is_down = False

    async def bring_media(self, piece: Piece, content: bytes, *, deadline: Deadline) -> bool:
        del piece, deadline
        if not self.is_down:
            self.brought.append(content)
        return not self.is_down


def media_of(bench: Bench, web: Web, folder: Path, host: str) -> Media:
    author = bench.author(host)
    blobs = SharedBlobs(BlobStore(folder), None, author.entropy)
    recorder = EventRecorder(bench.log, author=author)
    return Media(web, MediaShelf(blobs, recorder, bench.known.get, bench.clock))


async def put_with_media(
    bench: Bench, digits: str, *urls: str, validity_s: int = 36_000
) -> Appended:
    """An accepted message with these media."""
    plain = draft(digits)
    body = msgspec.structs.replace(
        plain.body, sid="MM" + digits, media_urls=urls, validity_s=validity_s
    )
    accepted = msgspec.structs.replace(plain, sid="MM" + digits, body=body)
    walking = append(
        bench.log, accepted, author=bench.author("api"), health=ShardHealth(bench.clock)
    )
    appended = await bench.within_time(walking)
    assert isinstance(appended, Appended)
    return appended
