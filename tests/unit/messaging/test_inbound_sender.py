"""From which numbers a reply may be sent, on a host whose copy lags behind the log."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.log.scripted_log import ACCOUNT
from tests.unit.messaging.media_bench import Web, media_of
from tests.unit.messaging.message_bench import Bench, Copy

from trunkline.directory.numbers import Owned, own_number
from trunkline.domain.events import Kind, MessageReceived, NumberOwned
from trunkline.domain.number import Number
from trunkline.kernel import Deadline
from trunkline.log.append import ShardHealth
from trunkline.messaging.accept import Acceptor
from trunkline.messaging.conversation import Conversation, Place, conversation_of
from trunkline.messaging.converse import _Course
from trunkline.messaging.inbound import Inbound
from trunkline.messaging.inbound_media import InboundMedia
from trunkline.messaging.record import EventRecorder
from trunkline.protocols.twiml.messaging import Message
from trunkline.replica.queries import Replica
from trunkline.webhooks.client import WebhookClient

pytestmark = pytest.mark.anyio

ARRIVED_AT = "+15125550100"
JUST_BOUGHT = "+15125550101"
SID = "MM" + "1" * 32
HOME = Place("https://app.example/sms", "POST")
WORK_S = 20.0
LAG_MAX_MS = 5_000.0


def conversation() -> Conversation:
    settings = NumberOwned(
        sid="PN" + "1" * 32, phone_number=ARRIVED_AT, friendly_name="desk", sms_url=HOME.url
    )
    number = Number(account=ACCOUNT, settings=settings, created_at=0.0, updated_at=0.0)
    received = MessageReceived(sid=SID, sender="+15125550123", recipient=ARRIVED_AT, text="hi")
    made = conversation_of(received, number, "token")
    assert made is not None
    return made


@pytest.fixture
async def lagging(bench: Bench, tmp_path: Path) -> AsyncIterator[Replica]:
    """A copy whose projector has stopped: it shows nothing of what is done from now on."""
    path = tmp_path / "lagging.sqlite3"
    copy = Copy(bench, path)
    await copy.projector.open()
    async with bench.running(copy.projector):
        while copy.progress.lag_ms() > LAG_MAX_MS:  # bounded: by what `running` allows
            await bench.pass_time(1.0)
    replica = Replica(path, copy.progress)
    yield replica
    replica.close()
    copy.progress.close()


async def buy(bench: Bench, account: str) -> None:
    settings = NumberOwned(sid="PN" + "2" * 32, phone_number=JUST_BOUGHT, friendly_name="shop")
    deadline = Deadline.after(5.0, bench.clock)
    buying = own_number(bench.log, account, settings, author=bench.author("api"), deadline=deadline)
    assert isinstance(await bench.within_time(buying), Owned)


async def reply(bench: Bench, copy: Replica) -> bool:
    """Whether the reply is done with, sent or refused for good."""
    rng = random.Random(1)
    author = bench.author("one")
    nothing = media_of(bench, Web(), Path("unused"), "one")
    inbound = Inbound(
        log=bench.log,
        replica=copy,
        client=WebhookClient(clock=bench.clock, rng=rng),
        media=InboundMedia(nothing, "https://api.example", bench.clock),
        acceptor=Acceptor(bench.log, copy, ShardHealth(bench.clock), author),
        recorder=EventRecorder(bench.log, author=author),
        author=author,
        clock=bench.clock,
        rng=rng,
    )
    message = Message("thanks", sender=JUST_BOUGHT)
    course = _Course(Deadline.after(WORK_S, bench.clock))
    replying = inbound._converser._reply(conversation(), HOME, message, course)
    return await bench.within_time(replying) is not None


async def sent(bench: Bench) -> int:
    return sum(f".{Kind.MESSAGE}.created." in each.subject for each in await bench.log.everything())


async def test_a_reply_goes_out_from_a_number_that_the_copy_does_not_show_yet(
    bench: Bench, lagging: Replica
) -> None:
    await buy(bench, ACCOUNT)

    assert await reply(bench, lagging)

    assert lagging.number_by_phone(JUST_BOUGHT) is None
    assert await sent(bench) == 1


async def test_a_reply_does_not_go_out_from_a_number_of_another_account(
    bench: Bench, lagging: Replica
) -> None:
    await buy(bench, "AC" + "b" * 32)

    assert await reply(bench, lagging)

    assert await sent(bench) == 0


async def test_a_reply_is_kept_while_nobody_can_say_whose_number_it_is_from(
    bench: Bench, lagging: Replica
) -> None:
    await buy(bench, ACCOUNT)
    bench.log.unreadable.update(range(bench.log.shards))

    assert not await reply(bench, lagging)

    assert await sent(bench) == 0
