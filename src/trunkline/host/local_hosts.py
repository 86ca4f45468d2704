"""The hosts that one `trunkline up` runs: one on its data folder, or a whole cluster on this machine.

A cluster's hosts each have a data folder of their own below the one that is named, and on Linux a
loopback address of their own as well, so that they can be cut off from each other. What they share
(the secret, and how many they are) stands beside their folders.
"""

import contextlib
import dataclasses
import json
import os
import secrets
import socket
import string
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.host import config, durable, leftovers, listen
from trunkline.host import format as data_format
from trunkline.host.config import Settings
from trunkline.host.data_folder import DataFolder, open_folder, seat_of
from trunkline.host.layout import FolderLock, Layout
from trunkline.host.listen import Address
from trunkline.host.refusal import ConfigError, DataFolderError, FormatError
from trunkline.host.roster import HOSTS_LEAST, HOSTS_MAX, Member
from trunkline.host.setting_kinds import SERVICES

HAS_LOOPBACK_NETWORK: Final = sys.platform == "linux"
"""There every address of 127.0.0.0/8 is this machine; elsewhere only 127.0.0.1 is."""

_LOOPBACK: Final = "127.0.0.1"
_FIRST_OWN: Final = 2
_PORT_STEP: Final = 10
"""Between the ports of hosts that share an address; the simulator's is next to the first one's."""


@dataclass(frozen=True, slots=True)
class LocalHost:
    """One host: its settings, its folder with the lock, and the API's listener."""

    settings: Settings
    folder: DataFolder
    listener: socket.socket

    @property
    def name(self) -> str:
        return self.settings.host.name

    @property
    def base_url(self) -> str:
        return self.settings.host.http.url


def check_count(settings: Settings, count: int) -> None:
    """Raises `ConfigError` for a number of hosts that cannot be run here."""
    if count == 1:
        return
    if count < 1 or count > HOSTS_MAX:
        raise ConfigError(f"--hosts cannot be {count}", f"give 1, or {HOSTS_LEAST} to {HOSTS_MAX}")
    if count < HOSTS_LEAST:
        raise ConfigError(
            "--hosts cannot be 2: two hosts have no quorum, and losing either one stops both",
            "run one, or three",
        )
    if settings.host.ephemeral:
        raise ConfigError(
            "a host with --ephemeral keeps its log to itself, and --hosts asks for a cluster",
            "leave one of the two out",
        )
    if settings.cluster.hosts:
        raise ConfigError(
            "cluster.hosts names the hosts of a cluster, and --hosts makes one on this machine",
            "leave one of the two out",
        )


def open_hosts(
    settings: Settings, count: int, stack: contextlib.ExitStack
) -> tuple[LocalHost, ...]:
    """Open the folders and listeners of all; `stack` closes them. Raises `HostError`s."""
    if count == 1:
        return (_open_host(settings, "--http", stack),)
    home = Layout(settings.host.data)
    _require_cluster_home(home, count)
    home.make(is_host=False)
    lock = FolderLock.take(home)
    stack.callback(lock.release)
    leftovers.clear_away(home)
    token_file = _secret_of(home, count)
    # No longer than for choosing them: each engine listens on its own.
    with contextlib.ExitStack() as chosen:
        members = tuple(_member(index, chosen) for index in range(count))
    hosts = []
    for index, member in enumerate(members):
        cluster = dataclasses.replace(settings.cluster, hosts=members, token_file=token_file)
        host = dataclasses.replace(
            settings.host,
            name=member.name,
            data=home.data / member.name,
            http=place(settings.host.http, index),
            # Side by side they keep its cores busy as they are.
            processes=settings.host.processes or (SERVICES,),
        )
        monitor = settings.log.monitor_http
        log = dataclasses.replace(
            settings.log,
            monitor_http=None if monitor is None else place(monitor, index),
            cores=settings.log.cores or cores_for_each(count),
        )
        own = dataclasses.replace(settings, host=host, cluster=cluster, log=log)
        hosts.append(_open_host(own, "--http", stack))
    return tuple(hosts)


