"""Which shards a resource may stand in, and in which order: rendezvous hashing of its name.

The number of shards and this hash are fixed for the life of a cluster and written into its data
format, because every fence relies on every host computing the same order.
"""

import hashlib
import struct
from functools import lru_cache
from typing import Final

SHARDS: Final = 12
HASH_NAME: Final = "rendezvous-blake2b-5"

_WEIGHT_BYTES: Final = 5
_WEIGHTS_PER_DIGEST: Final = 12
"""One digest of 60 bytes gives the weights of twelve shards: a create computes it once."""

_DIGEST_BYTES: Final = _WEIGHT_BYTES * _WEIGHTS_PER_DIGEST
_SPLIT: Final = struct.Struct(f"{_WEIGHT_BYTES}s" * _WEIGHTS_PER_DIGEST).unpack

ORDERS_CACHED_MAX: Final = 8_192


@lru_cache(maxsize=ORDERS_CACHED_MAX)
def order(name: str, shards: int = SHARDS) -> tuple[int, ...]:
    """All shards, most preferred first, for the resource `name`."""
    weights = _weights(name, shards)
    return tuple(sorted(range(shards), key=weights.__getitem__, reverse=True))


def home(name: str, shards: int = SHARDS) -> int:
    """The one shard in which something that must be unique is decided."""
    weights = _weights(name, shards)
    return weights.index(max(weights))


def _weights(name: str, shards: int) -> tuple[bytes, ...]:
    """Of each shard; of equal ones the lower shard comes first."""
    weights: tuple[bytes, ...] = ()
    for block in range(-(-shards // _WEIGHTS_PER_DIGEST)):
        weights += _SPLIT(
            hashlib.blake2b(f"{block}:{name}".encode(), digest_size=_DIGEST_BYTES).digest()
        )
    return weights[:shards]
