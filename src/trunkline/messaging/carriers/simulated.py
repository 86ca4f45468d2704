"""The link to the simulator: HTTP posts that carry all hand-overs of the same moment at once.

The one thing to know is the classification. Only when no connection could be made is it certain
that nothing left; a kept-alive connection that dies may have carried the post, so that is unknown.
`run` is the link's own service and must be running for `submit` to hand anything over.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, TypeVar, assert_never

import aiohttp
import structlog

from trunkline.kernel import Backoff, Clock, Deadline, Failed, Pool, PoolLimits
from trunkline.messaging.carrier import (
    Accepted,
    InboundItem,
    Item,
    Outcome,
    ReceiptItem,
    Refused,
    Submission,
    Unknown,
)
from trunkline.protocols import simulated as wire

CARRIER_TRY_TIMEOUT_S: Final = 5.0
"""From the post to its last line (DESIGN §5: the cap for carriers)."""
CONNECT_TIMEOUT_S: Final = 1.0
ACKNOWLEDGE_TRY_TIMEOUT_S: Final = 1.0
ACKNOWLEDGE_DEADLINE_S: Final = 3.0
RECEIVE_MARGIN_S: Final = 2.0
"""How much longer than asked a poll's answer may take."""
RECEIVE_WAIT_MAX_S: Final = wire.WAIT_MS_MAX / 1000.0
BACKOFF_BASE_S: Final = 0.05
BACKOFF_CAP_S: Final = 2.0
NOT_TAKEN_RETRY_S: Final = 1.0
"""After a post that the peer turned away whole."""
SPARE_CONNECTIONS: Final = 4
"""For the poll and the acknowledgements, beside one for each place in the window."""
NOT_SENT_ERROR_CODE: Final = 30_001
"""Twilio's code for "queue overflow"; it is shown only if the dispatcher gives up for good."""
BAD_TEXT_ERROR_CODE: Final = 30_008
"""Twilio's code for "unknown error"."""

_EXACT_S: Final = 86_400.0
"""aiohttp rounds timeouts over `ceil_threshold` up to whole seconds; ours stay under it."""

_log = structlog.get_logger()
_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class _HandOver:
    """One `submit` that waits for its outcome."""

    submission: wire.Submission
    outcome: asyncio.Future[Outcome]
    deadline: Deadline


@dataclass(slots=True)
class _Post:
    """The hand-overs of one post that have no outcome yet, by reference."""

    waiting: dict[str, _HandOver]
    is_unsent: bool = False

    def settle(self, reference: str, outcome: Outcome) -> None:
        hand_over = self.waiting.pop(reference, None)
        if hand_over is not None and not hand_over.outcome.done():
            hand_over.outcome.set_result(outcome)

    def settle_rest(self, outcome: Outcome) -> None:
        for reference in list(self.waiting):
            self.settle(reference, outcome)


@dataclass(frozen=True, slots=True)
class _TurnedAway:
    """The peer took nothing of the post, and said so."""

    status: int


