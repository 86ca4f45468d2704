"""The metrics of all processes of a host in one answer.

Each process leaves its own in a file every few seconds; a process with the API adds those of the
others to what it has counted itself.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from trunkline.host import durable
from trunkline.kernel import Clock

LEFT_EVERY_S: Final = 5.0
"""More often than anybody scrapes."""

STALE_S: Final = 30.0
"""A file that was not written for so long is of a process that is gone."""


class MetricsFile:
    """A support: leaves the metrics of `registry` in `path`, until cancelled."""

    name = "metrics"

    def __init__(self, registry: CollectorRegistry, path: Path, *, clock: Clock) -> None:
        self._registry = registry
        self._path = path
        self._clock = clock

    async def run(self) -> None:
        try:
            while True:
                with contextlib.suppress(OSError):  # a full disk must not end the host for it
                    await asyncio.to_thread(self._leave)
                await self._clock.sleep(LEFT_EVERY_S)
        finally:
            self._path.unlink(missing_ok=True)

    def _leave(self) -> None:
        partial = self._path.with_name(self._path.name + durable.NEW_SUFFIX)
        partial.write_bytes(generate_latest(self._registry))
        partial.replace(self._path)


def render(registry: CollectorRegistry, own: Path, *, clock: Clock) -> bytes:
    """What `registry` holds and what the other processes left beside the file `own`, in the text
    format of Prometheus. Blocks."""
    families: dict[str, Metric] = {}
    for text in (generate_latest(registry).decode(), *_left_beside(own, clock)):
        for family in text_string_to_metric_families(text):
            known = families.setdefault(family.name, family)
            if known is not family:
                _add(known, family)
    return generate_latest(_Collected(families))


def forget(folder: Path) -> None:
    """Remove what processes of an earlier run left."""
    for path in folder.iterdir():
        path.unlink(missing_ok=True)


def _left_beside(own: Path, clock: Clock) -> Iterable[str]:
    for path in sorted(own.parent.glob(f"*{own.suffix}")):
        if path == own:
            continue
        try:
            if clock.wall() - path.stat().st_mtime < STALE_S:
                yield path.read_text("utf-8")
        except OSError:
            continue  # its process has just ended


def _add(known: Metric, other: Metric) -> None:
    """Counts add up; of what is measured, the first process's word is as good as another's."""
    places = {_place(sample): place for place, sample in enumerate(known.samples)}
    for sample in other.samples:
        place = places.get(_place(sample))
        if place is None:
            known.samples.append(sample)
        elif known.type == "counter":
            both = known.samples[place].value + sample.value
            known.samples[place] = sample._replace(value=both)


def _place(sample: Sample) -> tuple[str, tuple[tuple[str, str], ...]]:
    return sample.name, tuple(sorted(sample.labels.items()))


class _Collected(CollectorRegistry):
    """Families that have been collected already, for who renders them."""

    def __init__(self, families: Mapping[str, Metric]) -> None:
        super().__init__(auto_describe=False)
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families.values()
