"""`make bench-carrier`: what a message costs the simulated carrier and the host's link to it.

The real simulator, flushed, in a process of its own over a loopback socket, and the real link in
this one: a closed loop of hand-overs in batches, with their receipts taken and acknowledged. What
this process spends is the link's, and a little of the loop's. The last line is one JSON object.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.processes import cost_of_self, tree
from trunkline.kernel import Deadline, SystemClock
from trunkline.messaging.carrier import Accepted, Outcome, Submission
from trunkline.messaging.carriers.simulated import SimulatedCarrier

READY_MAX_S: Final = 30.0
STOP_MAX_S: Final = 20.0
RUN_MAX_S: Final = 300.0
POLL_S: Final = 0.05
OUTCOME_MAX_S: Final = 30.0
RECEIVE_WAIT_S: Final = 0.5
REFERENCE_PREFIX: Final = "AC0123456789abcdef0123456789abcdef:SM"
"""As long as a real one."""
HANDSETS: Final = 10_000


def main() -> int:
    arguments = _arguments()
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-bench-") as folder,
        simulator(Path(folder)) as facts,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        result = runner.run(_measure(facts, arguments))
    print(json.dumps(result))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-carrier ARGS=...", description=__doc__)
    parser.add_argument("--messages", type=int, default=30_000)
    parser.add_argument("--batch", type=int, default=50, help="hand-overs that go together")
    parser.add_argument("--lanes", type=int, default=4, help="batches under way at once")
    parser.add_argument("--items", type=int, default=500, help="receipts asked for in one poll")
    return parser.parse_args()


@contextlib.contextmanager
def simulator(folder: Path) -> Iterator[dict[str, Any]]:
    """A simulator on a free port; ended when the block is."""
    process, ready = start_simulator(folder, "127.0.0.1:0")
    try:
        until = time.monotonic() + READY_MAX_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("the simulator did not become ready")
            time.sleep(POLL_S)
        facts: dict[str, Any] = json.loads(ready.read_text("utf-8"))
        yield facts
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=STOP_MAX_S)


def start_simulator(folder: Path, address: str) -> tuple["subprocess.Popen[bytes]", Path]:
    """The process, and the file that it writes when it is ready."""
    ready = folder / "simulator.ready"
    command = [
        sys.executable, "-m", "trunkline", "simulator", "--http", address,
        "--data", str(folder / "simulator"), "--ready-file", str(ready), "--die-with-parent",
    ]  # fmt: skip
    return subprocess.Popen(command, stderr=subprocess.DEVNULL), ready


@dataclass(slots=True)
class _Tally:
    """What came of the hand-overs. `numbers` make each text another one."""

    numbers: Iterator[int]
    handed_over: int = 0
    accepted: int = 0
    others: dict[str, int] = field(default_factory=dict)
    receipts: int = 0
    polls: int = 0


async def _measure(facts: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    carrier = SimulatedCarrier(
        name="simulated",
        url=facts["simulator_url"],
        bind="bench",
        window=arguments.batch * arguments.lanes,
        clock=SystemClock(),
        rng=random.Random(1),  # noqa: S311 - jitter, not secrets
    )
    numbers = itertools.count()
    tally = _Tally(numbers)
    async with asyncio.timeout(RUN_MAX_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(carrier.run())
        await asyncio.sleep(0)
        await _run(carrier, _Tally(numbers), min(1_000, arguments.messages), arguments)
        before, own_before, began = tree(facts["pid"]), cost_of_self(), time.perf_counter()
        await _run(carrier, tally, arguments.messages, arguments)
        seconds = time.perf_counter() - began
        after, own_after = tree(facts["pid"]), cost_of_self()
        counts = await asyncio.to_thread(counts_at, facts["simulator_url"])
        await carrier.close()
    spent = sum(cost.cpu_s for cost in after.values()) - sum(cost.cpu_s for cost in before.values())
    return {
        "messages": tally.handed_over,
        "accepted": tally.accepted,
        "other_outcomes": tally.others,
        "per_s": round(tally.handed_over / seconds),
        "simulator_cpu_us_per_message": round(spent / tally.handed_over * 1e6, 1),
        "link_cpu_us_per_message": round(
            (own_after.cpu_s - own_before.cpu_s) / tally.handed_over * 1e6, 1
        ),
        "receipts_per_poll": round(tally.receipts / max(1, tally.polls), 1),
        "simulator_resident_mib": round(after[facts["pid"]].resident_bytes / 2**20),
        "journal_bytes_per_message": round(_journal_bytes(facts["pid"]) / counts["submitted"]),
        "counts": counts,
    }


async def _run(
    carrier: SimulatedCarrier, tally: _Tally, messages: int, arguments: argparse.Namespace
) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_take_receipts(carrier, tally, messages, arguments.items))
        for _ in range(arguments.lanes):
            tasks.create_task(_hand_over(carrier, tally, messages, arguments.batch))


async def _hand_over(carrier: SimulatedCarrier, tally: _Tally, messages: int, batch: int) -> None:
    """One batch after another until all are handed over."""
    while tally.handed_over < messages:
        size = min(batch, messages - tally.handed_over)
        submissions = [_submission(next(tally.numbers)) for _ in range(size)]
        tally.handed_over += size
        done, left = asyncio.Event(), size

        def settle(_: int, outcome: Outcome, done: asyncio.Event = done) -> None:
            nonlocal left
            if isinstance(outcome, Accepted):
                tally.accepted += 1
            else:
                told = type(outcome).__name__
                tally.others[told] = tally.others.get(told, 0) + 1
            left -= 1
            if not left:
                done.set()

        deadline = Deadline.after(OUTCOME_MAX_S, SystemClock())
        carrier.submit_many(submissions, deadline=deadline, on_outcome=settle)
        await done.wait()


async def _take_receipts(
    carrier: SimulatedCarrier, tally: _Tally, messages: int, items_max: int
) -> None:
    while tally.receipts < messages:
        items = await carrier.receive(items_max, RECEIVE_WAIT_S)
        if items:
            tally.polls += 1
            tally.receipts += len(items)
            await carrier.acknowledge([item.item_id for item in items])


def _submission(number: int) -> Submission:
    return Submission(
        f"{REFERENCE_PREFIX}{number:032x}:1",
        "+15550001111",
        f"+1202556{number % HANDSETS:04d}",
        f"Your code is {number:06d}. It is good for ten minutes; tell it to nobody.",
    )


def counts_at(url: str) -> dict[str, int]:
    """What the simulator counted."""
    with urllib.request.urlopen(f"{url}/v1/counts", timeout=READY_MAX_S) as answer:
        counts: dict[str, int] = json.load(answer)
    return counts


def _journal_bytes(pid: int) -> int:
    """The size of the files that the simulator has open for writing its entries."""
    total = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = link.readlink()
            if target.suffix == ".jsonl":
                total += target.stat().st_size
    return total


if __name__ == "__main__":
    sys.exit(main())