class SimulatedCarrier:
    """Implements `messaging.carrier.Carrier` over the wire of the simulator."""

    def __init__(
        self, *, name: str, url: str, bind: str, window: int, clock: Clock, rng: random.Random
    ) -> None:
        self._name = name
        self._window = window
        self._bind = bind
        self._clock = clock
        self._link = _Link(clock, Backoff(BACKOFF_BASE_S, BACKOFF_CAP_S, rng))
        self._session: aiohttp.ClientSession | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._closed = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._gathered: list[_HandOver] = []
        self._under_way: set[str] = set()

        def pool(act: str, try_timeout_s: float) -> Pool[str]:
            limits = PoolLimits(try_timeout_s=try_timeout_s)
            return Pool(f"carrier:{name}:{act}", [url], limits=limits, clock=clock, rng=rng)

        self._submits = pool("submit", CARRIER_TRY_TIMEOUT_S)
        self._receives = pool("receive", RECEIVE_WAIT_MAX_S + RECEIVE_MARGIN_S)
        self._acknowledges = pool("acknowledge", ACKNOWLEDGE_TRY_TIMEOUT_S)

    @property
    def name(self) -> str:
        return self._name

    @property
    def window(self) -> int:
        return self._window

    def pools(self) -> tuple[Pool[str], ...]:
        """For who counts."""
        return (self._submits, self._receives, self._acknowledges)

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
        if (reason := self._cannot_send(submission.reference, deadline)) is not None:
            return _not_sent(reason, self._link.down_for_s())
        if not _is_unicode(submission.text):
            return Refused(BAD_TEXT_ERROR_CODE, "the text is not valid Unicode")
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._under_way.add(submission.reference)
        self._gathered.append(_HandOver(_on_wire(submission), outcome, deadline))
        if len(self._gathered) == 1:
            # Everybody who submits in this turn of the loop goes with the same post.
            asyncio.get_running_loop().call_soon(self._post_gathered)
        bound_s = deadline.remaining_s()
        try:
            async with asyncio.timeout(bound_s):
                return await outcome
        except TimeoutError:
            return Unknown(f"no answer in {bound_s:.3g} s")

    async def receive(self, items_max: int, wait_s: float) -> Sequence[Item]:
        if self._closed.is_set() or self._link.down_for_s() > 0.0:
            return []
        wait_s = min(wait_s, RECEIVE_WAIT_MAX_S)
        parameters = {
            "bind": self._bind,
            "max": str(min(items_max, wire.ITEMS_MAX)),
            "wait_ms": str(int(wait_s * 1000)),
        }

        async def act(url: str, bound_s: float) -> tuple[wire.Item, ...]:
            path = f"{url}{wire.DELIVERIES_PATH}"
            return wire.decode_items(await self._call(path, parameters, b"", bound_s))

        answer = await self._asked(self._receives, act, wait_s + RECEIVE_MARGIN_S)
        return [] if answer is None else [_item(item) for item in answer]

    async def acknowledge(self, item_ids: Sequence[str]) -> None:
        for start in range(0, len(item_ids), wire.ITEMS_MAX):
            body = wire.encode_item_ids(item_ids[start : start + wire.ITEMS_MAX])

            async def act(url: str, bound_s: float, body: bytes = body) -> bool:
                await self._call(f"{url}{wire.ACKNOWLEDGEMENTS_PATH}", {}, body, bound_s)
                return True

            await self._asked(self._acknowledges, act, ACKNOWLEDGE_DEADLINE_S)

    async def close(self) -> None:
        """Take no more, let open posts end in their own bounds, and hang up. May be repeated."""
        self._closed.set()
        await self._ended.wait()
        if self._session is not None:
            await self._session.close()

    def _cannot_send(self, reference: str, deadline: Deadline) -> str | None:
        """Why a submission cannot leave at all; nothing of it has."""
        if self._tasks is None or self._closed.is_set():
            return "the link is not running"
        if deadline.has_passed():
            return "the deadline had passed"
        if self._link.down_for_s() > 0.0:
            return "the link is down"
        if reference in self._under_way:
            return "this attempt is already under way"
        return None

    def _post_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        for start in range(0, len(gathered), wire.SUBMISSIONS_MAX):
            part = gathered[start : start + wire.SUBMISSIONS_MAX]
            post = _Post({hand_over.submission.reference: hand_over for hand_over in part})
            if self._tasks is None:
                post.settle_rest(_not_sent("the link is not running", 0.0))
                self._under_way.difference_update(_references(part))
            else:
                self._tasks.create_task(self._post(post, part))

    async def _post(self, post: _Post, part: Sequence[_HandOver]) -> None:
        body = wire.encode_submissions([hand_over.submission for hand_over in part])

        async def act(url: str, bound_s: float) -> _TurnedAway | None:
            return await self._send(post, f"{url}{wire.SUBMISSIONS_PATH}", body, bound_s)

        deadline = max((hand_over.deadline for hand_over in part), key=lambda each: each.at)
        try:
            answer = await self._submits.call(act, deadline=deadline, is_repeatable=False)
            post.settle_rest(self._rest(post, answer))
        finally:
            post.settle_rest(Unknown("the link was stopped before the answer"))
            self._under_way.difference_update(_references(part))

    async def _send(self, post: _Post, url: str, body: bytes, bound_s: float) -> _TurnedAway | None:
        """Settle each hand-over by its line. Raises `OSError` when the link failed."""
        reader = wire.AnswerReader()
        try:
            async with self._request(url, {"bind": self._bind}, body, bound_s) as response:
                self._link.worked(self._name)
                if response.status != 200:
                    return _turned_away(response.status)
                async for chunk in response.content.iter_any():
                    for answer in reader.receive(chunk):
                        post.settle(answer.reference, _outcome(answer))
        except (aiohttp.ClientError, wire.WireError) as error:
            post.is_unsent = self._note(error)
            raise OSError(_told(error)) from error
        return None

    def _rest(self, post: _Post, answer: _TurnedAway | Failed | None) -> Outcome:
        """The outcome of those that got no line."""
        match answer:
            case None:
                return Unknown("the carrier gave no answer")
            case _TurnedAway():
                return _not_sent(f"the carrier answered {answer.status}", NOT_TAKEN_RETRY_S)
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

    async def _call(
        self, url: str, parameters: Mapping[str, str], body: bytes, bound_s: float
    ) -> bytes:
        """The body of a 200. Raises `OSError` for everything else."""
        try:
            async with self._request(url, parameters, body, bound_s) as response:
                self._link.worked(self._name)
                payload = await response.read()
        except (aiohttp.ClientError, wire.WireError) as error:
            self._note(error)
            raise OSError(_told(error)) from error
        if response.status != 200:
            raise OSError(f"the carrier answered {response.status}")
        return payload

    def _note(self, error: Exception) -> bool:
        """Whether it says that no connection was made; then the link is down for a while."""
        # A refused or timed-out connect precedes the first byte of the request. Nothing else does:
        # ServerDisconnectedError and ClientOSError come from connections that were in use.
        if not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return False
        self._link.failed(self._name, _told(error))
        return True

    def _request(
        self, url: str, parameters: Mapping[str, str], body: bytes, bound_s: float
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._window + SPARE_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        if self._session.closed:
            raise OSError("the link is closed")
        return self._session.post(
            url,
            params=parameters,
            data=body,
            # A redirect would carry a hand-over to a place that nobody configured.
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                connect=min(CONNECT_TIMEOUT_S, bound_s / 2.0), ceil_threshold=_EXACT_S
            ),
        )


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


