"""An API key: a name and a secret that stand for an account, and can be taken back alone."""

import hashlib

import msgspec

from trunkline.domain.events import KeyMade


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key of an account. Times are seconds since the epoch."""

    account: str
    settings: KeyMade
    created_at: float
    updated_at: float

    @property
    def sid(self) -> str:
        return self.settings.sid


def digest_of(secret: bytes) -> str:
    """What is kept of a secret. It is 128 random bits, so a plain hash cannot be searched."""
    return hashlib.sha256(secret).hexdigest()
