"""Who is asking: HTTP Basic with an account SID and its auth token (RFC 7617).

The account is remembered while the host's copy stands still (see `remembered`): a cache by time
would keep a token alive after it was changed.
"""

import binascii
import hmac
from typing import Final

from trunkline.api.errors import ApiError
from trunkline.api.remembered import Remembered
from trunkline.api.services import ReplicaPort
from trunkline.domain import sid
from trunkline.domain.account import Account
from trunkline.domain.errors import Code
from trunkline.kernel import Clock

CREDENTIALS_BYTES_MAX: Final = 512
"""A SID, a colon and a token are about 70 bytes, a third more in base64."""

_CHALLENGE: Final = ((b"www-authenticate", b'Basic realm="Twilio API"'),)
_NOBODY: Final = b"\x00" * 32
"""What the token of an account that does not exist is compared with; no token can equal it."""


class Authenticator:
    """Knows the account of an `Authorization` header."""

    def __init__(self, replica: ReplicaPort, clock: Clock) -> None:
        def read(authorization: bytes) -> Account:
            return authenticate(authorization, replica)

        # Found by the hash of the whole header, seeded anew in each process: how long it takes says
        # nothing about a header that is nearly right.
        self._accounts: Final = Remembered(read, replica.version, clock)

    def account(self, authorization: bytes | None) -> Account:
        """The account whose credentials these are. Raises `ApiError` 20003."""
        if authorization is None or len(authorization) > CREDENTIALS_BYTES_MAX:
            raise _refused()
        account = self._accounts(authorization)
        if account is None:
            raise _refused()
        return account


def authenticate(authorization: bytes, replica: ReplicaPort) -> Account:
    """The account whose credentials these are, by the copy as it is. Raises `ApiError` 20003."""
    user, password = _credentials(authorization)
    account = replica.account(user) if sid.is_sid(user, sid.ACCOUNT) else None
    # The comparison is made in either case, so that its duration does not tell which SIDs exist.
    token = _NOBODY if account is None else account.auth_token.encode()
    is_same = hmac.compare_digest(token, password)
    if account is None or not is_same or not password:
        raise _refused()
    return account


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
    return ApiError(Code.AUTHENTICATION_FAILED, headers=_CHALLENGE)
