"""How old a read may be: the header that every answer from the host's copy carries."""

from math import isfinite
from typing import Final

from trunkline.api.answer import Headers
from trunkline.api.services import ReplicaPort

LAG_HEADER: Final = b"x-trunkline-replica-lag-ms"


def lag_header(replica: ReplicaPort) -> Headers:
    """Whole milliseconds, or `unknown` while the copy has never caught up with the log."""
    lag_ms = replica.lag_ms()
    return ((LAG_HEADER, str(round(lag_ms)).encode() if isfinite(lag_ms) else b"unknown"),)
