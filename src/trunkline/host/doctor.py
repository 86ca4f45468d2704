"""What is wrong with this machine, for a host with these settings.

Every examination gives a finding, also when all is well, so that a report shows what was looked at.
A warning is worth knowing; a fault is something a host cannot keep its promises with.
"""

import contextlib
import ctypes
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from trunkline.host import durable, engine_conf, forecast, listen, retain, storage
from trunkline.host.block_device import network_device_under
from trunkline.host.config import Settings
from trunkline.host.data_folder import check_folder, seat_of
from trunkline.host.engine_cluster import cluster_of
from trunkline.host.engine_conf import DISK_RESERVE_BYTES
from trunkline.host.layout import Layout, holder_of
from trunkline.host.refusal import AddressInUseError, HostError
from trunkline.host.setting_kinds import KIB, MIB
from trunkline.kernel import Clock
from trunkline.replica.snapshot import ROOM_KEPT_BYTES

PYTHON_LEAST: Final = (3, 11)
ENGINE_LEAST: Final = (2, 15)
"""The engine series whose flushing and compare-and-set were tried; older ones lose writes."""
FILES_LEAST: Final = 1024
FILES_RECOMMENDED: Final = 8192
FLUSH_TRIES_MAX: Final = 33
FLUSH_HONEST_US: Final = 20.0
"""The fastest disks with a power-safe cache take about this long; less is memory, not a medium."""
FLUSH_SLOW_MS: Final = 20.0
"""Every create waits for a flush; at this pace a host accepts some fifty unbatched ones a second."""
CLOCK_STEP_MAX_S: Final = 0.05
VERSION_ASK_S: Final = 5.0
WALL_LEAST_S: Final = 1_735_689_600.0
WALL_MAX_S: Final = 4_102_444_800.0
"""The years 2025 to 2099: outside of them nobody has set the clock."""

