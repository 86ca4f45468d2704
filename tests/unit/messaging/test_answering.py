"""Whose URLs count for a message to a number."""

from pathlib import Path

import pytest
from tests.unit.log.scripted_log import ACCOUNT
from tests.unit.messaging.message_bench import Bench, Copy

from trunkline.directory import records
from trunkline.directory.applications import register_of
from trunkline.domain.events import ApplicationMade, NumberOwned
from trunkline.domain.number import Number
from trunkline.kernel import Deadline
from trunkline.log.interface import Unreadable
from trunkline.messaging.answering import answering

pytestmark = pytest.mark.anyio

SID = "AP" + "1" * 32
OTHER_ACCOUNT = "AC" + "b" * 32
MADE = ApplicationMade(sid=SID, friendly_name="desk", sms_url="https://app.example/application")
OWNED = NumberOwned(
    sid="PN" + "1" * 32,
    phone_number="+15125550100",
    friendly_name="desk",
    sms_url="https://app.example/number",
    sms_application_sid=SID,
)
NUMBER = Number(account=ACCOUNT, settings=OWNED, created_at=0.0, updated_at=0.0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def make(bench: Bench, account: str = ACCOUNT) -> None:
    made = await records.create(
        bench.log,
        register_of(SID),
        MADE,
        sid=SID,
        account=account,
        is_keyed=False,
        author=bench.author("one"),
        deadline=Deadline.after(5.0, bench.clock),
    )
    assert isinstance(made, records.Written)


async def test_a_numbers_application_goes_before_its_own_urls(bench: Bench, tmp_path: Path) -> None:
    async with Copy(bench, tmp_path / "copy.db").following() as copy:
        await copy.catch_up()
        await make(bench)
        too_new = await answering(NUMBER, log=bench.log, replica=copy.replica)
        await copy.catch_up()
        shown = await answering(NUMBER, log=bench.log, replica=copy.replica)

    assert (too_new, shown) == (MADE, MADE)


async def test_a_number_without_an_application_has_its_own_urls(
    bench: Bench, tmp_path: Path
) -> None:
    bare = Number(
        account=ACCOUNT,
        settings=NumberOwned(sid="PN1", phone_number="+1", friendly_name="x"),
        created_at=0.0,
        updated_at=0.0,
    )
    async with Copy(bench, tmp_path / "copy.db").following() as copy:
        assert await answering(bare, log=bench.log, replica=copy.replica) == bare.settings


async def test_an_application_that_is_gone_or_anothers_leaves_the_number_its_own(
    bench: Bench, tmp_path: Path
) -> None:
    async with Copy(bench, tmp_path / "copy.db").following() as copy:
        await copy.catch_up()
        assert await answering(NUMBER, log=bench.log, replica=copy.replica) == OWNED
        await make(bench, OTHER_ACCOUNT)
        await copy.catch_up()
        assert await answering(NUMBER, log=bench.log, replica=copy.replica) == OWNED


async def test_nobody_is_asked_while_it_cannot_be_told(bench: Bench, tmp_path: Path) -> None:
    async with Copy(bench, tmp_path / "copy.db").following() as copy:
        bench.log.unreadable.add(register_of(SID).shard(bench.log))

        answer = await answering(NUMBER, log=bench.log, replica=copy.replica)

    assert isinstance(answer, Unreadable)
