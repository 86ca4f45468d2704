"""Leases as locked files: the kernel lets go of the lock when the process is gone, however it went.

A frozen process keeps its lock and so its lease. Names are never used twice, so a lease that was
seen dead stays dead.
"""

import fcntl
import os
import re
from pathlib import Path
from typing import Final

from trunkline.domain.ports import Entropy
from trunkline.host import durable

LEASE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,79}\Z")


class FileLeases:
    """This process's lease, held from construction to `close`, and a view of the others'.

    Implements `trunkline.messaging.lease.Leases` for the processes of one host. `folder` is the
    `leases` folder of its data folder.
    """

    def __init__(self, folder: Path, *, host: str, entropy: Entropy) -> None:
        self._folder = folder
        self._own: Final = f"{host}-{os.getpid()}-{entropy(8).hex()}"
        self._remove_dead()
        # The file takes its name only once it is locked: nobody may see it unlocked, and so dead.
        unnamed = folder.parent / (self._own + durable.NEW_SUFFIX)
        self._descriptor: int | None = durable.create(unnamed)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(folder / self._own)

    @property
    def own(self) -> str:
        return self._own

    def is_own_valid(self) -> bool:
        """Whether others still see it live; a lease whose file was deleted is not."""
        return self._descriptor is not None and os.fstat(self._descriptor).st_nlink > 0

    def is_live(self, lease: str) -> bool:
        if lease == self._own:
            return self.is_own_valid()
        if LEASE.match(lease) is None:
            return False
        try:
            descriptor = os.open(self._folder / lease, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            # Shared, so that two who look at once do not take each other for the owner.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def close(self) -> None:
        """Give the lease up for good. A second call does nothing."""
        if self._descriptor is not None:
            (self._folder / self._own).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _remove_dead(self) -> None:
        for path in self._folder.iterdir():
            if LEASE.match(path.name) is not None and not self.is_live(path.name):
                path.unlink(missing_ok=True)