def _not_sent(reason: str, retry_after_s: float) -> Refused:
    return Refused(NOT_SENT_ERROR_CODE, reason, is_returned=True, retry_after_s=retry_after_s)


def _turned_away(status: int) -> _TurnedAway:
    # The wire answers 4xx and 503 before it takes anything. What another 5xx did is not known.
    if 300 <= status < 500 or status == 503:
        return _TurnedAway(status)
    raise OSError(f"the carrier answered {status}")


def _is_unicode(text: str) -> bool:
    """A lone surrogate cannot be encoded, and would spoil the whole post."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _references(part: Sequence[_HandOver]) -> set[str]:
    return {hand_over.submission.reference for hand_over in part}


def _on_wire(submission: Submission) -> wire.Submission:
    return wire.Submission(
        reference=submission.reference,
        sender=submission.sender,
        recipient=submission.recipient,
        text=submission.text,
        media_urls=submission.media_urls,
        possible_duplicate=submission.is_possible_duplicate,
    )


def _outcome(answer: wire.Answer) -> Outcome:
    match answer:
        case wire.Accepted():
            return Accepted(answer.message_id)
        case wire.Refused():
            return Refused(
                answer.error_code,
                answer.reason,
                is_returned=answer.returned,
                retry_after_s=answer.retry_after_s,
            )
        case other:
            assert_never(other)


def _item(item: wire.Item) -> Item:
    match item:
        case wire.Receipt():
            return ReceiptItem(
                item.item_id, item.message_id, item.reference, item.status, item.error_code
            )
        case wire.Inbound():
            return InboundItem(
                item.item_id,
                item.message_id,
                item.sender,
                item.recipient,
                item.text,
                item.media_urls,
            )
        case other:
            assert_never(other)
