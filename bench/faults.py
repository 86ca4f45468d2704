"""`make bench-faults`: what the API and the messages notice when one of three hosts is hurt.

Each run has a new cluster, with the carrier outside it. An open loop of creates without keys goes
through the two hosts that stay; some seconds into it the third one is killed, frozen or cut off from
the others. Then it is counted at the carrier whether every accepted message came exactly once, and
how late. The load shares the machine with the hosts: how long its own loop stood still stands beside
each gap, since a gap that the load made itself is not the cluster's.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from bench import fault_hosts, fault_report
from bench.fault_figures import (
    Answer,
    Arrival,
    Deliveries,
    Look,
    Stall,
    changes,
    classes,
    deliveries,
    first_arrivals,
    hand_overs,
    in_hand,
    unrest,
    window,
)
from bench.fault_hosts import HOSTS, Leaders, Stage
from bench.fault_report import Run
from bench.load import Load
from bench.processes import Cost
from trunkline.drills.cluster import Host
from trunkline.drills.faults.network import reason_against_namespaces
from trunkline.drills.refusal import DrillError
from trunkline.kernel import SystemClock
from trunkline.log.shards import SHARDS

WARM_S: Final = 3.0
"""Load that nothing is counted of but whether it arrives."""
CONNECTIONS: Final = 200
"""To each host that stays: so many creates may wait there before the load itself makes others wait."""
TICK_S: Final = 0.005
STALL_LEAST_S: Final = 0.001
LOOK_EVERY_S: Final = 0.5
POLL_S: Final = 0.5
UNMOVED_S: Final = 3.0
"""When nothing more has come for so long, the hosts are asked what they know of what is missing."""
SETTLE_MAX_S: Final = 60.0
DOUBLE_GRACE_S: Final = 3.5
"""Longer than the log waits for a worker that says nothing: a double would come within it."""
CLOCK_READINGS: Final = 16
ASK_S: Final = 10.0
AMBIGUOUS_HEADER: Final = "X-Trunkline-Ambiguous-Attempts"
NOT_RUN: Final = 2


def main() -> int:
    """0 where every run kept what it accepted; 1 where one did not, or failed; 2 where this machine
    cannot run it."""
    arguments = _arguments()
    reason = reason_against_namespaces() if arguments.fault in fault_hosts.NETWORKED else ""
    if reason:
        print(f"not run: {reason}", file=sys.stderr)
        return NOT_RUN
    # So that what was started, networks too, is undone when somebody ends it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    runs: list[Run] = []
    failures: list[str] = []
    try:
        _all(arguments, runs, failures)
    except KeyboardInterrupt:
        failures.append("ended by a signal before its last run")
    fault_report.show(runs, failures, fault=arguments.fault, rate=arguments.rate)
    if arguments.json is not None:
        content = fault_report.as_content(runs, failures, _chosen(arguments))
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return 0 if all(run.is_kept for run in runs) and not failures else 1


def _all(arguments: argparse.Namespace, runs: list[Run], failures: list[str]) -> None:
    """Add each run to one of the two, so that they are there when it is ended in the middle."""
    for number in range(1, arguments.runs + 1):
        try:
            run = _one(arguments, number)
        except* (DrillError, OSError) as errors:
            failures.append(f"run {number}: {_first_of(errors)}")
            _tell(f"{failures[-1]} (failed)")
        else:
            runs.append(run)
            _tell(f"run {number}: {fault_report.in_a_line(run)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-faults ARGS=...", description=__doc__)
    parser.add_argument("--fault", choices=fault_hosts.FAULTS, default=fault_hosts.KILL)
    parser.add_argument("--runs", type=int, default=10, help="each with a new cluster")
    parser.add_argument("--rate", type=float, default=300.0, help="creates a second in all")
    parser.add_argument(
        "--victim",
        default=fault_hosts.MOST,
        help="a host's name, 'random', or 'most': the one that leads the most shards",
    )
    parser.add_argument(
        "--before", type=float, default=4.0, help="seconds of load before the fault"
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="how long it lasts, but a kill")
    parser.add_argument("--after", type=float, default=10.0, help="load from its beginning on")
    parser.add_argument("--window", type=int, default=200, help="the carrier link's window")
    parser.add_argument("--seed", type=int, default=1, help="of a random victim")
    parser.add_argument("--json", type=Path, help="write all figures there")
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: each for name, each in vars(arguments).items() if name != "json"}


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _first_of(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def _one(arguments: argparse.Namespace, number: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="trunkline-faults-") as folder:
        return uvloop.run(_Bench(arguments, number, Path(folder)).run())  # type: ignore[no-any-return]  # uvloop is untyped


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the load saw of one run, and what the hosts had cost by then."""

    answers: Sequence[Answer]
    stalls: Sequence[Stall]
    began_at: float
    fault_at: float
    ended_at: float
    leaders: Leaders
    """When the fault began."""
    costs_at_first: Mapping[int, Cost]
    costs_at_fault: Mapping[int, Cost]
    load_average: float


