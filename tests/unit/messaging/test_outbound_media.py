"""Media of messages to be sent: fetched, kept and brought before a hand-over, by whoever is there."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.unit.messaging.media_bench import (
    CAT,
    DOG,
    GONE,
    PICTURE,
    SLOW,
    MediaCarrier,
    Web,
    media_of,
    put_with_media,
)
from tests.unit.messaging.message_bench import TEST_MAX_S, Bench

from trunkline.blobs.store import BlobStore, name_of
from trunkline.domain.events import Type
from trunkline.domain.status import Status
from trunkline.messaging.attempt import AMBIGUOUS_HAND_OVER
from trunkline.messaging.media_fetch import Fetched
from trunkline.messaging.outbound_media import FETCHES_MAX, TRIES_MAX, OutboundMedia
from trunkline.messaging.work import OnAmbiguous

pytestmark = pytest.mark.anyio

NAME = "8" * 32
OTHER = "9" * 32
RESEND = OnAmbiguous.RESEND


class Rig:
    """One host's media beside the bench's dispatch."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.web = Web()
        self.carrier = MediaCarrier()
        self.folder = folder
        self.media = self.made("host-a")
        bench.hold_back = self.media.hold_back

    def made(self, host: str) -> OutboundMedia:
        media = media_of(self.bench, self.web, self.folder / host, host)
        return OutboundMedia(media, self.carrier, clock=self.bench.clock)

    async def until_sent(self, count: int) -> None:
        """Its disk takes real time."""
        async with asyncio.timeout(TEST_MAX_S):
            while len(self.bench.carrier.submitted) < count:
                await self.bench.pass_time(1.0)
                await asyncio.sleep(0)

    async def until_failed(self, name: str) -> None:
        async with asyncio.timeout(TEST_MAX_S):
            while (await self.bench.message(name)).status is not Status.FAILED:
                await self.bench.pass_time(1.0)


@pytest.fixture
def rig(bench: Bench, tmp_path: Path) -> Rig:
    return Rig(bench, tmp_path)


async def test_media_are_kept_and_brought_before_the_message_is_handed_over(
    bench: Bench, rig: Rig
) -> None:
    await put_with_media(bench, NAME, CAT, DOG)

    async with bench.running(rig.media, bench.dispatcher("host-a")):
        await rig.until_sent(1)

    (submission,) = bench.carrier.submitted
    assert [piece.sha256 for piece in submission.media] == [name_of(PICTURE)] * 2
    assert rig.carrier.brought == [PICTURE]
    assert rig.web.asked == [CAT, DOG]
    history = [event.type for _, event in await bench.history(NAME)]
    assert history.index(Type.MEDIA_KEPT) < history.index(Type.CLAIM)
    assert [piece.index for piece in (await bench.message(NAME)).pieces] == [0, 1]


async def test_a_slow_picture_keeps_no_other_message_waiting(bench: Bench, rig: Rig) -> None:
    rig.web.silent.add(CAT)
    await put_with_media(bench, NAME, CAT)
    await bench.put(OTHER)

    async with bench.running(rig.media, bench.dispatcher("host-a")):
        await rig.until_sent(1)

    (submission,) = bench.carrier.submitted
    assert submission.reference.split(":")[1] == "SM" + OTHER


async def test_what_will_never_be_had_fails_the_message_and_nothing_is_sent(
    bench: Bench, rig: Rig
) -> None:
    rig.web.answers[DOG] = GONE
    await put_with_media(bench, NAME, CAT, DOG)

    async with bench.running(rig.media, bench.dispatcher("host-a")):
        await rig.until_failed(NAME)

    message = await bench.message(NAME)
    assert message.ending is not None
    assert message.ending.error_code == 11200
    assert bench.carrier.submitted == []
    assert rig.web.asked == [CAT, DOG]


async def test_a_failure_that_may_pass_is_tried_again_and_not_for_ever(
    bench: Bench, rig: Rig
) -> None:
    rig.web.answers[CAT] = SLOW
    await put_with_media(bench, NAME, CAT)

    async with bench.running(rig.media, bench.dispatcher("host-a")):
        await rig.until_failed(NAME)

    assert rig.web.asked == [CAT] * TRIES_MAX


async def test_a_type_that_may_not_be_carried_is_told_as_such(bench: Bench, rig: Rig) -> None:
    rig.web.answers[CAT] = Fetched(b"<html>", "text/html")
    await put_with_media(bench, NAME, CAT)

    async with bench.running(rig.media, bench.dispatcher("host-a")):
        await rig.until_failed(NAME)

    ending = (await bench.message(NAME)).ending
    assert ending is not None
    assert ending.error_code == 12300


async def test_media_that_are_too_large_together_fail_the_message(bench: Bench, rig: Rig) -> None:
    rig.web.answers[CAT] = Fetched(b"c" * (3 * 1024 * 1024), "image/png")
    rig.web.answers[DOG] = Fetched(b"d" * (3 * 1024 * 1024), "image/png")
    await put_with_media(bench, NAME, CAT, DOG)

    async with bench.running(rig.media, bench.dispatcher("host-a")):
        await rig.until_failed(NAME)

    ending = (await bench.message(NAME)).ending
    assert ending is not None
    assert ending.error_code == 11751


