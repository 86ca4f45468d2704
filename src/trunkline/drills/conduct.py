"""One drill from beginning to end: load before, during and after the fault, quiet, the last look."""

import asyncio
import contextlib
import dataclasses
import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from trunkline.drills.backlog import Backlog
from trunkline.drills.checker import FINAL
from trunkline.drills.cluster import Cluster, UpCluster
from trunkline.drills.faults.network import Network
from trunkline.drills.load import Load, Means, Target
from trunkline.drills.namespaced import NamespacedCluster
from trunkline.drills.observer.carrier import extract
from trunkline.drills.observer.last_look import last_look
from trunkline.drills.observer.receiver import STATUS_PATH, TEXT_PATH, Receiver
from trunkline.drills.observer.witnesses import Witnesses, history_in, witnesses
from trunkline.drills.phones import phones
from trunkline.drills.refusal import DrillError, NotRecovered, NotRun
from trunkline.drills.result import Result, judge, not_recovered, not_run
from trunkline.drills.stage import (
    HOSTS_PROMISED_MIN,
    LOOPBACK,
    PROMISED_GAP_MS,
    Mark,
    Options,
    Scenario,
    Stage,
)
from trunkline.kernel import Clock

BREAK_VARIABLE: Final = "TRUNKLINE_BREAK"
DRILL_MARK: Final = "trunkline-drill"

NUMBER: Final = "+12025550199"
"""To which handsets send: its texts go to the application."""
HANDSET: Final = "+13125550100"
TEXT_EVERY_S: Final = 0.5
SET_UP_S: Final = 30.0
LOOK_AT_ONCE: Final = 16
POLL_S: Final = 0.25
DOUBLE_GRACE_S: Final = 3.5
"""Longer than the log waits for a worker that says nothing: a double would come within it."""
QUIET_S: Final = 75.0
"""Longer than anybody may work on a delivery: what has not come by then does not come."""
SETTLE_MAX_S: Final = 240.0
LAST_LOOK_S: Final = 20.0


async def conduct(scenario: Scenario, options: Options, folder: Path, clock: Clock) -> Result:
    """Run it in `folder`, which is empty, and judge it. What this machine cannot run is `not-run`.

    Raises `DrillError` where it came to nothing for a reason that says nothing about the hosts.
    """
    reason = scenario.needs(options)
    if not reason and options.hosts < scenario.hosts_min:
        reason = f"it needs {scenario.hosts_min} hosts"
    if reason:
        return not_run(scenario.name, options, reason)
    began = clock.monotonic()
    try:
        seen = await _seen(scenario, options, folder, clock)
    except NotRecovered as lasting:
        return not_recovered(scenario.name, options, str(lasting))
    except NotRun as refusal:
        return not_run(scenario.name, options, str(refusal))
    terms = scenario.terms(options)
    if options.is_timing_judged and options.hosts >= HOSTS_PROMISED_MIN:
        terms = dataclasses.replace(terms, gap_max_ms=PROMISED_GAP_MS)
    return judge(
        scenario.name,
        options,
        history_in(folder, hosts=seen.hosts),
        terms,
        marks=seen.marks,
        backlog=seen.backlog,
        duration_s=clock.monotonic() - began,
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is not in the witnesses' files."""

    hosts: tuple[str, ...]
    marks: tuple[Mark, ...]
    backlog: Backlog | None


async def _seen(scenario: Scenario, options: Options, folder: Path, clock: Clock) -> _Seen:
    with witnesses(folder) as files:
        async with _set_up(scenario, options, folder, files, clock) as stage:
            await _under_load(scenario, stage)
            await _settle(scenario, stage)
            await _look_up_all(stage)
            hosts = stage.cluster.hosts()
            for shown in await last_look(
                stage.session,
                hosts,
                stage.cluster.account,
                expected=stage.load.tally.accepted,
                clock=clock,
                within_s=LAST_LOOK_S,
            ):
                files.client.write(shown)
        extract(stage.phones.file, files.carrier, files.handsets)
    return _Seen(tuple(each.name for each in hosts), tuple(stage.marks), stage.backlog)


@contextlib.asynccontextmanager
async def _set_up(
    scenario: Scenario, options: Options, folder: Path, files: Witnesses, clock: Clock
) -> AsyncIterator[Stage]:
    rng = _dice(options, "stage")
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        network = None
        if scenario.is_networked:
            network = Network.made(options.hosts, number=os.getpid())
            stack.callback(network.remove)
        address = LOOPBACK if network is None else network.address
        receiver = Receiver(files.webhooks, clock)
        await stack.enter_async_context(receiver.serve(address))
        carrier = await stack.enter_async_context(
            phones(folder / "simulator", session, clock=clock, seed=options.seed, address=address)
        )
        place = folder / "hosts"
        if scenario.ground is not None:
            stack.enter_context(scenario.ground(place))
        cluster = _cluster(scenario, options, place, network, carrier.url, clock)
        stack.push_async_callback(cluster.stop)
        await cluster.start()
        receiver.expect_signatures_of(cluster.account.auth_token)
        load = Load(
            lambda: [Target(each.name, each.base_url) for each in cluster.hosts()],
            cluster.account,
            Means(session, files.client, clock, _dice(options, "load")),
            run=f"{scenario.name}-{options.seed}",
            callback=receiver.base_url + STATUS_PATH,
            is_keyed=options.is_keyed,
        )
        stage = Stage(cluster, carrier, receiver, load, session, options, folder, clock, rng)
        if scenario.tidy is not None:
            stack.push_async_callback(scenario.tidy, stage)
        if scenario.prepare is not None:
            await scenario.prepare(stage)
        await _own_number(stage)
        yield stage


def _dice(options: Options, whose: str) -> random.Random:
    """Of one part: how often the load throws its own must not change which host is hurt."""
    return random.Random(f"{options.seed} {whose}")  # noqa: S311 - repeatable, not secret


def _cluster(
    scenario: Scenario,
    options: Options,
    place: Path,
    network: Network | None,
    carrier_url: str,
    clock: Clock,
) -> Cluster:
    settings = dict(scenario.settings)
    if options.broken:
        # Hosts take it only below a folder that says that it is a drill's.
        (place.parent / DRILL_MARK).touch()
        settings[BREAK_VARIABLE] = options.broken
    if network is not None:
        return NamespacedCluster(
            place, network, carrier_url=carrier_url, clock=clock, settings=settings
        )
    return UpCluster(
        place,
        hosts=options.hosts,
        carrier_url=carrier_url,
        clock=clock,
        settings=settings,
    )


async def _own_number(stage: Stage) -> None:
    """A number whose texts go to the application."""
    account = stage.cluster.account
    form = {"PhoneNumber": NUMBER, "SmsUrl": stage.receiver.base_url + TEXT_PATH}
    give_up_at = stage.clock.monotonic() + SET_UP_S
    while True:
        host = stage.cluster.hosts()[0]
        try:
            async with stage.session.post(
                f"{host.base_url}/2010-04-01/Accounts/{account.sid}/IncomingPhoneNumbers.json",
                data=form,
                auth=aiohttp.BasicAuth(account.sid, account.auth_token),
                headers={"Idempotency-Key": "drill-number"},
                timeout=aiohttp.ClientTimeout(total=SET_UP_S),
            ) as answer:
                if answer.status == 201:
                    return
                words = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            words = str(error)
        if stage.clock.monotonic() > give_up_at:
            raise DrillError(f"the account cannot be given a number ({words})", "see the hosts")
        await asyncio.sleep(POLL_S)


async def _under_load(scenario: Scenario, stage: Stage) -> None:
    stop = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stage.load.run(stage.options.rate_per_s, stop))
            texting = tasks.create_task(_text_now_and_then(stage))
            await asyncio.sleep(scenario.before_s + stage.rng.uniform(0.0, 1.0))
            await scenario.act(stage)
            await asyncio.sleep(scenario.after_s)
            texting.cancel()
            stop.set()
    except* DrillError as errors:
        raise first_of(errors) from errors


