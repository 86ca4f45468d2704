"""Three log servers, of which one is killed or frozen: everything that does not need it goes on."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import structlog
from tests.system.log_cluster import NAMES, Cluster, cluster

from trunkline.kernel import Deadline, SystemClock
from trunkline.log.engines.jetstream import JetStreamLog
from trunkline.log.engines.jetstream.consume import JetStreamFollower
from trunkline.log.interface import (
    Accepted,
    Consumer,
    Follower,
    LogUnavailable,
    Refused,
    Stored,
    Unknown,
)
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.log.shards import SHARDS

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.anyio, pytest.mark.timeout(90)]

CLOCK = SystemClock()
OWN, OTHER, THIRD = NAMES
GOES_ON_S = 0.3
FOLLOWED_S = 4.0
"""The least that an election takes."""
ELECTED_S = 25.0
LIMIT_S = 5.0
PUBLISHES_KNOWN = 70
"""Enough to know how long they take."""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as started:
        yield started


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_a_host_without_its_own_server_goes_on_through_another_one(
    servers: Cluster, fault: str
) -> None:
    async with servers.open(OWN) as log:
        led = await spread_leaders(log)
        others = [*led[OTHER], *led[THIRD]]
        await learn_how_long_publishes_take(log, led[OWN])
        await put(log, others, b"before")
        followers = {shard: await log.follower(shard, after=0) for shard in others}
        for shard in others:
            assert await followed(followers[shard], 1) == [b"before"]

        getattr(servers, fault)(OWN)
        broken_at = CLOCK.monotonic()
        went_on_s = await until_taken(log, others[0], broken_at)
        found = await log.read_first(others[1], subject(others[1], b"before"), timeout_s=LIMIT_S)
        await put(log, others, b"after")
        seen = await all_followed(followers, until=b"after")
        followed_s = CLOCK.monotonic() - broken_at

        assert followed_s < FOLLOWED_S
        assert went_on_s < GOES_ON_S
        assert isinstance(found, Stored)
        assert found.payload == b"before"
        assert seen == {
            shard: [b"first", b"after"] if shard == others[0] else [b"after"] for shard in others
        }


async def test_followers_have_their_place_on_the_own_server_and_return_to_it(
    servers: Cluster,
) -> None:
    async with servers.open(OWN) as log:
        followers = {shard: await log.follower(shard, after=0) for shard in range(SHARDS)}
        await put(log, range(SHARDS), b"first")
        await all_followed(followers, until=b"first")
        assert places_of(log) == {OWN}

        # The servers' own leader gives places, and may be the one that is killed.
        servers.kill(OWN)
        deadline = Deadline.after(ELECTED_S, CLOCK)
        while OWN in places_of(log):
            assert not deadline.has_passed()
            await look_at(followers)
        await asyncio.to_thread(servers.start, OWN)
        deadline = Deadline.after(ELECTED_S, CLOCK)
        while places_of(log) != {OWN}:
            assert not deadline.has_passed(), places_of(log)
            await look_at(followers)

        await put(log, range(SHARDS), b"last", timeout_s=ELECTED_S)
        await all_followed(followers, until=b"last")


async def test_who_waits_for_servers_that_are_all_away_lets_others_work(servers: Cluster) -> None:
    async with servers.open(OWN) as log:
        followers = {shard: await log.follower(shard, after=0) for shard in range(SHARDS)}
        await look_at(followers)
        for name in NAMES:
            servers.freeze(name)
        deadline = Deadline.after(LIMIT_S, CLOCK)
        while log.is_connected:
            assert not deadline.has_passed()
            await CLOCK.sleep(0.05)

        turns = 0
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(cannot_be_followed(log, shard)) for shard in range(SHARDS)]
            while not all(each.done() for each in waiting):
                turns += 1
                await CLOCK.sleep(0.05)
        assert turns > SHARDS


async def cannot_be_followed(log: JetStreamLog, shard: int) -> None:
    with pytest.raises(LogUnavailable):
        await log._open_follower(shard, 0)


async def test_an_own_server_that_begins_anew_refuses_nothing_that_others_take(
    servers: Cluster,
) -> None:
    async with servers.open(OWN) as log:
        led = await spread_leaders(log, OTHER, THIRD)
        shards = [*led[OTHER], *led[THIRD]]
        own = log._requests.routes[0].connection
        servers.kill(OWN)
        is_back = asyncio.Event()
        own.when_shaken(lambda connection: is_back.set() if connection.is_connected else None)
        refused: list[object] = []

        async def create_all_the_while() -> None:
            number = behind = 0
            while behind < PUBLISHES_KNOWN:
                number, behind = number + 1, behind + 1 if is_back.is_set() else 0
                shard = shards[number % len(shards)]
                word = b"%d" % number
                answer = await log.publish(
                    shard, subject(shard, word), word, expected=0, timeout_s=LIMIT_S
                )
                if not isinstance(answer, Accepted | Unknown):
                    refused.append(answer)

        async with asyncio.timeout(ELECTED_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(create_all_the_while())
            await asyncio.to_thread(servers.start, OWN)

        assert refused == []


async def test_a_shard_whose_leader_was_killed_is_surely_not_written_at_once(
    servers: Cluster,
) -> None:
    async with servers.open(OWN) as log:
        led = await spread_leaders(log)
        servers.kill(OTHER)
        broken_at = CLOCK.monotonic()

        answer = await log.publish(
            led[OTHER][0], subject(led[OTHER][0], b"x"), b"x", expected=0, timeout_s=TRY_TIMEOUT_S
        )
        while isinstance(answer, Unknown):  # the own server had not noticed yet
            answer = await log.publish(
                led[OTHER][0], subject(led[OTHER][0], b"x"), b"x", expected=0, timeout_s=0.05
            )
        assert isinstance(answer, Refused)
        assert CLOCK.monotonic() - broken_at < GOES_ON_S
        assert await until_taken(log, led[OWN][0], broken_at) < GOES_ON_S


async def test_a_frozen_leader_costs_nobody_an_event(servers: Cluster) -> None:
    async with servers.open(OWN) as log:
        led = await spread_leaders(log)
        shards = range(SHARDS)
        followers = {shard: await log.follower(shard, after=0) for shard in shards}
        consumers = {
            shard: await log.consumer(shard, "service", [f"ev.{shard}.>"]) for shard in shards
        }
        await put(log, shards, b"before")
        for shard in shards:
            assert await followed(followers[shard], 1) == [b"before"]
            assert await consumed(consumers[shard], until=b"before") == {b"before"}

        servers.freeze(OTHER)
        broken_at = CLOCK.monotonic()
        healthy = [*led[OWN], *led[THIRD]]
        went_on_s = await until_taken(log, healthy[0], broken_at)
        await put(log, healthy, b"meanwhile")
        await all_followed({shard: followers[shard] for shard in healthy}, until=b"meanwhile")
        followed_s = CLOCK.monotonic() - broken_at
        await put(log, shards, b"after", timeout_s=ELECTED_S)
        for shard in shards:
            seen = await followed(followers[shard], 1, until=b"after")
            assert seen.count(b"after") == 1
            assert b"after" in await consumed(consumers[shard], until=b"after")
            await no_gap(log, shard)

        assert went_on_s < GOES_ON_S
        assert followed_s < FOLLOWED_S
        servers.thaw(OTHER)


async def test_a_host_starts_without_its_own_server_and_what_was_there_is_there(
    servers: Cluster,
) -> None:
    async with servers.open(OWN) as log:
        await spread_leaders(log, OTHER, THIRD)
        await put(log, range(SHARDS), b"before")
    servers.kill(OWN)

    async with servers.open(OWN, is_born=True) as log:
        for shard in range(SHARDS):
            found = await log.read_first(shard, subject(shard, b"before"), timeout_s=LIMIT_S)
            assert isinstance(found, Stored)


async def test_hosts_that_start_together_make_each_stream_once_with_its_replicas(
    servers: Cluster,
) -> None:
    async with (
        contextlib.AsyncExitStack() as opened,
        asyncio.TaskGroup() as tasks,
    ):
        opening = [
            tasks.create_task(opened.enter_async_context(servers.open(name, bytes_max=size << 30)))
            for name, size in zip(NAMES, (1, 2, 3), strict=True)
        ]
        logs = [await each for each in opening]

        deadline = Deadline.after(LIMIT_S, CLOCK)
        leaders = await logs[0].leaders(timeout_s=LIMIT_S)
        while None in leaders.values() and not deadline.has_passed():
            leaders = await logs[0].leaders(timeout_s=LIMIT_S)

        assert set(leaders.values()) <= set(NAMES)
        assert len(leaders) == SHARDS + logs[0].timers.shards
        for log in logs:
            await put(log, range(SHARDS), b"stored")


async def test_a_shard_on_too_few_servers_is_reported_and_one_that_is_gone_is_a_loss(
    servers: Cluster,
) -> None:
    async with servers.open(OWN, replicas=1) as log:
        await put(log, range(SHARDS), b"before")

    with structlog.testing.capture_logs() as said:
        async with servers.open(OWN, is_born=True) as log:
            await log._requests.request("$JS.API.STREAM.DELETE.EV_3", timeout_s=LIMIT_S)
    reported = {each["stream"] for each in said if each["event"] == "log.fewer_replicas"}
    assert len(reported) == SHARDS + log.timers.shards

    with pytest.raises(BaseExceptionGroup) as refused:
        async with servers.open(OWN, is_born=True):
            pass
    assert "shard 3 is missing from the log" in str(refused.value.exceptions[0].exceptions[0])


async def test_a_frozen_server_holds_up_no_word_between_hosts(servers: Cluster) -> None:
    async with servers.open(OWN) as log, servers.open(OTHER) as other:
        heard: list[bytes] = []
        came = asyncio.Event()

        def hear(_subject: str, payload: bytes) -> None:
            heard.append(payload)
            came.set()

        other.bus.subscribe("hb.*", hear)
        await all_connected(log, other)
        for number, frozen in enumerate((None, OWN, OTHER, THIRD)):
            if frozen:
                servers.freeze(frozen)
            came.clear()
            assert log.bus.send("hb.a", b"%d" % number)
            async with asyncio.timeout(GOES_ON_S):
                await came.wait()
            if frozen:
                servers.thaw(frozen)

        assert heard == [b"0", b"1", b"2", b"3"]


async def look_at(followers: Mapping[int, Follower]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for follower in followers.values():
            tasks.create_task(follower.fetch(10, 0.05))


def places_of(log: JetStreamLog) -> set[str]:
    """The servers that the tails of all shards read from."""
    places = set()
    for tail in log._tails:
        reader = tail._follower
        assert isinstance(reader, JetStreamFollower)
        places.add(reader._puller.place.server)
    return places


def subject(shard: int, word: bytes) -> str:
    return f"ev.{shard}.message.created.AC1.{word.decode()}"


async def put(
    log: JetStreamLog, shards: Sequence[int], word: bytes, *, timeout_s: float = LIMIT_S
) -> None:
    """One message in each shard, as a host writes it: asked again until it surely stands."""
    deadline = Deadline.after(timeout_s, CLOCK)

    async def until_stored(shard: int) -> None:
        while True:
            answer = await log.publish(
                shard, subject(shard, word), word, expected=0, timeout_s=TRY_TIMEOUT_S
            )
            if isinstance(answer, Accepted):
                return
            found = await log.read_first(shard, subject(shard, word), timeout_s=TRY_TIMEOUT_S)
            if isinstance(found, Stored):
                return
            assert not deadline.has_passed(), f"shard {shard}: {answer}"
            await CLOCK.sleep(0.05)

    async with asyncio.TaskGroup() as tasks:
        for shard in shards:
            tasks.create_task(until_stored(shard))


async def until_taken(log: JetStreamLog, shard: int, since: float) -> float:
    """Seconds from `since` until the shard took a create that was tried again and again, each time
    for as long as a create waits for a shard."""
    deadline = Deadline.after(LIMIT_S, CLOCK)
    while not deadline.has_passed():
        answer = await log.publish(
            shard, subject(shard, b"first"), b"first", expected=0, timeout_s=log.try_timeout_s
        )
        if not isinstance(answer, Unknown | Refused):
            return CLOCK.monotonic() - since
    raise AssertionError("nothing was taken")


async def followed(follower: Follower, count: int, *, until: bytes | None = None) -> list[bytes]:
    """What comes, each once and in order."""
    deadline = Deadline.after(ELECTED_S, CLOCK)
    seen: list[Stored] = []
    while len(seen) < count or (until is not None and seen[-1].payload != until):
        assert not deadline.has_passed(), f"only {seen} came"
        with contextlib.suppress(LogUnavailable):
            seen += await follower.fetch(10, 0.5)
    sequences = [stored.sequence for stored in seen]
    assert sequences == list(range(sequences[0], sequences[0] + len(seen)))
    return [stored.payload for stored in seen]


async def all_followed(
    followers: Mapping[int, Follower], *, until: bytes
) -> dict[int, list[bytes]]:
    async with asyncio.TaskGroup() as tasks:
        following = {
            shard: tasks.create_task(followed(follower, 1, until=until))
            for shard, follower in followers.items()
        }
    return {shard: each.result() for shard, each in following.items()}


async def consumed(consumer: Consumer, *, until: bytes) -> set[bytes]:
    deadline = Deadline.after(ELECTED_S, CLOCK)
    seen: set[bytes] = set()
    while until not in seen:
        assert not deadline.has_passed(), f"only {seen} came"
        for delivery in await consumer.fetch(10, 0.5):
            seen.add(delivery.stored.payload)
            await delivery.ack()
    return seen


async def no_gap(log: JetStreamLog, shard: int) -> None:
    """A new follower sees what the old one saw."""
    follower = await log.follower(shard, after=0)
    await followed(follower, 2, until=b"after")
    await follower.close()


async def spread_leaders(log: JetStreamLog, *servers: str) -> dict[str, list[int]]:
    """Have each of `servers`, or of all, lead its share of the streams; the shards of each."""
    among = servers or NAMES
    deadline = Deadline.after(ELECTED_S, CLOCK)
    while True:
        leaders = await log.leaders(timeout_s=1.0)
        wanted = {name: among[number % len(among)] for number, name in enumerate(leaders)}
        wrong = {name for name, server in wanted.items() if leaders[name] != server}
        if not wrong:
            break
        assert not deadline.has_passed(), f"{wrong} are led by {leaders}"
        for name in wrong:
            await log.step_down(name, prefer=wanted[name], timeout_s=1.0)
    return {
        server: [shard for shard in range(SHARDS) if wanted[f"EV_{shard}"] == server]
        for server in among
    }


async def learn_how_long_publishes_take(log: JetStreamLog, shards: Sequence[int]) -> None:
    for number in range(PUBLISHES_KNOWN):
        shard = shards[number % len(shards)]
        address = f"ev.{shard}.message.changed.AC1"
        answer = await log.publish(shard, address, b"", expected=None, timeout_s=LIMIT_S)
        assert isinstance(answer, Accepted)
    assert log.try_timeout_s < TRY_TIMEOUT_S


async def all_connected(*logs: JetStreamLog) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not all(route.connection.is_well for log in logs for route in log._requests.routes):
            await asyncio.sleep(0)
