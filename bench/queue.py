"""`make bench-queue`: a million messages wait behind a closed carrier, and are then drained.

One host, its log, the simulated carrier and the load share the machine. While the carrier's port is
closed everything that is accepted is held; when it is opened the host drains. All the while a light
load asks whether creates are still accepted as before, and resident memory is sampled. At the end
the simulator's counts, which the host cannot touch, say whether each accepted message arrived once.

It stops by itself: each phase has a bound, and a drain that stands still for two minutes is given
up. The last line is one JSON object; the exit code is 1 if a message is missing, or came twice
without a flag.
"""
# ruff: noqa: A005 - it is about queueing, and nobody imports it as `queue`

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.carrier import counts_at, start_simulator
from bench.load import Load, Sample
from bench.messages import up
from bench.processes import Cost, tree

SLICE_S: Final = 5.0
"""Between two lines of progress; the load is measured in slices of it."""
LIGHT_PER_S: Final = 50.0
LIGHT_CONNECTIONS: Final = 8
QUIET_S: Final = 10.0
"""How long the light load runs alone: before, with the queue full, and after."""
STALL_MAX_S: Final = 120.0
READY_MAX_S: Final = 60.0
RECEIPTS_MAX_S: Final = 120.0
STOP_MAX_S: Final = 30.0
LOOK_EVERY_S: Final = 0.5
DISK_BYTES_PER_MESSAGE: Final = 6_000
"""Log, read copy and the simulator's file together: 2,700 were measured."""


def main() -> int:
    arguments = _arguments()
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-bench-") as name,
        socket.socket() as closed_port,
    ):
        folder = Path(name)
        _ask_for_room(folder, arguments.messages)
        # Bound and not listening: nobody else gets the port, and connections to it are refused.
        closed_port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        closed_port.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed_port.getsockname()[1]}"
        settings = {"TRUNKLINE_CARRIER_URL": f"http://{address}"}
        with up(folder, arguments, settings) as facts:
            run = _Run(Load(facts), facts["pid"], folder, address, arguments)
            result = uvloop.run(_watched(run))
    print(json.dumps(result))
    return 0 if result["is_complete"] else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-queue ARGS=...", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="how many are queued")
    parser.add_argument("--connections", type=int, default=64, help="connections that queue them")
    parser.add_argument("--window", type=int, default=200, help="the carrier link's window")
    parser.add_argument("--minutes-max", type=float, default=60.0, help="bound of each long phase")
    parser.add_argument("--config", type=Path, help="a configuration file for the host")
    return parser.parse_args()


def _ask_for_room(folder: Path, messages: int) -> None:
    needed, free = messages * DISK_BYTES_PER_MESSAGE, shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(
            f"{folder.parent} has {free / 1e9:.1f} GB free and may need {needed / 1e9:.1f} GB: "
            "set TMPDIR to a larger disk, or give fewer --messages"
        )


@dataclass(slots=True)
class _Run:
    """One run: what it drives, and what it has seen."""

    load: Load
    pid: int
    folder: Path
    address: str
    arguments: argparse.Namespace
    began: float = field(default_factory=time.monotonic)
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    light: dict[str, list[Sample]] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    simulator: "subprocess.Popen[bytes] | None" = None
    slices: int = 0
    slices_lost: int = 0
    own_pause_s_max: float = 0.0

    def costs(self) -> dict[int, Cost]:
        """Every process; their peaks are remembered."""
        found = tree(self.pid)
        if self.simulator is not None:
            found |= tree(self.simulator.pid)
        for name, size in _resident(found).items():
            self.peak_bytes[name] = max(self.peak_bytes.get(name, 0), size)
        return found

    async def taken(self, phase: str, slice_of_load: Awaitable[Sample]) -> Sample | None:
        """Count what a slice brought. One in which a create got no answer at all is lost whole:
        what it created is not counted as accepted, and may arrive."""
        try:
            sample = await slice_of_load
        except OSError as error:
            self.slices_lost += 1
            self.say(phase, f"a slice of the load is lost: {error}")
            await asyncio.sleep(LOOK_EVERY_S)
            return None
        self.accepted += sample.accepted
        for status, count in sample.refused.items():
            self.refused[str(status)] = self.refused.get(str(status), 0) + count
        return sample

    def say(self, phase: str, words: str) -> None:
        sizes = " ".join(
            f"{name} {size >> 20}" for name, size in sorted(_resident(self.costs()).items())
        )
        elapsed_s = time.monotonic() - self.began
        print(f"{elapsed_s:6.0f} s  {phase:9} {words}; MiB: {sizes}", flush=True)

    async def light_slice(self, phase: str, seconds: float = SLICE_S) -> None:
        """The light load alone; its latencies count for `phase`."""
        self.slices += 1
        slice_of_load = self.load.fixed_rate(
            rate=LIGHT_PER_S,
            seconds=seconds,
            connections=LIGHT_CONNECTIONS,
            run=f"light{self.slices}",
        )
        if (sample := await self.taken(phase, slice_of_load)) is not None:
            self.light.setdefault(phase, []).append(sample)

    @contextlib.asynccontextmanager
    async def light_load(self, phase: str) -> AsyncIterator[None]:
        """The light load beside what is done in the block."""
        is_over = asyncio.Event()

        async def keep_on() -> None:
            while not is_over.is_set():
                await self.light_slice(phase)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_on())
            try:
                yield
            finally:
                is_over.set()


