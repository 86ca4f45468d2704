"""What a message carries besides its text: which types and sizes may be, and how a piece is named.

A piece is known by the SHA-256 of its bytes, wherever these lie. Its SID is made of the message's
original event, whose id nobody outside ever sees: so every host gives a piece the same SID, and a
media URL, which answers without credentials, cannot be guessed.
"""

import re
from typing import Final

import msgspec

from trunkline.domain.sid import sid_from_key

MEDIA: Final = "ME"

PIECES_MAX: Final = 10
BYTES_MAX: Final = 5 * 1024 * 1024
"""Of one piece, and of all pieces of a message together (Twilio documentation, "Accepted Content
Types for Media")."""

TYPES: Final = frozenset({
    "application/pdf", "application/vcard", "application/vnd.apple.pkpass",
    "audio/3gpp", "audio/3gpp2", "audio/ac3", "audio/amr", "audio/amr-nb", "audio/basic",
    "audio/l24", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/vnd.rn-realaudio",
    "audio/vnd.wave", "audio/vorbis", "audio/wav", "audio/webm", "audio/x-wav",
    "image/bmp", "image/gif", "image/heic", "image/heif", "image/jpeg", "image/png", "image/tiff",
    "image/webp",
    "text/calendar", "text/csv", "text/directory", "text/plain", "text/richtext", "text/rtf",
    "text/vcard", "text/x-vcard",
    "video/3gpp", "video/3gpp-tt", "video/3gpp2", "video/h261", "video/h263", "video/h263-1998",
    "video/h263-2000", "video/h264", "video/mp4", "video/mpeg", "video/quicktime", "video/webm",
})  # fmt: skip
"""None of them is one that a browser runs as a program, because we serve them from our own host."""

SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")


class Piece(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One piece of a message, stored: its place in the message, its bytes' hash and their type."""

    sid: str
    index: int
    sha256: str
    content_type: str
    size_bytes: int


def media_sid(original_id: str, index: int) -> str:
    """The SID of a message's piece, `index` from 0; `original_id` is the id of the event that the
    message was created by."""
    return sid_from_key(MEDIA, original_id, str(index))


def bare_type(content_type: str) -> str:
    """A content type as a header writes it, without its parameters and in lower case."""
    return content_type.partition(";")[0].strip().lower()


def is_sendable(content_type: str) -> bool:
    """Whether a bare type is one that a message may carry."""
    return content_type in TYPES
