"""Which shards a resource may stand in, and in which order: rendezvous hashing of its name.

The number of shards and this hash are fixed for the life of a cluster and written into its data
format, because every fence relies on every host computing the same order.
"""

import hashlib
from functools import lru_cache
from typing import Final

SHARDS: Final = 12
HASH_NAME: Final = "rendezvous-blake2b-8"


@lru_cache(maxsize=65_536)
def order(name: str, shards: int = SHARDS) -> tuple[int, ...]:
    """All shards, most preferred first, for the resource `name`."""
    return tuple(sorted(range(shards), key=lambda shard: _weight(name, shard), reverse=True))


def home(name: str, shards: int = SHARDS) -> int:
    """The one shard in which something that must be unique is decided."""
    return order(name, shards)[0]


def _weight(name: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{shard}:{name}".encode(), digest_size=8).digest()
