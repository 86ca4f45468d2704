"""`make bench`: hosts, flushed, with load and simulated carrier on the same machine.

Two phases on one run, behind a warm-up at the first one's rate. At a fixed rate: what a create costs
its caller. At saturation: how many are accepted a second, and how many a second reach a handset while
more are being accepted. Costs are counted until the last message of a phase has arrived. The last line
is one JSON object.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.table import Table

from bench.load import Loads, Sample
from bench.processes import Cost, cost_of_self, memory_bytes, tree

READY_MAX_S: Final = 30.0
STOP_MAX_S: Final = 30.0
DRAIN_MAX_S: Final = 300.0
RATE_CONNECTIONS: Final = 64
POLL_S: Final = 0.05
DRAIN_POLL_S: Final = 0.1
"""Asking costs the load some milliseconds, and its CPU is counted."""


def main() -> int:
    arguments = _arguments()
    os.sync()  # what others wrote before is not ours to wait for
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-bench-") as folder,
        up(Path(folder), arguments) as facts,
    ):
        result = uvloop.run(_measure(facts, arguments))
    _show(result)
    print(json.dumps(result))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--rate", type=float, default=1000.0, help="creates a second in phase one")
    parser.add_argument("--warm", type=float, default=5.0, help="seconds at that rate before it")
    parser.add_argument(
        "--keyed", type=float, default=0.0, help="share of creates with an Idempotency-Key, 0 to 1"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each phase")
    parser.add_argument("--connections", type=int, default=64, help="connections at saturation")
    parser.add_argument("--window", type=int, default=200, help="the carrier link's window")
    parser.add_argument("--config", type=Path, help="a configuration file for the host")
    parser.add_argument(
        "--hosts", type=int, default=1, help="hosts, each with its share of the load"
    )
    return parser.parse_args()


@contextlib.contextmanager
def up(
    folder: Path, arguments: argparse.Namespace, settings: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """A host with its simulator on free ports, unless `settings` say otherwise; ended when the
    block is."""
    ready = folder / "ready.json"
    command = [
        sys.executable, "-m", "trunkline", "up", "--data", str(folder / "data"),
        "--http", "127.0.0.1:0", "--ready-file", str(ready), "--hosts", str(arguments.hosts),
    ]  # fmt: skip
    if arguments.config:
        command += ["--config", str(arguments.config)]
    environment = {
        **os.environ,  # noqa: TID251 - a benchmark hands its environment down
        "TRUNKLINE_CARRIER_SIMULATOR_HTTP": "127.0.0.1:0",
        "TRUNKLINE_CARRIER_WINDOW": str(arguments.window),
        "TRUNKLINE_HOST_LOG_LEVEL": "warning",
        **(settings or {}),
    }
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + READY_MAX_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("trunkline up did not become ready; see its words above")
            time.sleep(POLL_S)
        facts: dict[str, Any] = json.loads(ready.read_text("utf-8"))
        yield facts
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=STOP_MAX_S)


@dataclass(frozen=True, slots=True)
class Phase:
    """What one phase showed: until its last message had reached a handset, in the case of costs."""

    sample: Sample
    delivered_while_accepting: int
    end_to_end_s: float
    cpu_us: dict[str, int]
    """CPU microseconds a message, by process."""

    @property
    def end_to_end_per_s(self) -> int:
        return round(self.sample.accepted / self.end_to_end_s)


class _Bench:
    """A host that runs, the load on it, and how many of its messages must have arrived."""

    def __init__(self, facts: dict[str, Any], *, keyed: float) -> None:
        self.facts = facts
        self.load = Loads(facts, keyed=keyed)
        self._accepted = 0

    async def phase(self, load: Awaitable[Sample]) -> Phase:
        """Let `load` run, and wait until all that was accepted has arrived."""
        before, load_before, began = tree(self.facts["pid"]), cost_of_self(), time.perf_counter()
        arrived_before = self._accepted
        sample = await load
        arrived = await asyncio.to_thread(_delivered, self.facts)
        self._accepted += sample.accepted
        await asyncio.to_thread(_until_delivered, self.facts, self._accepted)
        end_to_end_s = time.perf_counter() - began
        spent_s = _costs(before, tree(self.facts["pid"]))
        spent_s["load"] = cost_of_self().cpu_s - load_before.cpu_s
        messages = max(1, sample.accepted)
        cpu_us = {name: round(s / messages * 1e6) for name, s in sorted(spent_s.items())}
        return Phase(sample, arrived - arrived_before, end_to_end_s, cpu_us)


async def _measure(facts: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    idle = tree(facts["pid"])
    idle_bytes = memory_bytes(idle)
    bench = _Bench(facts, keyed=arguments.keyed)
    load, rate = bench.load, arguments.rate

    def at_rate(seconds: float, run: str) -> Awaitable[Sample]:
        return load.fixed_rate(rate=rate, seconds=seconds, connections=RATE_CONNECTIONS, run=run)

    await bench.phase(at_rate(arguments.warm, "warm"))
    fixed = await bench.phase(at_rate(arguments.seconds, "fixed"))
    lags: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        watcher = tasks.create_task(_watch_lag(facts, lags))
        full = await bench.phase(
            load.closed_loop(
                connections=arguments.connections, seconds=arguments.seconds, run="full"
            )
        )
        watcher.cancel()
    result = _result(fixed, full, lags)
    return {
        **result,
        "memory_mib_idle": idle_bytes >> 20,
        "resident_mib_idle": _resident_bytes(idle) >> 20,
        "memory_mib": memory_bytes(tree(facts["pid"])) >> 20,
        "resident_mib": _resident_bytes(tree(facts["pid"])) >> 20,
    }


async def _watch_lag(facts: dict[str, Any], lags: list[float]) -> None:
    while True:
        lags.append(await asyncio.to_thread(_lag_ms, facts))
        await asyncio.sleep(POLL_S * 4)


def _lag_ms(facts: dict[str, Any]) -> float:
    account, token = facts["account_sid"], facts["auth_token"]
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    passwords.add_password(None, facts["base_url"], account, token, is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
    url = f"{facts['base_url']}/2010-04-01/Accounts/{account}/Messages.json?PageSize=1"
    with opener.open(url, timeout=READY_MAX_S) as answer:
        return float(answer.headers["X-Trunkline-Replica-Lag-Ms"])


def _delivered(facts: dict[str, Any]) -> int:
    with urllib.request.urlopen(
        f"{facts['simulator_url']}/v1/counts", timeout=READY_MAX_S
    ) as answer:
        return int(json.load(answer)["delivered"])


def _until_delivered(facts: dict[str, Any], wanted: int) -> None:
    until = time.monotonic() + DRAIN_MAX_S
    while (delivered := _delivered(facts)) < wanted:
        if time.monotonic() > until:
            raise SystemExit(f"only {delivered} of {wanted} messages arrived in {DRAIN_MAX_S} s")
        time.sleep(DRAIN_POLL_S)


def _costs(before: dict[int, Cost], after: dict[int, Cost]) -> dict[str, float]:
    costs: dict[str, float] = {}
    for pid, cost in after.items():
        spent = cost.cpu_s - (before[pid].cpu_s if pid in before else 0.0)
        costs[cost.name] = costs.get(cost.name, 0.0) + spent
    return costs


def _resident_bytes(processes: Mapping[int, Cost]) -> int:
    return sum(cost.resident_bytes for cost in processes.values())


def _result(fixed: Phase, full: Phase, lags: list[float]) -> dict[str, Any]:
    return {
        "fixed_rate_per_s": round(fixed.sample.accepted / fixed.sample.seconds),
        "fixed_rate_p50_ms": round(fixed.sample.percentile_ms(0.50), 2),
        "fixed_rate_p99_ms": round(fixed.sample.percentile_ms(0.99), 2),
        "fixed_rate_cpu_us_per_message": fixed.cpu_us,
        "accepts_per_s": round(full.sample.accepted / full.sample.seconds),
        "accept_p50_ms": round(full.sample.percentile_ms(0.50), 2),
        "accept_p99_ms": round(full.sample.percentile_ms(0.99), 2),
        "not_accepted": {**fixed.sample.refused, **full.sample.refused},
        "delivered_per_s_while_accepting": round(
            full.delivered_while_accepting / full.sample.seconds
        ),
        "end_to_end_per_s": full.end_to_end_per_s,
        "cpu_us_per_message": full.cpu_us,
        "cpu_us_per_message_total": sum(full.cpu_us.values()),
        "replica_lag_ms_max": round(max(lags, default=0.0)),
        "messages": full.sample.accepted + fixed.sample.accepted,
    }


def _show(result: dict[str, Any]) -> None:
    table = Table("what", "figure", title="flushed; load and carrier on the same machine")
    for name, value in result.items():
        table.add_row(name.replace("_", " "), json.dumps(value).strip("{}").replace('"', ""))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
