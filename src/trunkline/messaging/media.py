"""A message's media on their way in: fetched, kept as blobs, and written down as kept.

Fetching is work on a message that is already safe in the log, between its fence and what is done
with it: so no create waits for anybody's web server, and whoever takes over from a host that dies
fetches again. What is written down names bytes that two hosts have.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from trunkline.domain.media import BYTES_MAX, Piece, is_sendable, media_sid
from trunkline.kernel import Deadline
from trunkline.log.event import Event
from trunkline.messaging.media_fetch import MEDIA_TOO_LARGE, Answer, Fetched, NotFetched
from trunkline.messaging.media_shelf import MediaShelf

OTHER_BYTES_MAX: Final = 500 * 1024
"""Of a piece that is no picture of a common kind (Twilio documentation, "Accepted Content Types for
Media")."""
TOGETHER_TOO_LARGE: Final = f"the media have more than {BYTES_MAX} bytes together"
UNKNOWN_TYPE: Final = "application/octet-stream"

_PICTURES: Final = frozenset({"image/jpeg", "image/png", "image/gif"})


@dataclass(frozen=True, slots=True)
class Lost:
    """A piece that cannot be had, and why."""

    index: int
    why: NotFetched


@dataclass(frozen=True, slots=True)
class Got:
    """What became of all pieces of a message; those that are kept are not written down yet."""

    pieces: tuple[Piece, ...]
    lost: tuple[Lost, ...]


@dataclass(frozen=True, slots=True)
class NotKept:
    """The pieces cannot be kept just now: this host's disk, or the other hosts, do not take them."""


class Fetches(Protocol):
    """What fetches: see `media_fetch.MediaFetcher`."""

    async def fetch(
        self, url: str, *, bytes_max: Callable[[str], int], deadline: Deadline
    ) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Media:
    """Brings the media of messages in, for one process."""

    fetcher: Fetches
    shelf: MediaShelf

    async def get(
        self,
        event: Event,
        urls: Sequence[str],
        *,
        bytes_max: Callable[[str], int],
        deadline: Deadline,
    ) -> Got | NotKept:
        """Fetch the media of the original `event`, one after the other, and keep what comes: 5 MiB
        in all. `bytes_max` is as for `MediaFetcher.fetch`."""
        pieces: list[Piece] = []
        lost: list[Lost] = []
        left = BYTES_MAX
        for index, url in enumerate(urls):
            within = functools.partial(_within, left, bytes_max)
            answer = await self.fetcher.fetch(url, bytes_max=within, deadline=deadline)
            match answer:
                case NotFetched():
                    lost.append(Lost(index, answer))
                case Fetched(content=content, content_type=content_type):
                    name = await self.shelf.blobs.keep(content, deadline=deadline)
                    if name is None:
                        return NotKept()
                    left -= len(content)
                    if left < 0:
                        too_large = NotFetched(MEDIA_TOO_LARGE, TOGETHER_TOO_LARGE, is_final=True)
                        lost.append(Lost(index, too_large))
                        continue
                    pieces.append(
                        Piece(
                            sid=media_sid(event.id, index),
                            index=index,
                            sha256=name,
                            content_type=content_type
                            if is_sendable(content_type)
                            else UNKNOWN_TYPE,
                            size_bytes=len(content),
                        )
                    )
        return Got(tuple(pieces), tuple(lost))


def _within(left: int, bytes_max: Callable[[str], int], content_type: str) -> int:
    """How many bytes of a type may come where `left` are left for all. A type that may be and for
    which nothing is left is too large, and not unsupported: so one byte may come of it."""
    allowed = bytes_max(content_type)
    return min(max(left, 1), allowed) if allowed else 0


def sendable_bytes(content_type: str) -> int:
    """How many bytes of a type a message may carry to a handset."""
    if not is_sendable(content_type):
        return 0
    return BYTES_MAX if content_type in _PICTURES else OTHER_BYTES_MAX


def any_bytes(content_type: str) -> int:
    """How many bytes a handset's message may bring: what somebody sent is not for us to refuse."""
    del content_type
    return BYTES_MAX
