"""Which events of a shard each service reads. What one wants and is not through with yet waits for it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from trunkline.domain.events import Kind
from trunkline.log.event import chain_subject, changed_filter, created_filter


def by_dispatch(shard: int) -> Sequence[str]:
    """Outbound messages."""
    return [created_filter(shard, Kind.MESSAGE)]


def by_webhooks(shard: int) -> Sequence[str]:
    """Whatever happens to outbound messages."""
    return [chain_subject(shard, Kind.MESSAGE), changed_filter(shard, Kind.MESSAGE)]


def by_inbound(shard: int) -> Sequence[str]:
    """Inbound messages."""
    return [created_filter(shard, Kind.INBOUND)]


WANTED: Final[Mapping[str, Callable[[int], Sequence[str]]]] = {
    "dispatch": by_dispatch,
    "webhooks": by_webhooks,
    "inbound": by_inbound,
}
