"""Which shards a resource may stand in, and in which order: rendezvous hashing of its name.

The number of shards and this hash are fixed for the life of a cluster and written into its data
format, because every fence relies on every host computing the same order.
"""

import hashlib
from functools import lru_cache
from typing import Final

SHARDS: Final = 12
HASH_NAME: Final = "rendezvous-blake2b-5"

_WEIGHT_BYTES: Final = 5
_WEIGHTS_PER_DIGEST: Final = 12
"""One digest of 60 bytes gives the weights of twelve shards: a create computes it once."""

ORDERS_CACHED_MAX: Final = 8_192


@lru_cache(maxsize=ORDERS_CACHED_MAX)
def order(name: str, shards: int = SHARDS) -> tuple[int, ...]:
    """All shards, most preferred first, for the resource `name`."""
    weights = b"".join(
        hashlib.blake2b(
            f"{block}:{name}".encode(), digest_size=_WEIGHT_BYTES * _WEIGHTS_PER_DIGEST
        ).digest()
        for block in range(-(-shards // _WEIGHTS_PER_DIGEST))
    )
    return tuple(
        sorted(
            range(shards),
            key=lambda shard: weights[shard * _WEIGHT_BYTES : (shard + 1) * _WEIGHT_BYTES],
            reverse=True,
        )
    )


def home(name: str, shards: int = SHARDS) -> int:
    """The one shard in which something that must be unique is decided."""
    return order(name, shards)[0]