async def test_a_message_waits_for_a_carrier_that_takes_no_media(bench: Bench, rig: Rig) -> None:
    rig.carrier.is_down = True
    await put_with_media(bench, NAME, CAT)

    async with bench.running(rig.media, bench.dispatcher("host-a")):
        async with asyncio.timeout(TEST_MAX_S):
            while not rig.web.asked:
                await bench.pass_time(1.0)
        await bench.pass_time(20.0)
        assert bench.carrier.submitted == []
        rig.carrier.is_down = False
        await rig.until_sent(1)

    assert len(bench.carrier.submitted) == 1


async def test_another_host_goes_on_with_what_one_that_died_wrote_down(
    bench: Bench, rig: Rig
) -> None:
    rig.carrier.is_down = True
    await put_with_media(bench, NAME, CAT)
    async with bench.running(rig.media, bench.dispatcher("host-a")):
        async with asyncio.timeout(TEST_MAX_S):
            while not (await bench.message(NAME)).pieces:
                await bench.pass_time(1.0)

    # The other host's copy shows what was written, and its disk has the bytes.
    bench.known["MM" + NAME] = await bench.message(NAME)
    rig.carrier.is_down = False
    asked = len(rig.web.asked)
    rig.folder.joinpath("host-a").rename(rig.folder / "host-b")
    other = rig.made("host-b")
    bench.hold_back = other.hold_back
    async with bench.running(other, bench.dispatcher("host-b")):
        await bench.log.deliver_again()
        await rig.until_sent(1)

    assert len(rig.web.asked) == asked
    assert rig.carrier.brought == [PICTURE]


async def test_what_nobody_fetches_for_is_put_back(bench: Bench, rig: Rig) -> None:
    await put_with_media(bench, NAME, CAT)

    async with bench.running(bench.dispatcher("host-a")):
        await bench.pass_time(5.0)

    assert rig.web.asked == []
    assert bench.carrier.submitted == []
    assert bench.put_back


async def test_a_message_that_cannot_be_kept_asks_ever_more_seldom(
    bench: Bench, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: BlobStore, content: bytes, *, nonce: str) -> str:
        raise OSError("no space left")

    monkeypatch.setattr(BlobStore, "put", full)
    await put_with_media(bench, NAME, CAT)

    async with bench.running(rig.media, bench.dispatcher("host-a")):
        async with asyncio.timeout(TEST_MAX_S):
            while len(bench.put_back) < 4:
                await bench.pass_time(1.0)

    waits = [wait_s for _, wait_s in bench.put_back]
    assert waits[:4] == [5.0, 10.0, 20.0, 40.0]
    assert bench.carrier.submitted == []


async def test_a_message_that_waited_for_slow_ones_does_not_fail_for_them(
    bench: Bench, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.messaging.outbound_media.TRIES_MAX", 1)
    rig.web.slow.add(DOG)
    for number in range(3 * FETCHES_MAX):
        await put_with_media(bench, f"{number:032x}", DOG)
    await put_with_media(bench, NAME, CAT)

    async with bench.running(rig.media, bench.dispatcher("host-a")):
        async with asyncio.timeout(TEST_MAX_S):
            while not bench.carrier.submitted:
                await bench.pass_time(5.0)
                assert (await bench.message(NAME)).ending is None

    assert bench.carrier.submitted[0].reference.split(":")[1] == "MM" + NAME


async def test_a_message_whose_media_are_never_kept_ends_with_its_validity(
    bench: Bench, rig: Rig
) -> None:
    rig.carrier.is_down = True
    await put_with_media(bench, NAME, CAT, validity_s=60)

    async with bench.running(rig.media, bench.dispatcher("host-a")):
        async with asyncio.timeout(TEST_MAX_S):
            while not (await bench.message(NAME)).pieces:
                await bench.pass_time(1.0)
        await rig.until_failed(NAME)

    assert bench.carrier.submitted == []


async def sent_by_a_host_that_died(bench: Bench, rig: Rig) -> None:
    """One hand-over by the first host, during which it dies."""
    bench.carrier.answering.clear()
    await put_with_media(bench, NAME, CAT)
    async with bench.running(rig.media, bench.dispatcher("host-a", on_ambiguous=RESEND)):
        await rig.until_sent(1)
    bench.carrier.answering.set()


async def test_a_resend_carries_its_media_also_when_a_receipt_said_sent(
    bench: Bench, rig: Rig
) -> None:
    await sent_by_a_host_that_died(bench, rig)
    known = await bench.message(NAME)
    bench.known["MM" + NAME] = msgspec.structs.replace(known, open_status=Status.SENT)

    other = rig.made("other")
    rig.folder.joinpath("host-a").rename(rig.folder / "other")
    bench.hold_back = other.hold_back
    async with bench.running(other, bench.dispatcher("other", on_ambiguous=RESEND)):
        await bench.log.deliver_again()
        await rig.until_sent(2)

    assert [len(each.media) for each in bench.carrier.submitted] == [1, 1]


async def test_what_may_have_arrived_does_not_fail_for_its_media(bench: Bench, rig: Rig) -> None:
    await sent_by_a_host_that_died(bench, rig)

    rig.web.answers[CAT] = GONE
    other = rig.made("other")
    bench.hold_back = other.hold_back
    async with bench.running(other, bench.dispatcher("other", on_ambiguous=RESEND)):
        await bench.log.deliver_again()
        await rig.until_failed(NAME)

    ending = (await bench.message(NAME)).ending
    assert ending is not None
    assert ending.error_code == AMBIGUOUS_HAND_OVER
