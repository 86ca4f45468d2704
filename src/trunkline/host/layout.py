"""What lies where in a data folder, and which process holds it.

format.json        what wrote the folder; the last thing made at birth
lock               held by the process that works here, and by its children
credentials.json   account, token and first number
log/               the engine's store, and how far its consumers were
grow/              at the birth of a cluster from one host's backup: its log, set aside
replica/           the read copy, and its snapshots
blobs/             media of messages, named by what is in them
cluster.json       instead of the above, where several hosts have their folders below this one
cluster-token      the secret of those hosts
simulator/         what our own simulated carrier was given
run/               of the running processes only: never in a backup
"""

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.host import durable
from trunkline.host.refusal import DataFolderError, FolderInUseError

LOCK_WAIT_S: Final = 5.0
"""How long a folder may stay locked whose holder is dead: its children are ending."""

_LOCK_POLL_S: Final = 0.02
_LOST_AND_FOUND: Final = "lost+found"
"""Stands in the root of a fresh file system, and is not ours."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one data folder."""

    data: Path

    @property
    def format(self) -> Path:
        return self.data / "format.json"

    @property
    def lock(self) -> Path:
        return self.data / "lock"

    @property
    def credentials(self) -> Path:
        return self.data / "credentials.json"

    @property
    def log(self) -> Path:
        return self.data / "log"

    @property
    def log_birth(self) -> Path:
        """There once the engine has made every shard: from then on, a missing one is a loss."""
        return self.log / "born"

    @property
    def positions(self) -> Path:
        """What this host noted of how far the services are through the log. It stands and falls with
        the log: who puts back an older one puts back its notes."""
        return self.log / "positions.json"

    @property
    def replica(self) -> Path:
        return self.data / "replica" / "replica.db"

    @property
    def blobs(self) -> Path:
        """The media of messages."""
        return self.data / "blobs"

    @property
    def snapshots(self) -> Path:
        return self.replica.with_name("snapshots")

    @property
    def progress(self) -> Path:
        """How far the read copy is, for every process of the host."""
        return self.replica.with_name("progress")

    @property
    def simulator(self) -> Path:
        return self.data / "simulator"

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def leases(self) -> Path:
        return self.run / "leases"

    @property
    def host_facts(self) -> Path:
        """Where the running host says how it is reached."""
        return self.run / "host.json"

    @property
    def engine_door(self) -> Path:
        """How the host's processes reach the log engine, with its token."""
        return self.run / "engine.json"

    @property
    def engine_pid(self) -> Path:
        """The process of the engine that was started last."""
        return self.run / "engine.pid"

    @property
    def retention(self) -> Path:
        """What the last pass of the retention found, for doctor and metrics."""
        return self.run / "retention.json"

    def metrics_of(self, pid: int) -> Path:
        """What a process of this host has counted."""
        return self.metrics / f"{pid}.metrics"

    @property
    def metrics(self) -> Path:
        return self.run / "metrics"

    @property
    def settings(self) -> Path:
        """The settings in force, for the processes of this host."""
        return self.run / "settings.json"

    @property
    def local_cluster(self) -> Path:
        """How many hosts of one machine have their folders in this one."""
        return self.data / "cluster.json"

    @property
    def cluster_token(self) -> Path:
        """The secret of those hosts."""
        return self.data / "cluster-token"

    @property
    def grow(self) -> Path:
        """There while the log of one host alone is still to become that of its cluster."""
        return self.data / "grow"

    def passing_names(self) -> frozenset[str]:
        """Entries that carry nothing over from one run to the next."""
        return frozenset({self.lock.name, self.run.name, _LOST_AND_FOUND})

    def make(self, *, is_host: bool = True) -> None:
        """Make the folder and its fixed parts, for their owner only; fewer where it is no host's
        own folder. Repeating it is harmless."""
        parts = (self.leases, self.metrics, self.replica.parent) if is_host else ()
        try:
            for folder in (self.data, self.run, *parts):
                durable.make_folder(folder)
            self.data.chmod(durable.FOLDER_MODE)
        except OSError as error:
            raise DataFolderError(
                f"cannot make the data folder {self.data} ({error.strerror})",
                "choose a folder of your own with --data",
            ) from error


def simulator_url_of(data: Path) -> str | None:
    """Where the simulated carrier of the host on this folder is, if one has said so."""
    facts = _facts(Layout(data).host_facts)
    url = facts.get("simulator_url")
    return url if isinstance(url, str) and url else None


def base_urls_of(data: Path) -> list[str]:
    """Where the hosts are that the process on this folder runs, if one has said so."""
    hosts = _facts(Layout(data).host_facts).get("hosts")
    urls = [each.get("base_url") for each in hosts] if isinstance(hosts, list) else []
    return [url for url in urls if isinstance(url, str) and url]


def holder_of(data: Path) -> int | None:
    """The process that holds the folder now, if any; 0 if it did not leave its id."""
    try:
        descriptor = os.open(Layout(data).lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(descriptor)
    finally:
        os.close(descriptor)
    return None


class FolderLock:
    """The right to work in a data folder. Children that are given `descriptor` share it: the
    folder is free again only when the last of them has ended."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: Final = descriptor
        self._is_held = True

    @classmethod
    def take(cls, layout: Layout, *, wait_s: float = LOCK_WAIT_S) -> "FolderLock":
        """Raises `FolderInUseError` at once if the holder lives, or after `wait_s` if it is dead
        and its children do not end."""
        descriptor = _open_lock(layout)
        try:
            _wait_for_lock(descriptor, layout.data, wait_s)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def is_of(self, layout: Layout) -> bool:
        """Whether it is the lock that stands in the folder now, and not in one that was removed."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), layout.lock.stat())
        except FileNotFoundError:
            return False

    def take_again(self, layout: Layout) -> None:
        """Hold the lock of the folder that stands there now, under the same descriptor. Raises as
        `take`."""
        new = FolderLock.take(layout)
        try:
            os.dup2(new.descriptor, self.descriptor, inheritable=False)
        finally:
            new.release()

    def release(self) -> None:
        """Close our share of it. A second call does nothing."""
        if self._is_held:
            self._is_held = False
            os.close(self.descriptor)


def _open_lock(layout: Layout) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(layout.lock, flags, durable.FILE_MODE)
    except OSError as error:
        raise DataFolderError(
            f"cannot write in the data folder {layout.data} ({error.strerror})",
            "give this user the folder, or choose another with --data",
        ) from error


def _wait_for_lock(descriptor: int, data: Path, wait_s: float) -> None:
    give_up_at = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise DataFolderError(
                    f"the file system of {data} cannot lock files ({error.strerror})",
                    "choose a folder on a local disk with --data",
                ) from error
        pid = _pid_in(descriptor)
        if _is_alive(pid) or time.monotonic() >= give_up_at:
            raise FolderInUseError(
                f"the data folder {data} is in use by process {pid or 'of an unknown id'}",
                "stop that process, or choose another folder with --data",
            )
        time.sleep(_LOCK_POLL_S)


def _pid_in(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _facts(path: Path) -> Mapping[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
