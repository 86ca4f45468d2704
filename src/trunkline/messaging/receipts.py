"""Receipts and inbound messages: taken from the carrier, written down, and only then acknowledged.

Whatever is not acknowledged is offered again, here or on another host; writing it down twice is
harmless, because an event folds into itself and an inbound message is named by its carrier's id.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, assert_never

import structlog

from trunkline.directory.numbers import find_number
from trunkline.domain import segment
from trunkline.domain.events import Kind, MessageReceived, Receipt, Type
from trunkline.domain.number import Number
from trunkline.domain.ports import Counter
from trunkline.domain.price import DEFAULT_PRICES, Prices
from trunkline.domain.sid import MMS, SMS, digits_of, sid_from_key
from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.log.append import Appended, Draft, Found, ShardHealth, append
from trunkline.log.author import Author
from trunkline.log.event import Event
from trunkline.log.interface import Log, Unreadable
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.log.shards import home, order
from trunkline.messaging.carrier import Carrier, InboundItem, Item, ReceiptItem, referred_by
from trunkline.messaging.record import EventRecorder
from trunkline.replica.queries import Replica

log: Final = structlog.get_logger(__name__)

RECEIVE_MAX: Final = 500
"""Items taken and written down at once; all of them are re-offered if this process dies."""

RECEIVE_WAIT_S: Final = 0.5
LINK_DOWN_WAIT_S: Final = 0.25

UNKEPT_FORGOTTEN_S: Final = 60.0
"""What could not be written down and was not offered here again for so long is another host's now."""

FRESH_MAX_S: Final = 1.0
"""Whose a number is, is taken from a copy that was complete so lately, as one that keeps up was at any
time, give or take the second between two looks at a shard's end; any other asks the log."""

_NamedReceipt = tuple[ReceiptItem, Event]
"""A receipt, and the event that it becomes."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What an operator watches."""

    receipts: Counter
    inbound: Counter
    unmatched: Counter