def cores_for_each(hosts: int) -> int:
    """Of this machine, for each of so many hosts that run side by side."""
    return max(1, (os.cpu_count() or 1) // hosts)


def write_settings(host: LocalHost) -> None:
    """Where its processes find them."""
    durable.write_file(host.folder.layout.settings, config.to_json(host.settings))


def prepare(host: LocalHost) -> None:
    """Before the host is started, again and again: see that it has what the parent gives it. Where
    its folder was removed, a host of a cluster has lost its disk, and begins with an empty one.

    Raises `DataFolderError` for one host alone, which has lost everything, and for a folder that
    another process has taken meanwhile.
    """
    layout, lock = host.folder.layout, host.folder.lock
    if layout.settings.exists() and (lock is None or lock.is_of(layout)):
        return
    if not host.settings.cluster.hosts:
        raise DataFolderError(
            f"the data folder {layout.data} was removed while its host ran; what it held is lost",
            "restore the newest backup with 'trunkline restore'",
        )
    _say(
        f"the data folder {layout.data} was removed; {host.name} begins with an empty one, and the "
        "other hosts fill it"
    )
    try:
        layout.make()
        if lock is not None:
            lock.take_again(layout)
        write_settings(host)
    except OSError as error:
        # The host cannot start, and is tried again: by then there may be room, or a disk.
        _say(f"cannot write {error.filename or layout.data} ({error.strerror})")


def _say(text: str) -> None:
    sys.stderr.write(f"trunkline: {text}\n")
    sys.stderr.flush()


def name_of(index: int) -> str:
    return f"host-{string.ascii_lowercase[index]}"


def place(address: Address, index: int) -> Address:
    """Where the host of this index listens, if the first one was told to at `address`."""
    if HAS_LOOPBACK_NETWORK and address.host == _LOOPBACK:
        return Address(_own_loopback(index), address.port)
    return Address(address.host, address.port and address.port + index * _PORT_STEP)


def _open_host(settings: Settings, setting: str, stack: contextlib.ExitStack) -> LocalHost:
    folder = open_folder(settings.host.data, entropy=secrets.token_bytes, seat=seat_of(settings))
    stack.callback(folder.release)
    listener = stack.enter_context(listen.open_listener(settings.host.http, setting=setting))
    host = dataclasses.replace(settings.host, http=listen.address_of(listener))
    return LocalHost(dataclasses.replace(settings, host=host), folder, listener)


def _member(index: int, chosen: contextlib.ExitStack) -> Member:
    """With free ports, which stay taken until `chosen` is closed, so that none is given twice."""
    host = _own_loopback(index) if HAS_LOOPBACK_NETWORK else _LOOPBACK
    log, route = (
        listen.address_of(chosen.enter_context(listen.bound(Address(host, 0), setting="--hosts")))
        for _ in range(2)
    )
    return Member(name_of(index), log, route)


def _own_loopback(index: int) -> str:
    return f"127.0.0.{_FIRST_OWN + index}"


def _require_cluster_home(home: Layout, count: int) -> None:
    """Raises `FormatError` for a folder that is not the home of this many hosts."""
    if home.format.exists():
        raise FormatError(
            f"{home.data} is the folder of one host alone, and --hosts asks for {count}",
            "choose a new folder with --data",
        )
    found = hosts_at(home)
    if found is None:
        if home.local_cluster.exists():
            raise FormatError(
                f"{home.local_cluster} is damaged", "choose another folder with --data"
            )
        data_format.require_unborn(home)
    elif found != count:
        raise FormatError(
            f"{home.data} is that of a cluster of {found} hosts, and --hosts asks for {count}",
            f"start it with '--hosts {found}', or choose a new folder with --data",
        )


def hosts_at(home: Layout) -> int | None:
    """How many hosts have their folders there, or None where there is no cluster, or no telling."""
    try:
        found = json.loads(home.local_cluster.read_bytes())["hosts"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) else None


def _secret_of(home: Layout, count: int) -> Path:
    """The token file, made once, and before anything that rests on it."""
    if not home.cluster_token.exists():
        if any(Layout(home.data / name_of(index)).format.exists() for index in range(count)):
            raise FormatError(
                f"{home.cluster_token} is missing, and the hosts beside it rest on it",
                "put it back",
            )
        durable.write_file(home.cluster_token, secrets.token_hex(32).encode() + b"\n")
    if not home.local_cluster.exists():
        durable.write_file(home.local_cluster, json.dumps({"hosts": count}).encode() + b"\n")
    return home.cluster_token
