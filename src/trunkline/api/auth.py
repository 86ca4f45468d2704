"""Who is asking: HTTP Basic with an account's SID and its auth token, or a key's and its secret (RFC 7617).

Who it is, is remembered for as long as nothing is known to have changed (see `remembered`): a cache
by time would keep a token alive after it was changed, or a key after it was deleted.
"""

import binascii
import hmac
from typing import Final

import msgspec

from trunkline.api.errors import ApiError, refused
from trunkline.api.remembered import Remembered
from trunkline.api.services import KnownPort
from trunkline.domain import sid
from trunkline.domain.account import Account
from trunkline.domain.key import digest_of
from trunkline.kernel import Clock

CREDENTIALS_BYTES_MAX: Final = 512
"""A SID, a colon and a token are about 70 bytes, a third more in base64."""

_NOBODY: Final = b"\x00" * 32
"""What the token of an account that does not exist is compared with; no token can equal it."""
_NO_DIGEST: Final = "no digest".ljust(64)
"""The same for the secret of a key."""
_NOBODY_SID: Final = "AC"
"""Looked up in place of the account of a key that does not exist: that takes as long."""


class Caller(msgspec.Struct, frozen=True):
    """Whose credentials a request carries: an active account's own, or those of its key `key`."""

    account: Account
    key: str | None = None


class Authenticator:
    """Knows the caller of an `Authorization` header."""

    def __init__(self, known: KnownPort, clock: Clock) -> None:
        def read(authorization: bytes) -> Caller:
            return authenticate(authorization, known)

        # Found by the hash of the whole header, seeded anew in each process: how long it takes says
        # nothing about a header that is nearly right.
        self._callers: Final = Remembered(read, known.version, clock)

    def caller(self, authorization: bytes | None) -> Caller:
        """Whose credentials these are. Raises `ApiError` 20003."""
        if authorization is None or len(authorization) > CREDENTIALS_BYTES_MAX:
            raise _refused()
        caller = self._callers(authorization)
        if caller is None:
            raise _refused()
        return caller


def authenticate(authorization: bytes, known: KnownPort) -> Caller:
    """Whose credentials these are, by what is known now. Raises `ApiError` 20003, the same for those
    that are wrong, unknown, or of an account that is not active, and after the same work."""
    user, password = _credentials(authorization)
    caller = (
        _with_secret(user, password, known)
        if sid.is_sid(user, sid.KEY)
        else _with_token(user, password, known)
    )
    if caller is None or not password or not caller.account.is_active:
        raise _refused()
    return caller


def _with_token(user: str, password: bytes, known: KnownPort) -> Caller | None:
    account = known.account(user) if sid.is_sid(user, sid.ACCOUNT) else None
    # The comparison is made in either case, so that its duration does not tell which SIDs exist.
    token = _NOBODY if account is None else account.auth_token.encode()
    is_same = hmac.compare_digest(token, password)
    return Caller(account) if account is not None and is_same else None


def _with_secret(user: str, password: bytes, known: KnownPort) -> Caller | None:
    key = known.key(user)
    digest = _NO_DIGEST if key is None else key.settings.secret_digest
    is_same = hmac.compare_digest(digest, digest_of(password))
    account = known.account(_NOBODY_SID if key is None else key.account)
    return Caller(account, user) if account is not None and is_same else None


def _credentials(authorization: bytes) -> tuple[str, bytes]:
    scheme, _, encoded = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        raise _refused()
    try:
        decoded = binascii.a2b_base64(encoded.strip(), strict_mode=True)
        user, colon, password = decoded.partition(b":")
        name = user.decode("ascii")
    except ValueError as error:
        raise _refused() from error
    if not colon:
        raise _refused()
    return name, password


def _refused() -> ApiError:
    return refused(
        "Authentication failed: send with HTTP Basic the SID of an active account and its auth "
        "token, or the SID of its API key and the key's secret."
    )
