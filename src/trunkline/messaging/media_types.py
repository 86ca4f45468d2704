"""What the name of a file says about its content."""

from typing import Final
from urllib.parse import urlsplit

_MEDIA_TYPES: Final = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "3gp": "video/3gpp",
    "mp3": "audio/mpeg",
    "amr": "audio/amr",
    "wav": "audio/wav",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "vcf": "text/vcard",
}


def media_type_of(url: str) -> str:
    """What the name of a file says about its content."""
    ending = urlsplit(url).path.rpartition(".")[2].lower()
    return _MEDIA_TYPES.get(ending, "application/octet-stream")