class _Watch:
    """Notes when the loop that it runs in came round late."""

    def __init__(self) -> None:
        self.stalls: list[Stall] = []

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            due_at = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            now = time.perf_counter()
            if now - due_at >= STALL_LEAST_S:
                self.stalls.append(Stall(now, now - due_at))


class _Bench:
    """One run."""

    def __init__(self, arguments: argparse.Namespace, number: int, folder: Path) -> None:
        self._arguments = arguments
        self._number = number
        self._folder = folder
        self._clock = SystemClock()
        self._raw: list[tuple[int, float, float, bytes]] = []
        self._troubles: list[str] = []
        self._looks: list[Look] = []
        self._fault_at = 0.0

    async def run(self) -> Run:
        settings = {"TRUNKLINE_CARRIER_WINDOW": str(self._arguments.window)}
        async with fault_hosts.running(
            self._folder,
            is_networked=self._arguments.fault in fault_hosts.NETWORKED,
            settings=settings,
            clock=self._clock,
            seed=self._arguments.seed,
        ) as stage:
            is_balanced = await stage.until_balanced()
            rng = random.Random(self._arguments.seed * 1_000 + self._number)  # noqa: S311 - repeatable
            victim = stage.victim(self._arguments.victim, rng)
            is_said = "" if is_balanced else ", leaders are not where they belong"
            _tell(f"run {self._number}: {self._arguments.fault} of {victim.name}{is_said}")
            stay = [host for host in stage.cluster.hosts() if host.name != victim.name]
            async with asyncio.TaskGroup() as tasks:
                looking = tasks.create_task(self._look(stage, victim))
                seen = await self._under_load(stage, victim, stay)
                await self._settle(stage, stay[0], seen)
                looking.cancel()
            return await self._judged(stage, victim, stay[0], seen, is_balanced=is_balanced)

    async def _look(self, stage: Stage, victim: Host) -> None:
        """Who leads, as those say that stay; until cancelled."""
        while True:
            leaders = await asyncio.to_thread(stage.leaders, victim.name)
            self._looks.append(Look(time.perf_counter(), leaders.by_shard()))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _under_load(self, stage: Stage, victim: Host, stay: Sequence[Host]) -> _Seen:
        chosen, watch = self._arguments, _Watch()
        creating: list[asyncio.Task[None]] = []
        loads = [
            Load(_facts(stage, host), witness=lambda *each: self._raw.append(each)) for host in stay
        ]
        at_first = await asyncio.to_thread(stage.costs)
        # What the interpreter would clear away in the middle would be a gap of the load's own.
        gc.collect()
        gc.freeze()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch.run())
            began_at = time.perf_counter()
            for number, load in enumerate(loads):
                creating.append(tasks.create_task(self._create(load, f"h{number}")))
            await asyncio.sleep(WARM_S + chosen.before)
            leaders = await asyncio.to_thread(stage.leaders)
            at_fault = await asyncio.to_thread(stage.costs)
            await fault_hosts.hurt(
                stage,
                chosen.fault,
                victim,
                seconds=chosen.seconds,
                is_mute=self._is_mute,
                on_begin=self._note_fault,
            )
            await asyncio.wait(creating)
            watching.cancel()
        gc.unfreeze()
        return _Seen(
            answers=[_answer(*each) for each in self._raw],
            stalls=watch.stalls,
            began_at=began_at + WARM_S,
            fault_at=self._fault_at,
            ended_at=began_at + WARM_S + chosen.before + chosen.after,
            leaders=leaders,
            costs_at_first=at_first,
            costs_at_fault=at_fault,
            load_average=os.getloadavg()[0],
        )

    async def _create(self, load: Load, name: str) -> None:
        """One host's share of the load. That a host that stays hangs up, or is silent, is a finding:
        what came until then is judged."""
        chosen = self._arguments
        try:
            await load.fixed_rate(
                rate=chosen.rate / (HOSTS - 1),
                seconds=WARM_S + chosen.before + chosen.after,
                connections=CONNECTIONS,
                run=name,
            )
        except OSError as error:
            self._troubles.append(f"share {name} of the load ended early: {error}")

    @property
    def _is_mute(self) -> bool:
        """Both ways in turn, where only one is cut."""
        return self._number % 2 == 1

    def _note_fault(self) -> None:
        self._fault_at = time.perf_counter()

    async def _judged(
        self, stage: Stage, victim: Host, asked: Host, seen: _Seen, *, is_balanced: bool
    ) -> Run:
        costs = await asyncio.to_thread(stage.costs)
        await asyncio.sleep(DOUBLE_GRACE_S)
        arrivals = await asyncio.to_thread(_arrivals, stage.carrier_file, _clocks_apart_s())
        delivered, ambiguous = await self._deliveries(stage, asked, seen, arrivals)
        first = first_arrivals(arrivals)
        of_messages = classes(
            in_hand(seen.answers, first, seen.fault_at),
            first,
            hurt=seen.leaders.hurt_without(victim.name),
            unrests=unrest(self._looks),
            shards=SHARDS,
        )
        before = window(seen.answers, seen.stalls, seen.began_at, seen.fault_at)
        since = window(seen.answers, seen.stalls, seen.fault_at, seen.ended_at)
        accepted_before = sum(e.is_accepted and e.at < seen.fault_at for e in seen.answers)
        return Run(
            number=self._number,
            fault=self._fault_words(),
            victim=victim.name,
            shards_led=len(seen.leaders.of_stream(victim.name)),
            is_balanced=is_balanced,
            troubles=self._troubles,
            load_average=seen.load_average,
            before=before,
            since=since,
            deliveries=delivered,
            ambiguous=tuple(ambiguous),
            led_by_victim=hand_overs(of_messages.led_by_victim, first, seen.fault_at),
            leader_changed=hand_overs(of_messages.leader_changed, first, seen.fault_at),
            steady=hand_overs(of_messages.steady, first, seen.fault_at),
            changes=changes(self._looks, seen.fault_at),
            cpu_before_us=_per_message(
                fault_hosts.spent_s(seen.costs_at_first, seen.costs_at_fault), accepted_before
            ),
            cpu_since_us=_per_message(
                fault_hosts.spent_s(seen.costs_at_fault, costs),
                delivered.accepted - accepted_before,
            ),
        )

    def _fault_words(self) -> str:
        if self._arguments.fault != fault_hosts.ONE_WAY:
            return str(self._arguments.fault)
        return f"{fault_hosts.ONE_WAY}: it {'is not heard' if self._is_mute else 'does not hear'}"

    async def _settle(self, stage: Stage, host: Host, seen: _Seen) -> None:
        """Until all that was accepted is with the carrier, or ambiguous; or for a minute."""
        accepted = {each.text: each.sid for each in seen.answers if each.is_accepted}
        give_up_at = self._clock.monotonic() + SETTLE_MAX_S
        last, moved_at = -1, self._clock.monotonic()
        while self._clock.monotonic() < give_up_at:
            arrivals = await asyncio.to_thread(_arrivals, stage.carrier_file, 0.0)
            missing = accepted.keys() - {each.text for each in arrivals}
            if not missing:
                return
            if len(missing) != last:
                last, moved_at = len(missing), self._clock.monotonic()
            if self._clock.monotonic() - moved_at >= UNMOVED_S:
                sids = [accepted[text] for text in missing]
                if len(await asyncio.to_thread(_ambiguous, stage, host, sids)) == len(sids):
                    return
                moved_at = self._clock.monotonic()
            await asyncio.sleep(POLL_S)

    async def _deliveries(
        self, stage: Stage, host: Host, seen: _Seen, arrivals: Sequence[Arrival]
    ) -> tuple[Deliveries, Sequence[str]]:
        """Whether each came once, and the SIDs of those that are ambiguous."""
        sid_of = {each.text: each.sid for each in seen.answers if each.is_accepted}
        plain = deliveries(seen.answers, arrivals, ())
        doubtful = {*plain.lost, *plain.doubled} & sid_of.keys()
        sids = [sid_of[text] for text in sorted(doubtful)]
        ambiguous = await asyncio.to_thread(_ambiguous, stage, host, sids)
        return deliveries(seen.answers, arrivals, ambiguous), sorted(ambiguous)


