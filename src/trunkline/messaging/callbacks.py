"""Status callbacks: telling an application how its message went, step by step, in order.

What is told comes from the folded record and not from the single event, so a receipt that
overtook its answer, or an event seen twice, still gives sending, sent, delivered, once each in a
quiet system and with the same tokens in a troubled one. The initial status is never told.
"""

import asyncio
import functools
import random
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol, assert_never

import structlog

from trunkline.domain.events import Body, Claimed, Kind, MessageCreated, Told, Type
from trunkline.domain.message import Message
from trunkline.domain.status import FINAL, Status, rank, steps
from trunkline.kernel import Clock, Deadline
from trunkline.kernel.crash import CrashHere, never_crash
from trunkline.log.clock_check import Ages
from trunkline.log.event import Event
from trunkline.log.interface import Delivery, Log
from trunkline.log.share import WHOLE, Share
from trunkline.messaging.wanted import by_webhooks
from trunkline.replica.queries import Replica
from trunkline.webhooks.client import WebhookClient, token_of
from trunkline.webhooks.deliver import CallbackDeliverer, Notified, Plan, Step, StepResult
from trunkline.webhooks.intake import Hands, Intake, readable

API_VERSION: Final = "2010-04-01"
SEQUENCE_HEADER: Final = "X-Trunkline-Sequence"
COPY_WAIT_S: Final = 2.0
"""How long a batch waits for the host's copy to show it."""
COPY_RETRY_S: Final = 1.0
UNKNOWN_MAX_S: Final = 600.0
"""An event whose message the copy has not shown after this long has none: it is let go."""
UNWELL_RETRY_MIN_S: Final = 2.0
UNWELL_RETRY_MAX_S: Final = 10.0
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

    async def record(self, kind: Kind, type_: Type, account: str, sid: str, body: Body, /) -> bool:
        """Whether it is on flushed storage."""


class StatusCallbacks:
    """Follows what happens to messages and tells their status callbacks; run one in a process."""

    name = "webhooks"

    def __init__(
        self,
        *,
        log: Log,
        replica: Replica,
        client: WebhookClient,
        recorder: Recorder,
        clock: Clock,
        rng: random.Random,
        crash_here: CrashHere = never_crash,
        share: Share = WHOLE,
    ) -> None:
        self._replica = replica
        self._clock = clock
        self._ages = Ages(clock)
        self._rng = rng
        self._silent = Silent()
        planner = self._new_planner(replica, recorder)
        self._deliverer = CallbackDeliverer(
            planner, client=client, clock=clock, rng=rng, crash_here=crash_here
        )
        self._intake = Intake(
            log, self.name, by_webhooks, self._take, clock=clock, rng=rng, share=share
        )

    def _new_planner(self, replica: Replica, recorder: Recorder) -> "MessagePlanner":
        return MessagePlanner(replica, recorder)

    async def run(self) -> None:
        """Until drained."""
        await self._intake.run()

    def drain(self) -> None:
        """Take nothing new; `run` returns when what is in hand is answered."""
        self._intake.drain()
        self._deliverer.drain()

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
        """Add to `waits_s` if it must be looked at again, and in how many seconds."""
        if self._replica.account(message.account) is None:
            # Nothing can be signed before the copy shows the account.
            waits_s.append(COPY_RETRY_S)
            return
        match await self._deliverer.notify(message.sid):
            case Notified.SETTLED:
                pass
            case Notified.LATER:
                waits_s.append(self._rng.uniform(UNWELL_RETRY_MIN_S, UNWELL_RETRY_MAX_S))
            case other:
                assert_never(other)


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

    def __init__(self, replica: Replica, recorder: Recorder) -> None:
        self._replica = replica
        self._recorder = recorder
        self._told: OrderedDict[str, frozenset[Status]] = OrderedDict()

    def plan(self, sid: str) -> Plan | None:
        message = self._replica.message(sid)
        account = None if message is None else self._replica.account(message.account)
        if message is None or account is None:
            return None
        return plan_of(message, account.auth_token, told=self._told.get(sid, frozenset()))

    async def on_told(self, sid: str, step: Step, result: StepResult) -> None:
        status = Status(step.name)
        self._remember(sid, status)
        message = self._replica.message(sid)
        if message is None:
            return
        if result.error_code is not None:
            log.warning(
                "callbacks.not_understood",
                sid=sid,
                status=step.name,
                attempts=result.attempts,
                http_status=result.http_status,
                error_code=result.error_code,
                is_given_up=result.is_given_up,
            )
        told = Told(
            status=step.name,
            attempts=result.attempts,
            http_status=result.http_status,
            is_given_up=result.is_given_up,
        )
        if not await self._recorder.record(Kind.MESSAGE, Type.TOLD, message.account, sid, told):
            # It was told, and this process will not tell it again; another one might, once more.
            log.warning("callbacks.told_unrecorded", sid=sid, status=step.name)

    def _remember(self, sid: str, status: Status) -> None:
        self._told[sid] = self._told.get(sid, frozenset()) | {status}
        self._told.move_to_end(sid)
        if len(self._told) > TOLD_REMEMBERED_MAX:
            self._told.popitem(last=False)


def has_callback(message: Message) -> bool:
    """Whether anybody wants to know."""
    return message.original is not None and bool(message.original.status_callback)


def plan_of(message: Message, auth_token: str, *, told: frozenset[Status]) -> Plan | None:
    """What is to be told about `message`; `told` comes on top of what its record says."""
    original = message.original
    if original is None or not original.status_callback:
        return None
    names = untold(message.status, message.open_status, message.told | told)
    return Plan(
        account=message.account,
        auth_token=auth_token,
        url=original.status_callback,
        method="POST",
        steps=tuple(_step(message, original, name) for name in names),
    )


def untold(status: Status, passed: Status, told: frozenset[Status]) -> tuple[Status, ...]:
    """The way from the furthest step told to `status`, in order, through `passed`: the furthest
    step short of an end that the record shows.

    The table's shortest way to failed leaves out what a message went through, so that what is told
    would depend on when the ending came.
    """
    start = max(told, key=rank, default=Status.QUEUED)
    if start in FINAL:
        return ()
    way = steps(start, passed)
    if status not in FINAL:
        return way
    reached = way[-1] if way else start
    # A carrier may fail what it had taken. There is no way from sent to failed in the table, and
    # still the end must be told.
    return way + (steps(reached, status) or (status,))


def _step(message: Message, original: MessageCreated, status: Status) -> Step:
    return Step(
        name=status.value,
        params=tuple(_params(message, original, status)),
        token=token_of(message.sid, status.value),
        headers=((SEQUENCE_HEADER, str(rank(status))),),
    )


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
