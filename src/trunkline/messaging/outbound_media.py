"""Media of messages to be sent: fetched and brought to the carrier before an attempt is claimed.

A message whose media are not there yet is held back, so that it keeps nobody waiting: its delivery
is answered with a wish to have it again as soon as they are. What this remembers only spares work:
where it is forgotten, the copy says what is kept, and what is not is fetched again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from msgspec.structs import replace

from trunkline.domain.media import Piece
from trunkline.domain.status import Status
from trunkline.kernel import Clock, Deadline
from trunkline.log.clock_check import Ages
from trunkline.log.interface import Delivery
from trunkline.messaging.carrier import TakesMedia
from trunkline.messaging.media import Got, Media, sendable_bytes
from trunkline.messaging.parcel import Parcel
from trunkline.messaging.work import Unsendable, Work, growing_s

PREPARE_MAX_S: Final = 45.0
"""All of a message's media together; well within the log's bound on work (60 s)."""
FETCHES_MAX: Final = 8
"""Messages whose media are being fetched at once, each with at most one piece of 5 MiB in memory."""
WAITING_MAX: Final = 64
"""Messages that wait for that; others stay with the log for a while."""
TRIES_MAX: Final = 3
"""After so many failures that might have passed, the message fails with the last one's code."""
RETRY_S: Final = 5.0
"""After the first failure; it grows with each."""
BUSY_RETRY_S: Final = 2.0
REMEMBERED_MAX: Final = 10_000

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ready:
    """The media are kept, and the carrier has them."""

    pieces: tuple[Piece, ...]


_Known = _Ready | Unsendable


