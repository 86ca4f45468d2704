"""A log of the version before ledgers: its chains stand behind the originals, and are kept to."""

from pathlib import Path

import pytest
from tests.unit.log.scripted_log import ACCOUNT, Publish, register, walk
from tests.unit.messaging.message_bench import Bench, Copy, ScriptedLeases

from trunkline.domain.events import Body, Claimed, HandedOver, Kind, Type
from trunkline.log.event import encode
from trunkline.log.interface import Accepted
from trunkline.log.ledgers import Ledgers
from trunkline.messaging.dispatch import Dispatcher
from trunkline.messaging.record import EventRecorder
from trunkline.messaging.work import OnAmbiguous

pytestmark = pytest.mark.anyio

NAME = "8" * 32
HOME = walk(NAME)[0]
CLAIM = Claimed(attempt=1, nonce="n", lease="dead", carrier="acme")
OUTCOME = HandedOver(attempt=1, carrier="acme", carrier_message_id="acme-1")


async def old_chain(bench: Bench, *records: tuple[Type, Body]) -> None:
    """An original, and these records behind it on the register's own subject."""
    behind = (await bench.put(NAME)).sequence
    for type_, body in records:
        event = bench.author("old").event(Kind.MESSAGE, type_, ACCOUNT, "SM" + NAME, body)
        stored = await bench.log._store(Publish(HOME, register(HOME, NAME), encode(event), behind))
        assert isinstance(stored, Accepted)
        behind = stored.sequence


def dispatcher(bench: Bench, copy: Copy) -> Dispatcher:
    return Dispatcher(
        log=bench.log,
        chains=Ledgers(bench.log, Kind.MESSAGE, past=copy.replica, clock=bench.clock),
        carrier=bench.carrier,
        on_ambiguous=OnAmbiguous.HOLD,
        leases=ScriptedLeases("one"),
        recorder=EventRecorder(bench.log, author=bench.author("one")),
        find=copy.replica.message,
        counters=bench.counters,
        author=bench.author("one"),
    )


@pytest.mark.parametrize(
    ("records", "attempts_marked"),
    [([(Type.CLAIM, CLAIM)], {1}), ([(Type.CLAIM, CLAIM), (Type.OUTCOME, OUTCOME)], set())],
)
async def test_what_an_older_version_claimed_or_sent_is_not_sent_again(
    bench: Bench, records: list[tuple[Type, Body]], attempts_marked: set[int], tmp_path: Path
) -> None:
    await old_chain(bench, *records)

    async with Copy(bench, tmp_path / "replica.db").following() as copy:
        await copy.catch_up()
        async with bench.running(dispatcher(bench, copy)):
            await bench.pass_time(5.0)

    assert bench.carrier.submitted == []
    assert (await bench.message(NAME)).ambiguous == attempts_marked
    assert len(bench.acked) == 1
