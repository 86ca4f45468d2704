"""Media of inbound messages: waited for as long as they may yet be had, and shown before they are told."""

import asyncio
from pathlib import Path

import pytest
from tests.unit.messaging.media_bench import CAT, DOG, GONE, SLOW, Web, media_of
from tests.unit.messaging.message_bench import TEST_MAX_S, Bench

from trunkline.domain.events import Deleted, Kind, MessageReceived, Type
from trunkline.domain.media import Piece
from trunkline.domain.message import fold
from trunkline.log.interface import Stored
from trunkline.messaging.inbound_media import (
    BUSY_RETRY_S,
    COPY_RETRY_S,
    FETCHES_MAX,
    RETRY_S,
    WAIT_MAX_S,
    InboundMedia,
    Later,
)
from trunkline.messaging.media_fetch import Fetched

pytestmark = pytest.mark.anyio

NAME = "7" * 32
SID = "MM" + NAME
ACCOUNT = "AC" + "a" * 32


class Rig:
    """One inbound message, and one host's hand on its media."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.web = Web()
        self.media = InboundMedia(
            media_of(bench, self.web, folder, "host-a"), "https://api.example", bench.clock
        )
        self.received = MessageReceived(
            sid=SID, sender="+15550002", recipient="+15550001", text="", media_urls=(CAT, DOG)
        )
        self.event = bench.author("host-a").event(
            Kind.INBOUND, Type.ORIGINAL, ACCOUNT, SID, self.received
        )
        self.stored = Stored(0, "ev.0.inbound.created", 1, bench.clock.wall(), b"")

    async def pieces(self) -> tuple[Piece, ...] | Later:
        return await self.media.pieces(self.event, self.received, self.stored)

    async def show(self) -> None:
        """The copy catches up."""
        self.bench.known[SID] = await self.bench.message(NAME)


@pytest.fixture
def rig(bench: Bench, tmp_path: Path) -> Rig:
    return Rig(bench, tmp_path)


async def test_the_application_is_asked_once_the_copy_shows_the_media(rig: Rig) -> None:
    assert await rig.pieces() == Later(COPY_RETRY_S)
    assert await rig.pieces() == Later(COPY_RETRY_S)
    assert rig.web.asked == [CAT, DOG]

    await rig.show()
    pieces = await rig.pieces()

    assert isinstance(pieces, tuple)
    told = rig.media.told(rig.event, pieces)
    place = f"https://api.example/2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}/Media"
    assert told == tuple((f"{place}/{piece.sid}", "image/png") for piece in pieces)
    assert len(told) == 2


async def test_nothing_is_waited_for_once_the_message_is_deleted(rig: Rig) -> None:
    assert await rig.pieces() == Later(COPY_RETRY_S)
    message = await rig.bench.message(NAME)

    rig.bench.known[SID] = fold(message, Deleted(), at=1.0, event_id="d", position=0)

    assert await rig.pieces() == ()
    assert rig.web.asked == [CAT, DOG]


async def test_what_may_yet_be_had_is_waited_for_and_not_for_ever(rig: Rig) -> None:
    rig.web.answers[DOG] = SLOW
    assert await rig.pieces() == Later(RETRY_S)

    await rig.bench.clock.advance(WAIT_MAX_S)
    assert await rig.pieces() == Later(COPY_RETRY_S)

    await rig.show()
    pieces = await rig.pieces()
    assert isinstance(pieces, tuple)
    assert [piece.index for piece in pieces] == [0]


async def test_what_is_gone_is_not_waited_for(rig: Rig) -> None:
    rig.web.answers[CAT] = rig.web.answers[DOG] = GONE

    assert await rig.pieces() == Later(COPY_RETRY_S)

    await rig.show()
    assert await rig.pieces() == ()


async def test_a_type_nobody_knows_is_kept_and_given_out_as_bytes(rig: Rig) -> None:
    rig.web.answers[DOG] = Fetched(b"<html>", "text/html")

    await rig.pieces()
    await rig.show()
    pieces = await rig.pieces()

    assert isinstance(pieces, tuple)
    assert [piece.content_type for piece in pieces] == ["image/png", "application/octet-stream"]


async def test_two_hosts_give_a_piece_the_same_sid(bench: Bench, rig: Rig, tmp_path: Path) -> None:
    other = InboundMedia(media_of(bench, rig.web, tmp_path / "b", "host-b"), "", bench.clock)

    await rig.pieces()
    await other.pieces(rig.event, rig.received, rig.stored)

    kept = [event.body() for _, event in await bench.history(NAME) if event.type is Type.MEDIA_KEPT]
    assert len(kept) == 2
    assert kept[0] == kept[1]


async def test_slow_pictures_take_no_more_than_their_share_of_hands(rig: Rig) -> None:
    rig.web.silent.add(CAT)
    async with asyncio.timeout(TEST_MAX_S), asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(rig.pieces()) for _ in range(FETCHES_MAX)]
        await rig.bench.clock.advance(0.0)
        assert len(rig.web.asked) == FETCHES_MAX

        assert await rig.pieces() == Later(BUSY_RETRY_S)

        for task in waiting:
            task.cancel()