async def _watched(run: _Run) -> dict[str, Any]:
    """A machine that is paused, or has no time for us, shows as a pause of our own."""

    async def watch() -> None:
        while True:
            asked_at = time.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)
            pause_s = time.monotonic() - asked_at - LOOK_EVERY_S
            run.own_pause_s_max = max(run.own_pause_s_max, pause_s)

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch())
        result = await _measure(run)
        watching.cancel()
    return result


async def _measure(run: _Run) -> dict[str, Any]:
    idle = _mib(run.costs())
    await run.light_slice("before", QUIET_S)
    run.say("before", "only the light load")
    before_queueing = run.costs()
    queued_per_s = await _queue(run)
    queued, queued_costs = run.accepted, run.costs()
    await run.light_slice("held", QUIET_S)
    run.say("held", f"{run.accepted} wait")
    held = _mib(run.costs())
    try:
        drained = await _drain(run)
        after_drain = run.costs()
        await run.light_slice("after", QUIET_S)
        counts = await _final_counts(run)
        run.say("after", "only the light load")
    finally:
        await asyncio.to_thread(_stop_simulator, run)
    unique = counts["delivered"] - counts["duplicates_by_body"]
    return {
        "messages": run.accepted,
        "not_accepted": run.refused,
        "slices_lost": run.slices_lost,
        "own_pause_s_max": round(run.own_pause_s_max, 2),
        "queued_per_s": queued_per_s,
        "drained": drained,
        "missing": max(0, run.accepted - unique),
        "flagged_repeats": counts["duplicates_by_body"] - counts["unflagged_duplicates_by_body"],
        "unflagged_repeats": counts["unflagged_duplicates_by_body"],
        # Exact where no slice is lost: each text is another one.
        "is_complete": run.accepted <= unique and not counts["unflagged_duplicates_by_body"],
        "receipts_left": counts["items_pending"],
        "create_ms": {phase: _latencies(samples) for phase, samples in run.light.items()},
        "resident_mib": {
            "idle": idle,
            "held": held,
            "drained": _mib(after_drain),
            "peak": {name: size >> 20 for name, size in sorted(run.peak_bytes.items())},
        },
        "resident_bytes_per_message_held": {
            name: round((held[name] - idle.get(name, 0)) * 2**20 / max(1, queued)) for name in held
        },
        "cpu_us_per_message_queued": _spent_us(before_queueing, queued_costs, queued),
        "cpu_us_per_message_drained": _spent_us(queued_costs, after_drain, run.accepted),
        "disk_mib": await asyncio.to_thread(_disk_mib, run.folder),
        "simulator": counts,
    }


