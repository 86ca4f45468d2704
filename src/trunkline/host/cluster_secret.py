"""What the hosts of a cluster derive from the one secret that they share."""

import hashlib
import hmac
from typing import Final

HOST_TO_HOST: Final = "host to host"
"""The purpose of the token with which hosts ask each other over HTTP."""


def derive(secret: bytes, purpose: str) -> str:
    """A token for one purpose, as 64 hexadecimal digits: HMAC-SHA256. Whoever learns it learns
    neither the secret nor the token of any other purpose. Raises `ValueError` without a secret."""
    if not secret:
        raise ValueError("the cluster's secret is empty")
    return hmac.new(secret, purpose.encode(), hashlib.sha256).hexdigest()
