"""Status callbacks over a log: what a receiver does not take holds nothing back there."""

import random
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from tests.unit.log.scripted_log import ACCOUNT
from tests.unit.messaging.callback_bench import CLAIM, Internet, always
from tests.unit.messaging.message_bench import Bench, Copy

from trunkline.directory.accounts import open_account
from trunkline.domain.events import AccountOpened, Kind, MessageCreated, Type
from trunkline.kernel import Deadline
from trunkline.log.append import Appended, Draft, ShardHealth, append
from trunkline.messaging.callbacks import StatusCallbacks
from trunkline.messaging.record import EventRecorder
from trunkline.webhooks.client import WebhookClient

pytestmark = pytest.mark.anyio

SID = "SM" + "8" * 32


async def test_what_a_receiver_does_not_take_is_acknowledged_and_told_from_the_copy(
    tmp_path: Path,
) -> None:
    bench, internet = Bench(), Internet(always(500))
    copy = Copy(bench, tmp_path / "copy.sqlite3")
    author = bench.author("one")
    recorder = EventRecorder(bench.log, author=author)
    session = cast("aiohttp.ClientSession", internet)
    async with copy.following():
        opened = AccountOpened(sid=ACCOUNT, friendly_name="x", auth_token="t")
        await bench.within_time(
            open_account(
                bench.log, opened, author=author, deadline=Deadline.after(5.0, bench.clock)
            )
        )
        body = MessageCreated(
            sid=SID, sender="+1", recipient="+2", text="hi", status_callback="http://app.example/"
        )
        draft = Draft(kind=Kind.MESSAGE, sid=SID, account=ACCOUNT, body=body, is_keyed=True)
        created = await bench.within_time(
            append(bench.log, draft, author=author, health=ShardHealth(bench.clock))
        )
        assert isinstance(created, Appended)
        claim = author.event(Kind.MESSAGE, Type.CLAIM, ACCOUNT, SID, CLAIM)
        assert await bench.within_time(recorder.record_all([claim]))
        await copy.catch_up()
        service = StatusCallbacks(
            log=bench.log,
            replica=copy.replica,
            client=WebhookClient(
                session_factory=lambda: session, clock=bench.clock, rng=random.Random(1)
            ),
            recorder=recorder,
            author=author,
            clock=bench.clock,
            rng=random.Random(1),
        )
        async with bench.running(service):
            await bench.pass_time(5.0)
            assert claim.id in [event.id for event in bench.log.acked]
            assert claim.id not in [event.id for event, _ in bench.log.put_back]
            asked = internet.statuses(SID)
            assert len(asked) > 1
            assert set(asked) == {"sending"}

            internet.answer = always(200)
            await bench.pass_time(10.0)
            await copy.catch_up()

        message = copy.replica.message(SID)
        assert message is not None
        assert [status.value for status in message.told] == ["sending"]