class Receipts:
    """The service `receipts`. Any number may run, on any host."""

    name = "receipts"

    def __init__(  # noqa: PLR0913 - each is a part that the composition root names
        self,
        *,
        log: Log,
        carrier: Carrier,
        replica: Replica,
        recorder: EventRecorder,
        health: ShardHealth,
        counters: Counters,
        author: Author,
        crash_here: CrashHere = never_crash,
        prices: Prices = DEFAULT_PRICES,
    ) -> None:
        self._log = log
        self._carrier = carrier
        self._replica = replica
        self._recorder = recorder
        self._health = health
        self._counters = counters
        self._author = author
        self._crash_here = crash_here
        self._prices = prices
        self._clock = author.clock
        self._draining = False
        self._unkept_since: float | None = None
        self._offered_at = 0.0

    @property
    def unkept_s(self) -> float:
        """How long something has waited that the carrier has given and that is not written down; 0
        where nothing does."""
        now = self._clock.monotonic()
        if self._unkept_since is None or now - self._offered_at > UNKEPT_FORGOTTEN_S:
            return 0.0
        return now - self._unkept_since

    async def run(self) -> None:
        """Until drained."""
        while not self._draining:
            asked_at = self._clock.monotonic()
            items = await self._carrier.receive(RECEIVE_MAX, RECEIVE_WAIT_S)
            is_all_kept = await self._take_timed(items)
            is_idle = not items and self._clock.monotonic() - asked_at < RECEIVE_WAIT_S / 2
            if is_idle or not is_all_kept:
                await self._clock.sleep(LINK_DOWN_WAIT_S)

    def drain(self) -> None:
        """Take nothing new; `run` returns when what is in hand is written down."""
        self._draining = True

    async def _take_timed(self, items: Sequence[Item]) -> bool:
        if not items:
            return True
        now = self._clock.monotonic()
        self._unkept_since = now - self.unkept_s
        self._offered_at = now
        is_all_kept = await self._take(items)
        if is_all_kept:
            self._unkept_since = None
        return is_all_kept

    async def _take(self, items: Sequence[Item]) -> bool:
        """Whether all of them are written down; those that are not will be offered again."""
        kept: list[str] = []
        receipts: dict[int, list[_NamedReceipt]] = {}
        inbound: dict[str, list[InboundItem]] = {}
        async with asyncio.TaskGroup() as tasks:
            for item in items:
                match item:
                    case ReceiptItem():
                        self._sort(item, receipts, kept)
                    case InboundItem():
                        inbound.setdefault(item.recipient, []).append(item)
                    case other:
                        assert_never(other)
            for recipient, came in inbound.items():
                tasks.create_task(self._keep_for(recipient, came, kept))
            for shard, named in receipts.items():
                tasks.create_task(self._keep_receipts(shard, named, kept))
        if kept:
            await self._carrier.acknowledge(kept)
        return len(kept) == len(items)

    async def _keep_for(
        self, recipient: str, items: Sequence[InboundItem], kept: list[str]
    ) -> None:
        """Write down those that came for one number, after one question whose it is."""
        try:
            owner = await self._owner(recipient)
        except Exception:
            # As below: they stay with the carrier, and those for other numbers go on.
            log.exception("receipts.failed", item=items[0].item_id)
            return
        if isinstance(owner, Unreadable):
            return
        async with asyncio.TaskGroup() as tasks:
            for item in items:
                tasks.create_task(self._keep(item, owner, kept))

    async def _owner(self, phone_number: str) -> Number | Unreadable | None:
        """Whose number it is: by the copy, unless that may show an owner of the past. A message would
        stay with that one for ever, to be read by somebody to whom it was not sent."""
        shown = self._replica.number_by_phone(phone_number)
        if shown is not None:
            lag_ms = self._replica.lag_ms_of(home(phone_number, self._log.shards))
            if lag_ms <= FRESH_MAX_S * 1000.0:
                return shown
        return await find_number(self._log, phone_number, timeout_s=TRY_TIMEOUT_S)

    async def _keep(self, item: InboundItem, owner: Number | None, kept: list[str]) -> None:
        try:
            if await self._keep_inbound(item, owner):
                kept.append(item.item_id)
        except Exception:
            # One item that breaks us stays with the carrier, and is offered again; the others go on.
            log.exception("receipts.failed", item=item.item_id)

    def _sort(
        self, item: ReceiptItem, receipts: dict[int, list[_NamedReceipt]], kept: list[str]
    ) -> None:
        """Put a receipt to the others that will stand in the same shard."""
        named = referred_by(item.reference)
        if named is None:
            self._counters.unmatched.inc()
            log.warning("receipt.unmatched", carrier_message_id=item.carrier_message_id)
            kept.append(item.item_id)
            return
        receipt = Receipt(
            status=item.status,
            carrier=self._carrier.name,
            carrier_message_id=item.carrier_message_id,
            error_code=item.error_code,
            done_date=item.done_date,
        )
        event = self._author.event(Kind.MESSAGE, Type.RECEIPT, named.account, named.sid, receipt)
        shard = named.shard
        if shard is None or shard >= self._log.shards:
            shard = order(digits_of(named.sid), self._log.shards)[0]
        receipts.setdefault(shard, []).append((item, event))

    async def _keep_receipts(
        self, shard: int, named: Sequence[_NamedReceipt], kept: list[str]
    ) -> None:
        """Write down those of one shard's messages there, or if it does not take them, elsewhere."""
        self._crash_here(CrashPoint.RECEIPT_BEFORE_RECORD)
        try:
            is_kept = await self._recorder.record_all([event for _, event in named], home=shard)
        except Exception:
            # Whichever receipt it was, it stays with the carrier, and the others go on.
            if len(named) > 1:
                for each in named:
                    await self._keep_receipts(shard, [each], kept)
            else:
                log.exception("receipts.failed", item=named[0][0].item_id)
            return
        self._crash_here(CrashPoint.RECEIPT_BEFORE_ACKNOWLEDGE)
        if is_kept:
            self._counters.receipts.inc(len(named))
            kept.extend(item.item_id for item, _ in named)

    async def _keep_inbound(self, item: InboundItem, owner: Number | None) -> bool:
        if owner is None:
            self._counters.unmatched.inc()
            log.warning(
                "inbound.nobody_owns_the_number", carrier_message_id=item.carrier_message_id
            )
            return True
        prefix = MMS if item.media_urls else SMS
        sid = sid_from_key(prefix, "inbound", self._carrier.name, item.carrier_message_id)
        asked_at = self._clock.wall()
        if self._replica.message_named(digits_of(sid)) is not None:
            return True  # also when it is finished and trimmed, and its register is free again
        segments = segment.count(item.text).segments
        body = MessageReceived(
            sid=sid,
            sender=item.sender,
            recipient=item.recipient,
            text=item.text,
            media_urls=item.media_urls,
            num_segments=segments,
            price_micros=self._prices.inbound(segments=segments, has_media=bool(item.media_urls)),
            carrier=self._carrier.name,
            carrier_message_id=item.carrier_message_id,
        )
        draft = Draft(
            kind=Kind.INBOUND,
            sid=sid,
            account=owner.account,
            body=body,
            is_keyed=True,
        )
        self._crash_here(CrashPoint.INBOUND_BEFORE_APPEND)
        answer = await append(
            self._log, draft, author=self._author, health=self._health, at=asked_at
        )
        self._crash_here(CrashPoint.INBOUND_BEFORE_ACKNOWLEDGE)
        self._counters.inbound.inc()
        return isinstance(answer, Appended | Found)
