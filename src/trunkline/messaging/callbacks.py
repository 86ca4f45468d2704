"""Status callbacks: telling an application how its message went, step by step, in order.

What is told comes from the folded record and not from the single event, so a receipt that
overtook its answer, or an event seen twice, still gives sending, sent, delivered, once each in a
quiet system and with the same tokens in a troubled one. The initial status is never told.
"""

import asyncio
import functools
import hashlib
import random
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec
import structlog

from trunkline.domain.callback import came_about, has_callback, receiver_of, untold_of
from trunkline.domain.events import Claimed, Kind, MessageCreated, Notice, Told, Type
from trunkline.domain.message import Message
from trunkline.domain.status import Status, rank
from trunkline.kernel import Clock, Deadline
from trunkline.kernel.crash import CrashHere, never_crash
from trunkline.log.author import EVENT_ID_BYTES, Author
from trunkline.log.clock_check import Ages
from trunkline.log.event import Event
from trunkline.log.interface import Delivery, Log
from trunkline.log.share import WHOLE, Share
from trunkline.messaging.backlog import Backlog
from trunkline.messaging.wanted import by_webhooks
from trunkline.replica.queries import Replica
from trunkline.webhooks.client import WebhookClient, token_of
from trunkline.webhooks.deliver import (
    CallbackDeliverer,
    Later,
    Notified,
    Plan,
    Settled,
    Step,
    StepResult,
)
from trunkline.webhooks.intake import Hands, Intake, readable
from trunkline.webhooks.receiver_state import ReceiverState
from trunkline.webhooks.signature import without_user

API_VERSION: Final = "2010-04-01"
SEQUENCE_HEADER: Final = "X-Trunkline-Sequence"
TIMESTAMP_HEADER: Final = "X-Trunkline-Timestamp"
COPY_WAIT_S: Final = 2.0
"""How long a batch waits for the host's copy to show it."""
COPY_RETRY_S: Final = 1.0
UNKNOWN_MAX_S: Final = 600.0
"""An event whose message the copy has not shown after this long has none: it is let go."""
URL_CHARACTERS_MAX: Final = 500
REASON_CHARACTERS_MAX: Final = 200
TOLD_REMEMBERED_MAX: Final = 65_536
"""Messages whose told steps are remembered until the copy is sure to show them."""

SILENT_REMEMBERED_MAX: Final = 32_768
"""About 6 MiB, of messages without a callback."""

_CHANGES_NO_STATUS: Final = frozenset(
    {
        Type.ORIGINAL,
        Type.TOLD,
        Type.TOMBSTONE,
        Type.RETURN,
        Type.KEY_CONFLICT,
        Type.MEDIA_KEPT,
        Type.MEDIA_REMOVED,
        Type.REDACTED,
        Type.NOTICE,
        Type.DELETED,
    }
)
"""The first and the third stand where only a log of an earlier version has chains."""

_DATED: Final = frozenset({Status.DELIVERED, Status.UNDELIVERED})
"""The steps that are told with the carrier's done date, as published."""

log: Final = structlog.get_logger(__name__)


class Recorder(Protocol):
    """Appends what may arrive in any order: to any healthy shard."""

    async def record_all(self, events: Sequence[Event], /) -> bool:
        """Whether they are on flushed storage."""