async def _queue(run: _Run) -> int:
    """Create messages as fast as they are accepted, until there are enough; gives how many a
    second, beside the light load."""
    accepted, seconds = 0, 0.001
    until = time.monotonic() + run.arguments.minutes_max * 60.0
    async with run.light_load("queueing"):
        while run.accepted < run.arguments.messages and time.monotonic() < until:
            run.slices += 1
            slice_of_load = run.load.closed_loop(
                connections=run.arguments.connections, seconds=SLICE_S, run=f"full{run.slices}"
            )
            if (sample := await run.taken("queueing", slice_of_load)) is None:
                continue
            accepted, seconds = accepted + sample.accepted, seconds + sample.seconds
            rate = sample.accepted / sample.seconds
            run.say("queueing", f"{run.accepted} accepted, {rate:.0f}/s")
    return round(accepted / seconds)


async def _drain(run: _Run) -> dict[str, Any]:
    """Open the carrier, and wait until everything accepted has arrived or nothing moves."""
    run.simulator, ready = start_simulator(run.folder, run.address)
    began = moved_at = time.monotonic()
    while not ready.exists():
        if run.simulator.poll() is not None or time.monotonic() - began > READY_MAX_S:
            raise SystemExit("the simulator did not become ready")
        await asyncio.sleep(LOOK_EVERY_S)
    waiting, seen, told_at, told = run.accepted, 0, began, 0
    rates: list[float] = []
    async with run.light_load("draining"):
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            arrived, now = await asyncio.to_thread(_arrived, run), time.monotonic()
            if arrived > seen:
                seen, moved_at = arrived, now
            if now - told_at >= SLICE_S:
                rates.append((seen - told) / (now - told_at))
                run.say("draining", f"{seen} of {run.accepted} arrived, {rates[-1]:.0f}/s")
                told_at, told = now, seen
            is_late = now - began > run.arguments.minutes_max * 60.0
            if seen >= waiting or now - moved_at > STALL_MAX_S or is_late:
                break
    seconds = moved_at - began
    return {
        "waiting": waiting,
        "seconds": round(seconds, 1),
        "per_s": round(seen / max(seconds, 0.001)),
        "per_s_least": round(min(rates, default=0.0)),
        "per_s_most": round(max(rates, default=0.0)),
    }


def _arrived(run: _Run) -> int:
    """Distinct messages at the handsets."""
    if run.simulator is None or run.simulator.poll() is not None:
        raise SystemExit("the simulator has ended by itself; its words are above")
    counts = counts_at(f"http://{run.address}")
    return counts["delivered"] - counts["duplicates_by_body"]


async def _final_counts(run: _Run) -> dict[str, int]:
    """Once everything has arrived and its receipts are taken, or nothing moves any more."""
    began = time.monotonic()
    while True:
        counts = await asyncio.to_thread(counts_at, f"http://{run.address}")
        has_all = counts["delivered"] - counts["duplicates_by_body"] >= run.accepted
        if (has_all and not counts["items_pending"]) or time.monotonic() - began > RECEIPTS_MAX_S:
            return counts
        await asyncio.sleep(LOOK_EVERY_S)


def _stop_simulator(run: _Run) -> None:
    if run.simulator is not None:
        run.simulator.send_signal(signal.SIGTERM)
        run.simulator.wait(timeout=STOP_MAX_S)


def _latencies(samples: list[Sample]) -> dict[str, float]:
    together = Sample(latencies_s=[each for sample in samples for each in sample.latencies_s])
    return {
        "creates": together.accepted,
        "p50": round(together.percentile_ms(0.50), 2),
        "p99": round(together.percentile_ms(0.99), 2),
    }


def _resident(costs: dict[int, Cost]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for cost in costs.values():
        sizes[cost.name] = sizes.get(cost.name, 0) + cost.resident_bytes
    return sizes


def _mib(costs: dict[int, Cost]) -> dict[str, int]:
    return {name: size >> 20 for name, size in sorted(_resident(costs).items())}


def _spent_us(before: dict[int, Cost], after: dict[int, Cost], messages: int) -> dict[str, int]:
    spent: dict[str, float] = {}
    for pid, cost in after.items():
        earlier_s = before[pid].cpu_s if pid in before else 0.0
        spent[cost.name] = spent.get(cost.name, 0.0) + cost.cpu_s - earlier_s
    return {name: round(each / max(1, messages) * 1e6) for name, each in sorted(spent.items())}


def _disk_mib(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) >> 20


if __name__ == "__main__":
    sys.exit(main())
