"""`make bench`: one host, flushed, with load and simulated carrier on the same machine.

Two phases on one run. At a fixed rate: what a create costs its caller. At saturation: how many are
accepted a second, and how many a second reach a handset while more are being accepted. The last
line is one JSON object.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.load import Load, Sample
from bench.processes import Cost, cost_of_self, tree

READY_MAX_S: Final = 30.0
STOP_MAX_S: Final = 30.0
DRAIN_MAX_S: Final = 300.0
POLL_S: Final = 0.05


def main() -> int:
    arguments = _arguments()
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-bench-") as folder,
        _up(Path(folder), arguments) as facts,
    ):
        result = asyncio.run(_measure(facts, arguments))
    _show(result)
    print(json.dumps(result))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--rate", type=float, default=500.0, help="creates a second in phase one")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each phase")
    parser.add_argument("--connections", type=int, default=64, help="connections at saturation")
    parser.add_argument("--window", type=int, default=200, help="the carrier link's window")
    parser.add_argument("--config", type=Path, help="a configuration file for the host")
    return parser.parse_args()


@contextlib.contextmanager
def _up(folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A host with its simulator on free ports; ended when the block is."""
    ready = folder / "ready.json"
    command = [
        sys.executable, "-m", "trunkline", "up", "--data", str(folder / "data"),
        "--http", "127.0.0.1:0", "--ready-file", str(ready),
    ]  # fmt: skip
    if arguments.config:
        command += ["--config", str(arguments.config)]
    environment = {
        **os.environ,  # noqa: TID251 - a benchmark hands its environment down
        "TRUNKLINE_CARRIER_SIMULATOR_HTTP": "127.0.0.1:0",
        "TRUNKLINE_CARRIER_WINDOW": str(arguments.window),
        "TRUNKLINE_HOST_LOG_LEVEL": "warning",
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


async def _measure(facts: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    load = Load(facts)
    idle = sum(cost.resident_bytes for cost in tree(facts["pid"]).values())
    await load.fixed_rate(rate=50, seconds=1, connections=8, run="warm")
    await asyncio.to_thread(_until_delivered, facts, 50)
    fixed = await load.fixed_rate(
        rate=arguments.rate, seconds=arguments.seconds, connections=64, run="fixed"
    )
    await asyncio.to_thread(_until_delivered, facts, 50 + fixed.accepted)
    before, load_before, began = tree(facts["pid"]), cost_of_self(), time.perf_counter()
    lags: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        watcher = tasks.create_task(_watch_lag(facts, lags))
        full = await load.closed_loop(
            connections=arguments.connections, seconds=arguments.seconds, run="full"
        )
        delivered_at_end = await asyncio.to_thread(_delivered, facts)
        watcher.cancel()
    await asyncio.to_thread(_until_delivered, facts, 50 + fixed.accepted + full.accepted)
    end_to_end_s = time.perf_counter() - began
    after, load_after = tree(facts["pid"]), cost_of_self()
    costs = _costs(before, after) | {"load": load_after.cpu_s - load_before.cpu_s}
    return _result(
        fixed, full, end_to_end_s, delivered_at_end - 50 - fixed.accepted, costs, after, lags, idle
    )


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
        time.sleep(POLL_S)


def _costs(before: dict[int, Cost], after: dict[int, Cost]) -> dict[str, float]:
    costs: dict[str, float] = {}
    for pid, cost in after.items():
        spent = cost.cpu_s - (before[pid].cpu_s if pid in before else 0.0)
        costs[cost.name] = costs.get(cost.name, 0.0) + spent
    return costs


def _result(
    fixed: Sample,
    full: Sample,
    end_to_end_s: float,
    delivered_while_accepting: int,
    costs: dict[str, float],
    processes: dict[int, Cost],
    lags: list[float],
    idle_bytes: int,
) -> dict[str, Any]:
    messages = max(1, full.accepted)
    return {
        "fixed_rate_per_s": round(fixed.accepted / fixed.seconds),
        "fixed_rate_p50_ms": round(fixed.percentile_ms(0.50), 2),
        "fixed_rate_p99_ms": round(fixed.percentile_ms(0.99), 2),
        "accepts_per_s": round(full.accepted / full.seconds),
        "accept_p50_ms": round(full.percentile_ms(0.50), 2),
        "accept_p99_ms": round(full.percentile_ms(0.99), 2),
        "not_accepted": {**fixed.refused, **full.refused},
        "delivered_per_s_while_accepting": round(delivered_while_accepting / full.seconds),
        "end_to_end_per_s": round(full.accepted / end_to_end_s),
        "cpu_us_per_message": {
            name: round(spent / messages * 1e6) for name, spent in sorted(costs.items())
        },
        "cpu_us_per_message_total": round(sum(costs.values()) / messages * 1e6),
        "resident_mib": {
            cost.name: round(cost.resident_bytes / 2**20) for cost in processes.values()
        },
        "resident_mib_total": round(
            sum(cost.resident_bytes for cost in processes.values()) / 2**20
        ),
        "resident_mib_idle": round(idle_bytes / 2**20),
        "replica_lag_ms_max": round(max(lags, default=0.0)),
        "messages": full.accepted + fixed.accepted,
    }


def _show(result: dict[str, Any]) -> None:
    table = Table("what", "figure", title="one host, flushed; load and carrier on the same machine")
    for name, value in result.items():
        table.add_row(name.replace("_", " "), json.dumps(value).strip("{}").replace('"', ""))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