class StatusCallbacks:
    """Follows what happens to messages and tells their status callbacks; run one in a process."""

    name = "webhooks"

    def __init__(  # noqa: PLR0913 - each is a part that the composition root names
        self,
        *,
        log: Log,
        replica: Replica,
        client: WebhookClient,
        recorder: Recorder,
        author: Author,
        clock: Clock,
        rng: random.Random,
        crash_here: CrashHere = never_crash,
        share: Share = WHOLE,
    ) -> None:
        self._replica = replica
        self._clock = clock
        self._ages = Ages(clock)
        self._silent = Silent()
        self._planner = self._new_planner(replica, recorder, author)
        self._deliverer = CallbackDeliverer(
            self._planner, client=client, clock=clock, rng=rng, crash_here=crash_here
        )
        self._backlog = Backlog(
            replica, self._deliverer, self._try_again, log.shards, share, clock, rng
        )
        self._intake = Intake(
            log, self.name, by_webhooks, self._take, clock=clock, rng=rng, share=share
        )

    def _new_planner(
        self, replica: Replica, recorder: Recorder, author: Author
    ) -> "MessagePlanner":
        return MessagePlanner(replica, recorder, author)

    async def run(self) -> None:
        """Until drained."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._intake.run())
            tasks.create_task(self._backlog.run())

    def drain(self) -> None:
        """Take nothing new; `run` returns when what is in hand is answered."""
        self._intake.drain()
        self._backlog.drain()
        self._deliverer.drain()

    def oldest_waiting_s(self) -> float:
        """For how long the oldest step waits that its receiver did not take."""
        return self._backlog.oldest_s()

    def receivers_down(self) -> Sequence[ReceiverState]:
        """Those for whom something waits and who failed last."""
        return self._backlog.states()

    async def _take(self, shard: int, deliveries: Sequence[Delivery], hands: Hands) -> None:
        """Answer what tells nothing at once; one wait for the copy serves the whole batch."""
        changing: list[tuple[Delivery, list[str]]] = []
        for delivery in deliveries:
            events = await readable(delivery)
            if events is None:
                continue
            sids = self._audible(events)
            if sids:
                changing.append((delivery, sids))
            else:
                await delivery.ack()
        if not changing:
            return
        last = max(delivery.stored.sequence for delivery, _ in changing)
        deadline = Deadline.after(COPY_WAIT_S, self._clock)
        is_seen = await self._replica.wait_until_seen(shard, last, deadline=deadline)
        for delivery, sids in changing:
            if is_seen:
                await self._sort(delivery, sids, hands)
            else:
                await delivery.nak(COPY_RETRY_S)

    def _audible(self, events: Sequence[Event]) -> list[str]:
        """The messages among them of which somebody may want to be told."""
        sids: dict[str, None] = {}
        for event in events:
            if event.type is Type.CLAIM:
                self._silent.note(event)
            if event.type not in _CHANGES_NO_STATUS and event.sid not in self._silent:
                sids[event.sid] = None
        return list(sids)

    async def _sort(self, delivery: Delivery, sids: Sequence[str], hands: Hands) -> None:
        known = [(sid, self._replica.message(sid)) for sid in sids]
        unknown = [sid for sid, message in known if message is None]
        telling = [each for _, each in known if each is not None and has_callback(each)]
        if not telling and not unknown:
            await delivery.ack()
            return
        wait_s = self._wait_for_originals(delivery, unknown)
        if not telling:
            await _answer(delivery, wait_s)
        else:
            await hands.pass_on(
                delivery, functools.partial(self._tell_all, delivery, telling, wait_s)
            )

    def _wait_for_originals(self, delivery: Delivery, sids: Sequence[str]) -> float | None:
        """Seconds until it is looked again for the originals of `sids`; `None`: no longer. They may
        stand in a shard of which the copy has not seen as much."""
        if sids and self._ages.age_s(delivery.stored.at) < UNKNOWN_MAX_S:
            return COPY_RETRY_S
        for sid in sids:
            log.warning("callbacks.unknown_message", sid=sid, subject=delivery.stored.subject)
        return None

    async def _tell_all(
        self, delivery: Delivery, messages: Sequence[Message], wait_s: float | None
    ) -> None:
        """Tell what there is to tell of each, none of them waiting for another's receiver."""
        waits_s = [] if wait_s is None else [wait_s]
        async with asyncio.TaskGroup() as tasks:
            for message in messages:
                tasks.create_task(self._tell(message, waits_s))
        await _answer(delivery, max(waits_s, default=None))

    async def _tell(self, message: Message, waits_s: list[float]) -> None:
        """Add to `waits_s` if it must be looked at again, and in how many seconds. What the receiver
        does not take is not: the copy shows it, and the backlog goes on from there."""
        original = message.original
        if original is None or self._replica.account(message.account) is None:
            # Nothing can be signed before the copy shows the account.
            waits_s.append(COPY_RETRY_S)
            return
        receiver = receiver_of(message.account, original.status_callback or "")
        if self._backlog.is_down(receiver):
            self._backlog.note(receiver, Later(0.0))
            return
        came = await self._deliverer.notify(message.sid)
        if isinstance(came, Later):
            self._backlog.note(receiver, came)

    async def _try_again(self, sid: str) -> Notified:
        """Of what the copy shows as untold, perhaps because writing down that it was has failed."""
        came = await self._deliverer.notify(sid)
        if isinstance(came, Settled):
            await self._planner.record_again(sid)
        return came


async def _answer(delivery: Delivery, wait_s: float | None) -> None:
    """Done with; or again after a while."""
    if wait_s is None:
        await delivery.ack()
    else:
        await delivery.nak(wait_s)


class Silent:
    """Messages that tell nobody, as their claims say: their later events need no look at the copy.
    Forgetting one costs that look, and nothing else."""

    def __init__(self) -> None:
        self._sids: OrderedDict[str, None] = OrderedDict()

    def note(self, claim: Event) -> None:
        body = claim.body()
        if isinstance(body, Claimed) and not body.has_callback:
            self._sids[claim.sid] = None
            if len(self._sids) > SILENT_REMEMBERED_MAX:
                self._sids.popitem(last=False)

    def __contains__(self, sid: str) -> bool:
        return sid in self._sids


