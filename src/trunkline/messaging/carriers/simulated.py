"""The link to the simulator: HTTP posts that carry all hand-overs of the same moment at once.

The one thing to know is the classification. Only when no connection could be made is it certain
that nothing left; a kept-alive connection that dies may have carried the post, so that is unknown.
`run` is the link's own service and must be running for `submit` to hand anything over. There is one
task for a post, one alarm for a batch, and neither for a message.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar, assert_never
from urllib.parse import quote

import structlog

from trunkline.domain.media import Piece
from trunkline.kernel import (
    RETRY_BUDGET,
    Backoff,
    BudgetLimits,
    Clock,
    Deadline,
    Failed,
    Pool,
    PoolLimits,
)
from trunkline.kernel.alarms import Alarm, Alarms
from trunkline.messaging.carrier import (
    Item,
    OnOutcome,
    Outcome,
    Refused,
    Submission,
    Unknown,
)
from trunkline.messaging.http_connection import Connections, NotConnected
from trunkline.messaging.simulated_words import item_of, on_wire, outcome_of
from trunkline.protocols import simulated as wire

CARRIER_TRY_TIMEOUT_S: Final = 5.0
"""From the post to its last line (DESIGN §5: the cap for carriers)."""
CONNECT_TIMEOUT_S: Final = 1.0
ACKNOWLEDGE_TRY_TIMEOUT_S: Final = 1.0
ACKNOWLEDGE_DEADLINE_S: Final = 3.0
MEDIA_DEADLINE_S: Final = 12.0
RECEIVE_MARGIN_S: Final = 2.0
"""How much longer than asked a poll's answer may take."""
RECEIVE_WAIT_MAX_S: Final = wire.WAIT_MS_MAX / 1000.0
RECEIVE_MANY: Final = 16
"""A poll that gives so many says that more are coming."""
RECEIVE_GATHER_S: Final = 0.005
"""How long the next poll then waits for them, because each poll costs as much as ten receipts."""
BACKOFF_BASE_S: Final = 0.05
BACKOFF_CAP_S: Final = 0.5
"""Between two tries at a link that is down, at most: a carrier that is there again is to have what
waits for it within a second."""
NOT_TAKEN_RETRY_S: Final = 1.0
"""After a post that the peer turned away whole."""
NOT_SENT_ERROR_CODE: Final = 30_001
"""Twilio's code for "queue overflow"; it is shown only if the dispatcher gives up for good."""
BAD_TEXT_ERROR_CODE: Final = 30_008
"""Twilio's code for "unknown error"."""

_log = structlog.get_logger()
_Answer = TypeVar("_Answer")


class _Batch:
    """The hand-overs of one `submit_many` that have no outcome yet."""

    __slots__ = ("_alarms", "_on_outcome", "_waiting", "alarm")

    def __init__(self, on_outcome: OnOutcome, alarms: Alarms) -> None:
        self._on_outcome = on_outcome
        self._alarms = alarms
        self._waiting: dict[str, int] = {}
        self.alarm: Alarm | None = None

    def add(self, reference: str, place: int) -> None:
        self._waiting[reference] = place

    def settle(self, reference: str, outcome: Outcome) -> None:
        """Tell the outcome, if there was none before."""
        place = self._waiting.pop(reference, None)
        if place is None:
            return
        if not self._waiting and self.alarm is not None:
            self._alarms.clear(self.alarm)
        self._on_outcome(place, outcome)

    def settle_rest(self, outcome: Outcome) -> None:
        for reference in list(self._waiting):
            self.settle(reference, outcome)


@dataclass(frozen=True, slots=True)
class _HandOver:
    """One submission that goes with the next post."""

    submission: wire.Submission
    batch: _Batch
    deadline: Deadline


class _Post:
    """The hand-overs of one post that have no outcome yet, by reference."""

    __slots__ = ("_waiting", "is_unsent")

    def __init__(self, part: Sequence[_HandOver]) -> None:
        self._waiting = {each.submission.reference: each.batch for each in part}
        self.is_unsent = False

    def settle(self, reference: str, outcome: Outcome) -> None:
        batch = self._waiting.pop(reference, None)
        if batch is not None:
            batch.settle(reference, outcome)

    def settle_rest(self, outcome: Outcome) -> None:
        for reference in list(self._waiting):
            self.settle(reference, outcome)