class OutboundMedia:
    """Use `hold_back` before dispatch, and run it beside: it fetches only while it runs."""

    def __init__(self, media: Media, carrier: TakesMedia, *, clock: Clock) -> None:
        self._media = media
        self._carrier = carrier
        self._clock = clock
        self._ages = Ages(clock)
        self._tasks: asyncio.TaskGroup | None = None
        self._room = asyncio.Semaphore(FETCHES_MAX)
        self._under_way: set[str] = set()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._tries: OrderedDict[str, int] = OrderedDict()
        self._brought: OrderedDict[str, None] = OrderedDict()

    async def run(self) -> None:
        """Until cancelled; the log delivers what is under way again."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await asyncio.Event().wait()
            finally:
                self._tasks = None

    async def hold_back(self, works: Sequence[Work]) -> Sequence[Work]:
        """Those of one register that may go on now, with their media; the others are answered when
        theirs are there."""
        if not any(work.message.media_urls for work in works):
            return works
        ready: list[Work] = []
        waiting: list[Work] = []
        for work in works:
            prepared = self._prepared(work)
            (waiting if prepared is None else ready).append(prepared or work)
        if not waiting:
            return ready
        parcel = Parcel(works[0].delivery, len(waiting) + bool(ready))
        for work in waiting:
            await self._begin(work, parcel.share())
        rest = parcel.share()
        return [replace(work, delivery=rest) for work in ready]

    def _prepared(self, work: Work) -> Work | None:
        """The work with what is known of its media; `None` if they are not there yet."""
        sid = work.event.sid
        if not work.message.media_urls or work.is_past_validity(self._ages):
            return work
        known = self._known.get(sid)
        if isinstance(known, _Ready):
            return replace(work, media=known.pieces)
        if isinstance(known, Unsendable):
            return replace(work, unsendable=known)
        message = self._media.shelf.find(sid)
        if message is None:
            return None
        if message.ending is not None:
            return work  # only its chain says what is left to do, and that is no attempt
        if message.open_status is Status.SENT and message.media is not None:
            # The carrier has its media; but its chain may yet ask for another attempt.
            return replace(work, media=message.media.pieces)
        return None

    async def _begin(self, work: Work, share: Delivery) -> None:
        sid = work.event.sid
        if self._tasks is None or sid in self._under_way or len(self._under_way) >= WAITING_MAX:
            await share.nak(BUSY_RETRY_S)
            return
        self._under_way.add(sid)
        self._tasks.create_task(self._prepare(work, share))

    async def _prepare(self, work: Work, share: Delivery) -> None:
        sid = work.event.sid
        wait_s = RETRY_S
        try:
            async with self._room:
                own = Deadline.after(PREPARE_MAX_S, self._clock)
                deadline = own if own.at < work.deadline.at else work.deadline
                known = await self._make_ready(work, deadline)
            if known is not None:
                self._remember(sid, known)
                wait_s = 0.0
            else:
                wait_s = growing_s(RETRY_S, self._failed(sid))
        except Exception:
            # One message that breaks us must not stop the others; it stays un-acked and visible.
            log.exception("media.failed", sid=sid)
        finally:
            self._under_way.discard(sid)
        await share.nak(wait_s)

    async def _make_ready(self, work: Work, deadline: Deadline) -> _Known | None:
        """What is to be done with the message; `None`: nothing is known yet, try again."""
        message = self._media.shelf.find(work.event.sid)
        if message is not None and message.media is not None:
            pieces = message.media.pieces
        else:
            got = await self._fetched(work, deadline)
            if not isinstance(got, tuple):
                return got
            pieces = got
        for piece in pieces:
            if not await self._bring(piece, deadline):
                return None
        return _Ready(pieces)

    async def _fetched(
        self, work: Work, deadline: Deadline
    ) -> tuple[Piece, ...] | Unsendable | None:
        """The pieces, fetched, kept and written down."""
        got = await self._media.get(
            work.event, work.message.media_urls, bytes_max=sendable_bytes, deadline=deadline
        )
        if not isinstance(got, Got):
            return None
        if got.lost:
            # Time that went by before its turn came says nothing about who serves its media.
            is_cut_short = deadline is work.deadline and deadline.has_passed()
            return self._lost(work.event.sid, got, is_cut_short=is_cut_short)
        if not await self._media.shelf.write_down(work.event, got.pieces):
            return None
        return got.pieces

    def _lost(self, sid: str, got: Got, *, is_cut_short: bool) -> Unsendable | None:
        """A message is sent with all of its media or not at all."""
        tries = self._tries.pop(sid, 0) + (not is_cut_short)
        final = [each for each in got.lost if each.why.is_final]
        worst = (final or got.lost)[0]
        log.warning(
            "media.not_fetched",
            sid=sid,
            index=worst.index,
            error_code=worst.why.error_code,
            reason=worst.why.reason,
            tries=tries,
        )
        if final or tries >= TRIES_MAX:
            return Unsendable(worst.why.error_code, f"media {worst.index}: {worst.why.reason}")
        self._tries[sid] = tries
        if len(self._tries) > REMEMBERED_MAX:
            self._tries.popitem(last=False)
        return None

    async def _bring(self, piece: Piece, deadline: Deadline) -> bool:
        """Whether the carrier has the piece."""
        if piece.sha256 in self._brought:
            return True
        content = await self._media.shelf.content(piece.sha256, deadline=deadline)
        if content is None:
            log.warning("media.not_found", media=piece.sid, name=piece.sha256)
            return False
        if not await self._carrier.bring_media(piece, content, deadline=deadline):
            return False
        self._brought[piece.sha256] = None
        if len(self._brought) > REMEMBERED_MAX:
            self._brought.popitem(last=False)
        return True

    def _failed(self, sid: str) -> int:
        """How often in a row nothing came of the message here: nobody's server is asked for ever at
        the same pace."""
        self._failures[sid] = self._failures.pop(sid, 0) + 1
        if len(self._failures) > REMEMBERED_MAX:
            self._failures.popitem(last=False)
        return self._failures[sid]

    def _remember(self, sid: str, known: _Known) -> None:
        self._failures.pop(sid, None)
        self._known[sid] = known
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