async def _text_now_and_then(stage: Stage) -> None:
    number = 0
    while True:
        number += 1
        await stage.phones.text(HANDSET, NUMBER, f"text-{stage.options.seed}-{number}")
        await asyncio.sleep(TEXT_EVERY_S)


async def _settle(scenario: Scenario, stage: Stage) -> None:
    """Until all is told and no double came, or nothing has moved for long."""
    clock = stage.clock
    give_up_at = clock.monotonic() + SETTLE_MAX_S
    ends = FINAL if scenario.terms(stage.options).is_receipt_certain else FINAL | {"sent"}
    last, moved_at = "", clock.monotonic()
    while clock.monotonic() < give_up_at:
        counts = await stage.phones.counts()
        seen = f"{counts['submitted']} {counts['items_pending']} {stage.receiver.requests}"
        if seen != last:
            last, moved_at = seen, clock.monotonic()
        quiet_s = clock.monotonic() - moved_at
        if quiet_s >= QUIET_S:
            return
        if quiet_s >= DOUBLE_GRACE_S and await _is_all_told(stage, ends):
            return
        await asyncio.sleep(POLL_S)


async def _is_all_told(stage: Stage, ends: frozenset[str]) -> bool:
    """Every accepted message was told its end, or is ambiguous, for which there may be none."""
    accepted, told = stage.load.tally.accepted, stage.receiver.told
    for sid in [each for each in accepted if not told[each] & ends]:
        read = await stage.load.look_up(_any_target(stage), sid)
        if read is None or not read.ambiguous:
            return False
    return True


def _any_target(stage: Stage) -> Target:
    host = stage.pick_host()
    return Target(host.name, host.base_url)


async def _look_up_all(stage: Stage) -> None:
    """Each accepted message once more, by its SID, on any host."""
    waiting = list(stage.load.tally.accepted)

    async def some() -> None:
        while waiting:
            sid = waiting.pop()
            if await stage.load.look_up(_any_target(stage), sid) is None:
                await stage.load.look_up(_any_target(stage), sid)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(LOOK_AT_ONCE):
            tasks.create_task(some())


def first_of(group: BaseExceptionGroup[DrillError]) -> DrillError:
    """The first refusal of a group, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, DrillError):
        raise error
    return error