@dataclass(frozen=True, slots=True)
class _TurnedAway:
    """The peer took nothing of the post, and said so."""

    status: int


class SimulatedCarrier:
    """Implements `messaging.carrier.Carrier` over the wire of the simulator."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        bind: str,
        window: int,
        clock: Clock,
        rng: random.Random,
        retry_budget: BudgetLimits = RETRY_BUDGET,
    ) -> None:
        self._name = name
        self._window = window
        self._clock = clock
        self._link = _Link(clock, Backoff(BACKOFF_BASE_S, BACKOFF_CAP_S, rng))
        self._connections = Connections(url)
        self._alarms = Alarms()
        self._submissions_path = f"{wire.SUBMISSIONS_PATH}?bind={quote(bind)}"
        self._deliveries_path = f"{wire.DELIVERIES_PATH}?bind={quote(bind)}"
        self._are_many_coming = False
        self._tasks: asyncio.TaskGroup | None = None
        self._closed = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._gathered: list[_HandOver] = []
        self._under_way: set[str] = set()

        def pool(act: str, try_timeout_s: float) -> Pool[str]:
            limits = PoolLimits(try_timeout_s=try_timeout_s, retry_budget=retry_budget)
            return Pool(f"carrier:{name}:{act}", [url], limits=limits, clock=clock, rng=rng)

        self._submits = pool("submit", CARRIER_TRY_TIMEOUT_S)
        self._receives = pool("receive", RECEIVE_WAIT_MAX_S + RECEIVE_MARGIN_S)
        self._acknowledges = pool("acknowledge", ACKNOWLEDGE_TRY_TIMEOUT_S)
        self._brings = pool("media", CARRIER_TRY_TIMEOUT_S)

    @property
    def name(self) -> str:
        return self._name

    @property
    def window(self) -> int:
        return self._window

    def pools(self) -> tuple[Pool[str], ...]:
        """For who counts."""
        return (self._submits, self._receives, self._acknowledges, self._brings)

    async def run(self) -> None:
        """Post what `submit` gathers, until `close`. Cancelled, it leaves open posts unknown."""
        self._ended.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                try:
                    await self._closed.wait()
                finally:
                    self._tasks = None
        finally:
            self._ended.set()

    def ready_in_s(self) -> float:
        return self._link.down_for_s()

    async def submit(self, submission: Submission, *, key: str, deadline: Deadline) -> Outcome:
        del key  # carriers cannot recognise a repeat, and the simulator is as bad as they are
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def settle(_: int, told: Outcome) -> None:
            if not outcome.done():
                outcome.set_result(told)

        self.submit_many([submission], deadline=deadline, on_outcome=settle)
        return await outcome

    def submit_many(
        self, submissions: Sequence[Submission], *, deadline: Deadline, on_outcome: OnOutcome
    ) -> None:
        loop = asyncio.get_running_loop()
        if (reason := self._cannot_send(deadline)) is not None:
            outcome = _not_sent(reason, self._link.down_for_s())
            for place in range(len(submissions)):
                loop.call_soon(on_outcome, place, outcome)
            return
        batch = _Batch(on_outcome, self._alarms)
        if not self._gathered:
            # Everybody who submits in this turn of the loop goes with the same posts.
            loop.call_soon(self._post_gathered)
        for place, submission in enumerate(submissions):
            reference = submission.reference
            if reference in self._under_way:
                outcome = _not_sent("this attempt is already under way", 0.0)
                loop.call_soon(on_outcome, place, outcome)
                continue
            self._under_way.add(reference)
            batch.add(reference, place)
            self._gathered.append(_HandOver(on_wire(submission), batch, deadline))
        bound_s = deadline.remaining_s()
        silence = Unknown(f"no answer in {bound_s:.3g} s")
        batch.alarm = self._alarms.set(bound_s, partial(batch.settle_rest, silence))

    async def receive(self, items_max: int, wait_s: float) -> Sequence[Item]:
        if self._closed.is_set() or self._link.down_for_s() > 0.0:
            return []
        if self._are_many_coming:
            await self._clock.sleep(RECEIVE_GATHER_S)
        items_max = min(items_max, wire.ITEMS_MAX)
        wait_s = min(wait_s, RECEIVE_WAIT_MAX_S)
        path = f"{self._deliveries_path}&max={items_max}&wait_ms={int(wait_s * 1000)}"

        tries = itertools.count(1)

        async def act(_: str, bound_s: float) -> tuple[wire.Item, ...]:
            number = next(tries)
            again = f"&try={number}" if number > 1 else ""
            return wire.decode_items(await self._call(path + again, b"", bound_s))

        answer = await self._asked(self._receives, act, wait_s + RECEIVE_MARGIN_S)
        self._are_many_coming = answer is not None and RECEIVE_MANY <= len(answer) < items_max
        return [] if answer is None else [item_of(item) for item in answer]

    async def acknowledge(self, item_ids: Sequence[str]) -> None:
        for start in range(0, len(item_ids), wire.ITEMS_MAX):
            body = wire.encode_item_ids(item_ids[start : start + wire.ITEMS_MAX])

            async def act(_: str, bound_s: float, body: bytes = body) -> bool:
                await self._call(wire.ACKNOWLEDGEMENTS_PATH, body, bound_s)
                return True

            await self._asked(self._acknowledges, act, ACKNOWLEDGE_DEADLINE_S)

    async def bring_media(self, piece: Piece, content: bytes, *, deadline: Deadline) -> bool:
        """As `messaging.carrier.TakesMedia`."""

        async def act(_: str, bound_s: float) -> bool:
            await self._call(f"{wire.MEDIA_PATH}?sha256={piece.sha256}", content, bound_s)
            return True

        if self._closed.is_set() or self._link.down_for_s() > 0.0:
            return False
        bound_s = min(deadline.remaining_s(), MEDIA_DEADLINE_S)
        return await self._asked(self._brings, act, bound_s) is not None

    async def close(self) -> None:
        """Take no more, let open posts end in their own bounds, and hang up. May be repeated."""
        self._closed.set()
        await self._ended.wait()
        self._connections.close()

    def _cannot_send(self, deadline: Deadline) -> str | None:
        """Why nothing can leave at all."""
        if self._tasks is None or self._closed.is_set():
            return "the link is not running"
        if deadline.has_passed():
            return "the deadline had passed"
        if self._link.down_for_s() > 0.0:
            return "the link is down"
        return None

    def _post_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        for start in range(0, len(gathered), wire.SUBMISSIONS_MAX):
            part = gathered[start : start + wire.SUBMISSIONS_MAX]
            if self._tasks is None:
                _Post(part).settle_rest(_not_sent("the link is not running", 0.0))
                self._under_way.difference_update(_references(part))
            else:
                self._tasks.create_task(self._post(part))

    async def _post(self, part: Sequence[_HandOver]) -> None:
        post = _Post(part)
        references = _references(part)
        try:
            body = self._encoded(post, part)
            if not body:
                return
            deadline = max((each.deadline for each in part), key=lambda each: each.at)

            async def act(_: str, bound_s: float) -> _TurnedAway | None:
                return await self._send(post, body, bound_s)

            answer = await self._submits.call(act, deadline=deadline, is_repeatable=False)
            post.settle_rest(self._rest(post, answer))
        finally:
            post.settle_rest(Unknown("the link was stopped before the answer"))
            self._under_way.difference_update(references)

    def _encoded(self, post: _Post, part: Sequence[_HandOver]) -> bytes:
        """The body, empty if there is nothing to post. A text with a lone surrogate cannot be
        encoded: it is refused by itself."""
        try:
            return wire.encode_submissions([each.submission for each in part])
        except UnicodeEncodeError:
            good = [each.submission for each in part if _is_unicode(each.submission)]
            spoilt = _references(part) - {submission.reference for submission in good}
            for reference in spoilt:
                post.settle(
                    reference, Refused(BAD_TEXT_ERROR_CODE, "the text is not valid Unicode")
                )
            return wire.encode_submissions(good) if good else b""

    async def _send(self, post: _Post, body: bytes, bound_s: float) -> _TurnedAway | None:
        """Settle each hand-over by its line. Raises `OSError` when the link failed."""
        reader = wire.AnswerReader()

        def settle(status: int, content: bytes) -> None:
            if status == 200:
                for answer in reader.receive(content):
                    self._under_way.discard(answer.reference)
                    post.settle(answer.reference, outcome_of(answer))

        try:
            status = await self._exchange(self._submissions_path, body, bound_s, settle)
        except NotConnected:
            post.is_unsent = True
            raise
        return None if status == 200 else _turned_away(status)

    def _rest(self, post: _Post, answer: _TurnedAway | Failed | None) -> Outcome:
        """The outcome of those that got no line."""
        match answer:
            case None:
                return Unknown("the carrier gave no answer")
            case _TurnedAway():
                reason = f"the carrier answered {answer.status}"
                return _not_sent(reason, NOT_TAKEN_RETRY_S, is_unsent=False)
            case Failed():
                if post.is_unsent or not answer.sent:
                    return _not_sent(answer.reason, self._link.down_for_s())
                return Unknown(answer.reason)
            case other:
                assert_never(other)

    async def _asked(
        self, pool: Pool[str], act: Callable[[str, float], Awaitable[_Answer]], bound_s: float
    ) -> _Answer | None:
        """The answer of a repeatable act, or `None` and a word in the log."""
        deadline = Deadline.after(bound_s, self._clock)
        answer = await pool.call(act, deadline=deadline, is_repeatable=True)
        if isinstance(answer, Failed):
            _log.debug("carrier.link.failed", carrier=self._name, act=pool.name, why=answer.reason)
            return None
        return answer

    async def _call(self, path: str, body: bytes, bound_s: float) -> bytes:
        """The body of a 200. Raises `OSError` for everything else."""
        pieces: list[bytes] = []
        status = await self._exchange(
            path, body, bound_s, lambda _, content: pieces.append(content)
        )
        if status != 200:
            raise OSError(f"the carrier answered {status}")
        return b"".join(pieces)

    async def _exchange(
        self, path: str, body: bytes, bound_s: float, on_content: Callable[[int, bytes], None]
    ) -> int:
        """The status. Raises `OSError`, which is `NotConnected` if surely nothing was sent; then
        the link is down for a while."""
        connect_s = min(CONNECT_TIMEOUT_S, bound_s / 2.0)
        try:
            status = await self._connections.post(
                path, body, connect_s=connect_s, on_content=on_content
            )
        except NotConnected as error:
            if not self._closed.is_set():
                self._link.failed(self._name, str(error))
            raise
        except wire.WireError as error:
            raise OSError(f"not the wire's answer: {error}") from error
        self._link.worked(self._name)
        return status


class _Link:
    """Whether a connection can be made, and until when not to try."""

    def __init__(self, clock: Clock, backoff: Backoff) -> None:
        self._clock = clock
        self._backoff = backoff
        self._failures = 0
        self._down_until = float("-inf")

    def down_for_s(self) -> float:
        return max(0.0, self._down_until - self._clock.monotonic())

    def failed(self, name: str, why: str) -> None:
        if self.down_for_s() > 0.0:
            return  # several posts met the same refusal
        if self._failures == 0:
            _log.warning("carrier.link.down", carrier=name, why=why)
        self._down_until = self._clock.monotonic() + self._backoff.delay_s(self._failures)
        self._failures += 1

    def worked(self, name: str) -> None:
        if self._failures:
            _log.info("carrier.link.up", carrier=name, after_failures=self._failures)
        self._failures = 0
        self._down_until = float("-inf")


def _not_sent(reason: str, retry_after_s: float, *, is_unsent: bool = True) -> Refused:
    return Refused(
        NOT_SENT_ERROR_CODE,
        reason,
        is_returned=True,
        retry_after_s=retry_after_s,
        is_unsent=is_unsent,
    )


def _turned_away(status: int) -> _TurnedAway:
    # The wire answers 4xx and 503 before it takes anything. What another 5xx did is not known.
    if 300 <= status < 500 or status == 503:
        return _TurnedAway(status)
    raise OSError(f"the carrier answered {status}")


def _is_unicode(submission: wire.Submission) -> bool:
    try:
        wire.encode_submissions([submission])
    except UnicodeEncodeError:
        return False
    return True


def _references(part: Sequence[_HandOver]) -> set[str]:
    return {hand_over.submission.reference for hand_over in part}