def _facts(stage: Stage, host: Host) -> dict[str, str]:
    account = stage.cluster.account
    return {
        "base_url": host.base_url,
        "account_sid": account.sid,
        "auth_token": account.auth_token,
        "phone_number": account.phone_number,
    }


def _answer(status: int, due_at: float, at: float, whole: bytes) -> Answer:
    if status != 201:
        return Answer(status, due_at, at)
    content = json.loads(whole.partition(b"\r\n\r\n")[2])
    return Answer(status, due_at, at, text=content["body"], sid=content["sid"])


def _clocks_apart_s() -> float:
    """From the load's clock to the carrier's, which is the wall's of the same machine."""
    clock = SystemClock()
    # In a reading that was interrupted the second clock is late, and the difference too small.
    return max(clock.wall() - time.perf_counter() for _ in range(CLOCK_READINGS))


def _arrivals(file: Path, apart_s: float) -> list[Arrival]:
    """What the carrier took, by its own flushed file, in the load's time."""
    found: list[Arrival] = []
    with file.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break  # it is being written
            entry = json.loads(line)
            if entry["event"] == "submitted" and entry.get("message_id"):
                is_marked = bool(entry.get("possible_duplicate", False))
                found.append(Arrival(entry["body"], entry["at"] - apart_s, is_marked))
    return found


def _ambiguous(stage: Stage, host: Host, sids: Sequence[str]) -> set[str]:
    """Those of `sids` of which the host says that nobody knows whether the carrier took them."""
    account = stage.cluster.account
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    passwords.add_password(
        None, host.base_url, account.sid, account.auth_token, is_authenticated=True
    )
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
    found: set[str] = set()
    for sid in sids:
        url = f"{host.base_url}/2010-04-01/Accounts/{account.sid}/Messages/{sid}.json"
        with opener.open(url, timeout=ASK_S) as answer:
            if int(answer.headers.get(AMBIGUOUS_HEADER, "0")):
                found.add(sid)
    return found


def _per_message(spent_s: Mapping[str, float], messages: int) -> dict[str, float]:
    return {name: seconds / max(1, messages) * 1e6 for name, seconds in spent_s.items()}


if __name__ == "__main__":
    sys.exit(main())
