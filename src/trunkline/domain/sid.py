"""String identifiers: two letters that say what it is, and 32 hexadecimal digits that say which.

A create that carries an idempotency key gets its SID from the key, so that a repeat collides with
itself whichever host takes it. In the log a resource is named by the digits alone: the letters
depend on its content (`SM` or `MM`), and a repeat with other content must still collide.
"""

import hashlib
import re
from typing import Final

ACCOUNT: Final = "AC"
SMS: Final = "SM"
MMS: Final = "MM"
PHONE_NUMBER: Final = "PN"
APPLICATION: Final = "AP"
REQUEST: Final = "RQ"

_DIGITS: Final = re.compile(r"[0-9a-f]{32}\Z")


def sid_from_entropy(prefix: str, entropy: bytes) -> str:
    """A SID from 16 random bytes."""
    if len(entropy) != 16:
        raise ValueError(f"a SID takes 16 bytes of entropy, not {len(entropy)}")
    return prefix + entropy.hex()


def sid_from_key(prefix: str, *parts: str) -> str:
    """The SID that `parts` (account, operation, key) always give."""
    digest = hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass"))
    return prefix + digest.hexdigest()[:32]


def is_sid(text: str, *prefixes: str) -> bool:
    """Whether `text` is a well-formed SID with one of `prefixes`."""
    return text[:2] in prefixes and _DIGITS.match(text[2:]) is not None


def digits_of(sid: str) -> str:
    """The part that names the resource in the log."""
    return sid[2:]
