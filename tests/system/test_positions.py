"""Three log servers that all stop: a service goes on behind what its host noted, or begins again."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace
from tests.system.log_cluster import NAMES, Cluster, cluster

from trunkline.kernel import Deadline, SystemClock
from trunkline.log.engines.jetstream import JetStreamLog, positions
from trunkline.log.engines.jetstream.positions import Key, Note, Position, Positions
from trunkline.log.interface import Accepted, Consumer
from trunkline.log.reading import open_consumer

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.anyio, pytest.mark.timeout(90)]

CLOCK = SystemClock()
SHARD = 5
SERVICE = "dispatch"
FILTER = f"ev.{SHARD}.message.>"
MESSAGES = 20
FLOOR = 8
"""All up to here are acknowledged, and the one behind the next: it comes again with the rest."""
COMES_S = 25.0

SPOILT: Final[Mapping[str, Callable[[Note], Note | None]]] = {
    "forgotten": lambda _: None,
    "of-another-log": lambda note: replace(note, at="2026-01-02T03:04:05.678901234Z"),
    "ahead-of-the-log": lambda note: replace(note, position=Position(1000)),
    "of-another-message": lambda note: replace(note, position=Position(FLOOR + 1)),
    "of-other-events": lambda note: replace(
        note, key=replace(note.key, filters=(FILTER, f"ev.{SHARD}.call.>"))
    ),
}
"""What befalls the note of each of these services."""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as started:
        yield started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "positions.json"


async def test_after_a_stop_of_all_servers_a_consumer_goes_on_behind_its_floor(
    servers: Cluster, path: Path
) -> None:
    async with servers.open(positions=path) as log:
        await fill(log)
        await work(log)
        await until_noted(log, path, FLOOR)

    stop_all(servers)

    async with servers.open(is_born=True, positions=path) as log:
        consumer = await open_consumer(log, SHARD, SERVICE, [FILTER], clock=CLOCK)
        assert await all_of(consumer) == [FLOOR + 1, *range(FLOOR + 3, MESSAGES + 1)]
        await until_noted(log, path, MESSAGES)


async def test_without_a_note_of_this_log_and_service_a_consumer_begins_again(
    servers: Cluster, path: Path
) -> None:
    async with servers.open(positions=path) as log:
        await fill(log)
        for service in SPOILT:
            await work(log, service)
            await until_noted(log, path, FLOOR, service)
    notes = positions.read(path)
    spoilt = [spoil(notes[key_of(service)]) for service, spoil in SPOILT.items()]
    positions.write(path, {note.key: note for note in spoilt if note is not None})

    stop_all(servers)

    async with servers.open(is_born=True, positions=path) as log:
        for service in SPOILT:
            consumer = await open_consumer(log, SHARD, service, [FILTER], clock=CLOCK)
            assert (service, await all_of(consumer)) == (service, list(range(1, MESSAGES + 1)))


async def test_a_host_that_outlived_all_servers_goes_on_where_it_was(servers: Cluster) -> None:
    async with servers.open() as log:
        await fill(log)
        consumer = await work(log)

        stop_all(servers)

        await log.wait_until_connected(COMES_S)
        assert await all_of(consumer) == list(range(FLOOR + 3, MESSAGES + 1))


async def test_another_host_goes_on_where_the_last_one_said_it_was(servers: Cluster) -> None:
    async with servers.open() as log, servers.open("b") as other:
        await fill(log)
        consumer = await work(log)
        told = positions_of(log)
        told.say()
        deadline = Deadline.after(COMES_S, CLOCK)
        while positions_of(other).known(key_of(SERVICE)) != told.known(key_of(SERVICE)):
            assert not deadline.has_passed()
            await CLOCK.sleep(0.01)
        await consumer.rest()

        taken_over = await open_consumer(other, SHARD, SERVICE, [FILTER], clock=CLOCK)

        assert await all_of(taken_over) == [FLOOR + 1, *range(FLOOR + 3, MESSAGES + 1)]


async def test_two_processes_of_a_host_keep_one_anothers_notes(
    servers: Cluster, path: Path
) -> None:
    async with servers.open(positions=path) as log, servers.open(positions=path) as other:
        await fill(log)
        await work(log)
        await other.consumer(SHARD, "other", [FILTER])
        other_key = key_of("other")
        positions.write(path, {other_key: Note(other_key, Position(3), "2026-01-02T03:04:05Z")})

        await until_noted(log, path, FLOOR)

        assert set(positions.read(path)) == {key_of(SERVICE), other_key}


def key_of(service: str) -> Key:
    return Key(f"EV_{SHARD}", service, (FILTER,))


async def fill(log: JetStreamLog) -> None:
    for number in range(1, MESSAGES + 1):
        address = f"ev.{SHARD}.message.created.AC1.{number}"
        answer = await log.publish(SHARD, address, b"", expected=0, timeout_s=5.0)
        assert answer == Accepted(number)


async def work(log: JetStreamLog, service: str = SERVICE) -> Consumer:
    """Take some of what there is, and acknowledge it but for one."""
    consumer = await log.consumer(SHARD, service, [FILTER])
    count = 0
    deadline = Deadline.after(COMES_S, CLOCK)
    while count < FLOOR + 2:
        assert not deadline.has_passed(), f"only {count} came"
        for delivery in await consumer.fetch(FLOOR + 2 - count, 0.5):
            count += 1
            if delivery.stored.sequence != FLOOR + 1:
                await delivery.ack()
    assert positions_of(log).known(key_of(service)) == Position(FLOOR + 2, (FLOOR + 1,))
    return consumer


async def all_of(consumer: Consumer) -> list[int]:
    """What comes until the last message; each is acknowledged."""
    came: list[int] = []
    deadline = Deadline.after(COMES_S, CLOCK)
    while MESSAGES not in came:
        assert not deadline.has_passed(), f"only {came} came"
        for delivery in await consumer.fetch(MESSAGES, 0.5):
            came.append(delivery.stored.sequence)
            await delivery.ack()
    return came


async def until_noted(log: JetStreamLog, path: Path, floor: int, service: str = SERVICE) -> None:
    deadline, key = Deadline.after(COMES_S, CLOCK), key_of(service)
    while key not in (noted := positions.read(path)) or noted[key].position.floor != floor:
        assert not deadline.has_passed(), f"noted is {noted}"
        await positions_of(log).note()


def positions_of(log: JetStreamLog) -> Positions:
    assert log.positions is not None
    return log.positions


def stop_all(servers: Cluster) -> None:
    """Their consumers' memory is gone with them; they are there again."""
    for name in NAMES:
        servers.kill(name)
    servers.start()
