"""What the API takes on: so much at once, creates before reads before exports, and nothing late.

A request comes here with its account known and its arguments checked, so that a slow body takes
nobody's place. Probes never come here: a host that is overrun must still say that it lives.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from trunkline.api.answer import Answer, Headers
from trunkline.api.errors import ApiError, unavailable
from trunkline.api.metrics import AdmissionMetrics
from trunkline.domain.errors import Code
from trunkline.kernel import (
    Clock,
    Deadline,
    Limiter,
    Priority,
    Seen,
    ServerLimits,
    Shed,
    ShedReason,
)

API_IN_FLIGHT_MAX: Final = 512
"""At 3,000 creates a second the last of them is answered in 0.2 s; more would only wait longer."""
ACCOUNT_RETRY_AFTER_S: Final = 1

API_LIMITS: Final = ServerLimits(in_flight_max=API_IN_FLIGHT_MAX)

CONCURRENT_HEADER: Final = b"twilio-concurrent-requests"
"""How many requests of its account were under way as this one came, itself included: a client that
watches it sees a 429 coming."""

TOO_MANY: Final = "account"
"""The reason of what was shed for its own account's sake, beside those of the kernel."""
GONE: Final = "gone"
"""And of what was shed because its client had closed the connection."""

STRANGERS_SHARE: Final = 4
"""Whoever asks without credentials may have this part of what runs at once, all of them together: what
they ask for is a file off the disk, and what accounts ask for must not wait behind it."""
STRANGERS: Final = "strangers"
"""The reason of what was shed because too much was asked without credentials."""

Handle = Callable[[], Awaitable[Answer]]


class Admission:
    """The way into the handlers of one process."""

    def __init__(self, limits: ServerLimits, *, clock: Clock, metrics: AdmissionMetrics) -> None:
        self._limiter: Final = Limiter(limits, clock=clock)
        # Running and waiting: alone, an account may have all that runs and half of the queue. The
        # other half is for everybody else.
        self._account_max: Final = limits.in_flight_max + limits.queue_max // 2
        self._clock = clock
        self._metrics = metrics
        self._strangers_max: Final = max(1, limits.in_flight_max // STRANGERS_SHARE)
        self._under_way: dict[str, int] = {}
        metrics.watch(self._limiter)

    async def run(
        self, handle: Handle, *, account: str | None, priority: Priority, deadline: Deadline
    ) -> Answer:
        """What `handle` answers, when its turn has come; `account` is `None` for whoever showed no
        credentials. Raises `ApiError` if it was not begun."""
        asker = STRANGERS if account is None else account
        under_way = self._under_way.get(asker, 0)
        if under_way >= (self._strangers_max if account is None else self._account_max):
            self._metrics.shed(STRANGERS if account is None else TOO_MANY, priority)
            raise _too_many_strangers() if account is None else _too_many(_concurrent(under_way))
        self._under_way[asker] = under_way + 1
        concurrent = () if account is None else _concurrent(under_way + 1)
        try:
            if self._limiter.is_full:
                handle = self._timed(handle)
            answer = await self._limiter.run(handle, priority=priority, deadline=deadline)
        except ApiError as refusal:
            refusal.headers += concurrent
            raise
        finally:
            left = self._under_way[asker] - 1
            if left:
                self._under_way[asker] = left
            else:
                del self._under_way[asker]
        if isinstance(answer, Shed):
            self._metrics.shed(answer.reason.name.lower(), priority)
            raise _not_begun(answer.reason, round(answer.retry_after_s))
        return msgspec.structs.replace(answer, headers=answer.headers + concurrent)

    def refuse_gone(self, caller: Seen, priority: Priority) -> None:
        """Turn away what a client asked that has left. Raises `ApiError`, for whoever only closed its
        sending side."""
        if caller.has_gone:
            self._metrics.shed(GONE, priority)
            raise unavailable(
                "The connection was closed before the request was begun, and nothing was done."
            )

    def refuse_expired(self, deadline: Deadline, priority: Priority) -> None:
        """Turn away what nobody waits for any more. Raises `ApiError`."""
        if deadline.has_passed():
            self._metrics.shed(ShedReason.EXPIRED.name.lower(), priority)
            raise not_begun_in_time()

    def _timed(self, handle: Handle) -> Handle:
        """`handle`, whose waiting from now on is measured."""
        came = self._clock.monotonic()

        def begin() -> Awaitable[Answer]:
            self._metrics.waited(self._clock.monotonic() - came)
            return handle()

        return begin


def not_begun_in_time() -> ApiError:
    """The caller's deadline passed before anything was done."""
    return _not_begun(ShedReason.EXPIRED)


def _not_begun(reason: ShedReason, retry_after_s: int = 1) -> ApiError:
    return unavailable(
        f"The request was not begun ({reason.value}), and nothing was done. Try again.",
        retry_after_s,
    )


def _too_many_strangers() -> ApiError:
    """No account has done too much, and no webhook's media are gone for good: a 503 is repeated."""
    return unavailable(
        "Too much is asked without credentials at the moment. Nothing was done; try again."
    )


def _too_many(concurrent: Headers) -> ApiError:
    retry_after = (b"retry-after", str(ACCOUNT_RETRY_AFTER_S).encode())
    return ApiError(Code.TOO_MANY_REQUESTS, headers=(retry_after, *concurrent))


def _concurrent(requests: int) -> Headers:
    return ((CONCURRENT_HEADER, str(requests).encode()),)