_TIME_ERROR: Final = 5
_TIMEX_BYTES: Final = 512


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` is empty where nothing is wrong."""

    subject: str
    verdict: Verdict
    what: str
    mend: str = ""


def examine(settings: Settings, *, clock: Clock) -> list[Finding]:
    """All findings. Writes a small file in the data folder for a moment, and nothing else."""
    data = settings.host.data
    offset = clock.wall() - clock.monotonic()
    examinations: list[Callable[[], Finding]] = [
        _python,
        lambda: _data_folder(settings),
        lambda: _block_device(data),
        lambda: _log_room(settings),
        lambda: _fill(data),
        lambda: _trimming(data, clock),
        lambda: _snapshot_room(data),
        lambda: _flush(data, clock),
        _open_files,
        lambda: _engine(settings.host.nats_server),
        lambda: _port("API", settings.host.http, data, setting="--http"),
    ]
    own = next((each for each in settings.cluster.hosts if each.name == settings.host.name), None)
    if own is not None:
        examinations += [
            lambda: _port("log", own.log, data, setting="cluster.hosts"),
            lambda: _port("route", own.route, data, setting="cluster.hosts"),
        ]
    if not settings.carrier.url:
        simulator_http = settings.carrier.simulator_http
        examinations.append(
            lambda: _port("simulator", simulator_http, data, setting="--simulator-http")
        )
    findings = [examination() for examination in examinations]
    return [*findings, _clock(clock, offset), _time_service()]


def _python() -> Finding:
    found = sys.version.split()[0]
    if sys.version_info[:2] >= PYTHON_LEAST:
        return Finding("python", Verdict.OK, f"version {found}")
    least = ".".join(map(str, PYTHON_LEAST))
    return Finding("python", Verdict.FAULT, f"version {found}", f"use version {least} or newer")


def _data_folder(settings: Settings) -> Finding:
    """What `up` would refuse: the disk, what wrote the folder, the credentials; and the files of a
    cluster."""
    data = settings.host.data
    try:
        seat = seat_of(settings)
        if seat is not None:
            cluster_of(settings, seat.secret)
        check_folder(Layout(data), None if seat is None else seat.place)
        free = storage.free_bytes(data) // MIB
        kind = storage.file_system_of(data) or "unknown kind"
    except HostError as error:
        return Finding("data folder", Verdict.FAULT, error.cause, error.mend)
    return Finding("data folder", Verdict.OK, f"{data}: {kind}, {free} MiB free")


def _block_device(data: Path) -> Finding:
    """Whether the disk fails with this machine, or together with many others."""
    kind = network_device_under(data)
    if kind is None:
        return Finding("disk", Verdict.OK, "no network block storage that we know of")
    return Finding(
        "disk", Verdict.WARNING, f"the data folder is on network block storage ({kind})",
        "put it on a disk of this machine: hosts that share storage fail together",
    )  # fmt: skip


def _log_room(settings: Settings) -> Finding:
    """The log's bound against what the disk has left beside what the log holds already."""
    subject, wanted = "room for the log", settings.log.bytes_max
    try:
        free = storage.free_bytes(settings.host.data)
    except OSError as error:
        return Finding(
            subject, Verdict.FAULT, f"cannot be found out ({error.strerror})", "choose --data"
        )
    room = max(0, free - DISK_RESERVE_BYTES) + _log_bytes(settings.host.data)
    what = f"{room // MIB} MiB"
    if room < wanted:
        return Finding(
            subject, Verdict.WARNING, f"{what}, less than log.bytes_max ({wanted // MIB} MiB)",
            "make room or set less; until then creates are refused when the disk is nearly full",
        )  # fmt: skip
    return Finding(subject, Verdict.OK, f"{what}, enough for log.bytes_max ({wanted // MIB} MiB)")


def _fill(data: Path) -> Finding:
    found = retain.read(Layout(data).retention)
    if found is None:
        return Finding("log", Verdict.OK, "no host has looked at it for five minutes")
    what, mend = forecast.fill(found)
    return Finding("log", Verdict.WARNING if mend else Verdict.OK, what, mend)


def _trimming(data: Path, clock: Clock) -> Finding:
    found = retain.read(Layout(data).retention)
    if found is None:
        return Finding("trimming", Verdict.OK, "no host has looked at it for five minutes")
    what, mend = forecast.trimming(found, clock.wall())
    return Finding("trimming", Verdict.WARNING if mend else Verdict.OK, what, mend)


def _snapshot_room(data: Path) -> Finding:
    """Without room for a snapshot of the read copy nothing is trimmed."""
    subject = "room for snapshots"
    try:
        size, free = Layout(data).replica.stat().st_size, storage.free_bytes(data)
    except OSError:
        return Finding(subject, Verdict.OK, "there is no read copy yet")
    what = f"the read copy has {size // MIB} MiB, and {free // MIB} MiB are free"
    if free < size + ROOM_KEPT_BYTES:
        wanted = (size + ROOM_KEPT_BYTES) // MIB
        return Finding(
            subject, Verdict.WARNING, f"{what}, less than the {wanted} MiB that a snapshot needs",
            "make room; until then the log is not trimmed",
        )  # fmt: skip
    return Finding(subject, Verdict.OK, what)


def _log_bytes(data: Path) -> int:
    total = 0
    for folder, _, names in os.walk(Layout(data).log):
        for name in names:
            with contextlib.suppress(OSError):  # a running engine removes files
                total += Path(folder, name).stat().st_size
    return total


def _flush(data: Path, clock: Clock) -> Finding:
    """How long a 4 KiB write takes until the disk says that it will survive a power failure."""
    place = next((folder for folder in (data, *data.parents) if folder.is_dir()), Path("/"))
    try:
        median_s = _median_flush_s(place, clock)
    except OSError as error:
        return Finding(
            "flush", Verdict.FAULT, f"cannot write in {place} ({error.strerror})", "choose --data"
        )
    what = f"a flushed write of 4 KiB takes {median_s * 1e6:.0f} us"
    if median_s * 1e6 < FLUSH_HONEST_US:
        return Finding(
            "flush", Verdict.WARNING, f"{what}, too fast to be on a medium",
            "do not rely on this disk when power fails; use one that honours flushes",
        )  # fmt: skip
    if median_s * 1e3 > FLUSH_SLOW_MS:
        return Finding("flush", Verdict.WARNING, f"{what}, which is slow", "use a faster disk")
    return Finding("flush", Verdict.OK, what)


def _median_flush_s(place: Path, clock: Clock) -> float:
    block = b"\0" * (4 * KIB)
    with tempfile.TemporaryFile(dir=place) as file:
        descriptor = file.fileno()
        durations = []
        for turn in range(FLUSH_TRIES_MAX):
            began = clock.monotonic()
            os.pwrite(descriptor, block, turn * len(block))
            durable.flush(descriptor)
            durations.append(clock.monotonic() - began)
    return statistics.median(durations)


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    what = f"{soft} at once (hard limit {hard})"
    mend = f"raise it with 'ulimit -n {FILES_RECOMMENDED}' before the start"
    if soft < FILES_LEAST:
        return Finding("open files", Verdict.FAULT, what, mend)
    if soft < FILES_RECOMMENDED:
        return Finding("open files", Verdict.WARNING, what, mend)
    return Finding("open files", Verdict.OK, what)


def _engine(chosen: Path | None) -> Finding:
    try:
        program = engine_conf.find_program(chosen)
        said = subprocess.run(  # noqa: S603 - the program the operator chose, or our own
            (program, "--version"),
            capture_output=True,
            text=True,
            timeout=VERSION_ASK_S,
            check=True,
        ).stdout
    except HostError as error:
        return Finding("log engine", Verdict.FAULT, error.cause, error.mend)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(
            "log engine", Verdict.FAULT, f"cannot run it ({error})", "correct --nats-server"
        )
    what = f"{program}: {said.strip()}"
    match = re.search(r"v(\d+)\.(\d+)", said)
    if match is None or (int(match[1]), int(match[2])) < ENGINE_LEAST:
        least = ".".join(map(str, ENGINE_LEAST))
        return Finding("log engine", Verdict.FAULT, what, f"use version {least} or newer")
    return Finding("log engine", Verdict.OK, what)


def _port(whose: str, address: listen.Address, data: Path, *, setting: str) -> Finding:
    subject = f"{whose} address"
    try:
        listen.free_address(address, setting=setting)
    except AddressInUseError as error:
        if holder_of(data) is not None:
            return Finding(subject, Verdict.OK, f"{address} is in use while this host runs")
        return Finding(subject, Verdict.FAULT, error.cause, error.mend)
    except HostError as error:
        return Finding(subject, Verdict.FAULT, error.cause, error.mend)
    return Finding(subject, Verdict.OK, f"{address} is free")


def _clock(clock: Clock, offset: float) -> Finding:
    wall = clock.wall()
    if not WALL_LEAST_S <= wall <= WALL_MAX_S:
        return Finding("clock", Verdict.FAULT, f"stands at {wall:.0f} s", "set the clock")
    step = abs((wall - clock.monotonic()) - offset)
    if step > CLOCK_STEP_MAX_S:
        return Finding(
            "clock", Verdict.WARNING, f"it jumped by {step:.2f} s during this examination",
            "let the time service slew the clock instead of stepping it",
        )  # fmt: skip
    return Finding("clock", Verdict.OK, "set, and steady during this examination")


def _time_service() -> Finding:
    """adjtimex(2) without any mode bit only reads; it gives TIME_ERROR while unsynchronised."""
    subject = "time service"
    if sys.platform != "linux":
        return Finding(subject, Verdict.OK, "this system does not say whether the clock is kept")
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state in (-1, _TIME_ERROR):
        return Finding(
            subject, Verdict.WARNING, "nothing keeps the clock right",
            "run a time service, such as chrony or systemd-timesyncd",
        )  # fmt: skip
    return Finding(subject, Verdict.OK, "the clock is kept right")