class MessagePlanner:
    """Plans from the host's copy, and remembers what was told until the copy shows it."""

    def __init__(self, replica: Replica, recorder: Recorder, author: Author) -> None:
        self._replica = replica
        self._recorder = recorder
        self._author = author
        self._told: OrderedDict[str, frozenset[Status]] = OrderedDict()
        self._unrecorded: OrderedDict[str, tuple[Event, ...]] = OrderedDict()

    def plan(self, sid: str) -> Plan | None:
        message = self._replica.message(sid)
        account = None if message is None else self._replica.account(message.account)
        if message is None or account is None:
            return None
        return plan_of(message, account.auth_token, told=self._told.get(sid, frozenset()))

    async def on_told(self, sid: str, plan: Plan, step: Step, result: StepResult) -> None:
        self._remember(sid, Status(step.name))
        told = Told(
            status=step.name,
            attempts=result.attempts,
            http_status=result.http_status,
            is_given_up=result.is_given_up,
        )
        events = [self._author.event(Kind.MESSAGE, Type.TOLD, plan.account, sid, told)]
        if result.error_code is not None:
            log.warning(
                "callbacks.not_understood",
                sid=sid,
                status=step.name,
                attempts=result.attempts,
                http_status=result.http_status,
                error_code=result.error_code,
                is_given_up=result.is_given_up,
                reason=result.reason,
            )
            events.append(self._notice(sid, plan, step, result.error_code, result.reason))
        if not await self._recorder.record_all(events):
            # It was told, and this process will not tell it again; another one might, once more.
            log.warning("callbacks.told_unrecorded", sid=sid, status=step.name)
            self._unrecorded[sid] = (*self._unrecorded.get(sid, ()), *events)
            if len(self._unrecorded) > TOLD_REMEMBERED_MAX:
                self._unrecorded.popitem(last=False)

    async def record_again(self, sid: str) -> None:
        """Write down what could not be written down when it was told."""
        events = self._unrecorded.pop(sid, ())
        if events and not await self._recorder.record_all(events):
            self._unrecorded[sid] = (*events, *self._unrecorded.get(sid, ()))

    def _notice(self, sid: str, plan: Plan, step: Step, code: int, reason: str) -> Event:
        """The alert: one for each step, whoever writes it."""
        notice = Notice(
            code=code,
            reason=f"{step.name}: {reason}"[:REASON_CHARACTERS_MAX],
            url=without_user(plan.url)[:URL_CHARACTERS_MAX],
            method=plan.method,
        )
        digits = hashlib.sha256(f"{sid}:{step.name}".encode()).hexdigest()[: 2 * EVENT_ID_BYTES]
        event = self._author.event(Kind.MESSAGE, Type.NOTICE, plan.account, sid, notice)
        return msgspec.structs.replace(event, id=digits)

    def _remember(self, sid: str, status: Status) -> None:
        self._told[sid] = self._told.get(sid, frozenset()) | {status}
        self._told.move_to_end(sid)
        if len(self._told) > TOLD_REMEMBERED_MAX:
            self._told.popitem(last=False)


def plan_of(message: Message, auth_token: str, *, told: frozenset[Status]) -> Plan | None:
    """What is to be told about `message`; `told` comes on top of what its record says."""
    return plan_to_tell(message, auth_token, untold_of(message, told))


def plan_to_tell(message: Message, auth_token: str, names: Sequence[Status]) -> Plan | None:
    """How the steps `names` are told, for the first time or again; `None` where nobody wants to know."""
    original = message.original
    if original is None or not has_callback(message) or not original.status_callback:
        return None
    return Plan(
        account=message.account,
        auth_token=auth_token,
        url=original.status_callback,
        method="POST",
        steps=tuple(_step(message, original, name) for name in names),
    )


def _step(message: Message, original: MessageCreated, status: Status) -> Step:
    since = came_about(message, status)
    return Step(
        name=status.value,
        params=tuple(_params(message, original, status)),
        token=token_of(message.sid, status.value),
        since=since,
        headers=((SEQUENCE_HEADER, str(rank(status))), (TIMESTAMP_HEADER, _moment(since))),
    )


def _moment(at: float) -> str:
    """RFC 3339, in UTC, with milliseconds."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _params(message: Message, original: MessageCreated, status: Status) -> list[tuple[str, str]]:
    params = [
        ("MessageSid", message.sid),
        ("SmsSid", message.sid),
        ("MessageStatus", status.value),
        ("SmsStatus", status.value),
        ("AccountSid", message.account),
        ("From", original.sender),
        ("To", original.recipient),
        ("ApiVersion", API_VERSION),
    ]
    if original.messaging_service_sid:
        params.append(("MessagingServiceSid", original.messaging_service_sid))
    ending = message.ending
    if ending is not None and ending.status is status and ending.error_code is not None:
        params.append(("ErrorCode", str(ending.error_code)))
    if ending is not None and ending.status is status and status in _DATED and ending.done_date:
        params.append(("RawDlrDoneDate", ending.done_date))
    return params
