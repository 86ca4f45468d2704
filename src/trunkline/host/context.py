"""What one process of a host is made from: every part of it is given this, and takes what it needs."""

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import prometheus_client

from trunkline.domain.ports import Entropy
from trunkline.host.config import Settings
from trunkline.host.layout import Layout
from trunkline.kernel import Clock
from trunkline.log.author import Author
from trunkline.log.interface import RetainedLog

PeerUrls = Callable[[], Sequence[str]]
"""The base URLs of the other hosts' APIs that are there now; never this host's own."""


def no_peers() -> Sequence[str]:
    """Of a host alone."""
    return ()


@dataclass(frozen=True, slots=True)
class Context:
    """What every service of a process is built from. In a cluster, `peer_token` is what
    its hosts know each other by, and `peer_urls` says where the others are."""

    settings: Settings
    layout: Layout
    cluster: str
    log: RetainedLog
    clock: Clock
    entropy: Entropy
    rng: random.Random
    registry: prometheus_client.CollectorRegistry
    peer_token: str | None = None
    former_peer_tokens: tuple[str, ...] = ()
    peer_urls: PeerUrls = no_peers

    @property
    def own_metrics(self) -> Path:
        """Where this process leaves its metrics for the host's others."""
        return self.layout.metrics_of(os.getpid())

    @property
    def author(self) -> Author:
        return Author(self.settings.host.name, self.clock, self.entropy)
