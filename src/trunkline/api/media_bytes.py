"""The bytes of a message's media: what a media URL, which has no `.json` at its end, answers.

Applications fetch media without credentials, as the Twilio API lets them unless an account asks for
more: the SID in the path is the secret. A setting asks for credentials here.
"""

import re
from typing import Final

from trunkline.api.answer import Answer
from trunkline.api.errors import not_found, unavailable
from trunkline.api.finding import find_message
from trunkline.api.services import ApiServices
from trunkline.domain.media import Piece
from trunkline.domain.message import Message
from trunkline.kernel import Deadline

KEPT_BY_READERS_S: Final = 3600
"""The bytes under a SID never change; but who deletes them wants them gone from caches too."""

ASKING_MAX: Final = 4
"""Media of unknown messages for which the log is asked at once: that is dozens of reads, and anybody may
make up a URL. One more is 503, which it would be for the time being if there is such a message."""

_PATH: Final = re.compile(
    r"/2010-04-01/Accounts/(AC[0-9a-f]{32})/Messages/((?:SM|MM)[0-9a-f]{32})/Media/(ME[0-9a-f]{32})\Z"
)

Words = tuple[str, ...]
"""Account, message and media, by their SIDs."""


def media_path(account: str, message: str, media: str) -> str:
    """Where a piece's bytes are; with `.json` behind it, what is known of it."""
    return f"/2010-04-01/Accounts/{account}/Messages/{message}/Media/{media}"


def words_of(path: str) -> Words | None:
    """The SIDs in a media URL's path; `None` for any other path."""
    found = _PATH.match(path)
    return None if found is None else found.groups()


def piece_of(message: Message | None, media: str, path: str) -> Piece:
    """The piece `media` of a message. Raises `ApiError`: 404 if it has none such, and 503 if its
    media are yet to be stored, as far as this host's copy shows."""
    if message is None or message.is_deleted:
        raise not_found(path)
    for piece in message.pieces:
        if piece.sid == media:
            return piece
    if message.media is None and message.media_count and message.ending is None:
        raise unavailable("The media of this message are not stored yet. Try again.")
    raise not_found(path)


class MediaBytes:
    """What answers media URLs, in one process."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services
        self._asking = 0

    async def answer(self, words: Words, path: str, *, deadline: Deadline) -> Answer:
        """The bytes, under their type. Raises `ApiError`."""
        account, name, media = words
        services = self._services
        piece = piece_of(await self._message(account, name, deadline), media, path)
        content = await services.media.content(piece.sha256, deadline=deadline)
        if content is None:
            raise unavailable("No host that can be asked has these bytes at the moment. Try again.")
        audience = "private" if services.media_needs_credentials else "public"
        headers = (
            (b"cache-control", f"{audience}, max-age={KEPT_BY_READERS_S}".encode()),
            (b"etag", f'"{piece.sha256}"'.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"content-security-policy", b"sandbox"),
        )
        return Answer(200, content, headers, piece.content_type.encode())

    async def _message(self, account: str, name: str, deadline: Deadline) -> Message | None:
        """As the copy shows it, or else the log: whoever has the URL may have it from a host whose
        copy is ahead of this one's."""
        known = self._services.replica.message(name)
        if known is not None:
            return known if known.account == account else None
        if self._asking >= ASKING_MAX:
            raise unavailable("Whether these media exist cannot be told at the moment. Try again.")
        self._asking += 1
        try:
            return await find_message(account, name, self._services, deadline=deadline)
        finally:
            self._asking -= 1
