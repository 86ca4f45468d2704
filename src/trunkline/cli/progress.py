"""A progress bar on standard error, where that is a terminal; silence elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trunkline.host.backup import Total

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def shown(label: str) -> Iterator[Total]:
    """What a backup or restore reports its progress to."""
    if not sys.stderr.isatty():
        yield Total()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn(label), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress)


class _Bar(Total):
    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def begin(self, total: int) -> None:
        self._progress.update(self._task, total=total or None)

    def step(self, count: int) -> None:
        self._progress.advance(self._task, count)
