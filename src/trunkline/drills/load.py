"""The customer's program: creates at a steady rate, whatever comes of them, over several hosts.

It behaves as a good application does: what fails on one host is repeated on another under the same
key, and a host that just failed is left alone for a moment. In the mode without keys only what was
surely not accepted is repeated.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from trunkline.drills.cluster import Account
from trunkline.drills.observer.journal import Journal
from trunkline.drills.observer.records import Create, Outcome, Read
from trunkline.kernel import Clock

TRY_TIMEOUT_S: Final = 2.0
GIVE_UP_S: Final = 90.0
PAUSE_LEAST_S: Final = 0.025
PAUSE_MOST_S: Final = 1.0
SHUNNED_S: Final = 1.0
IN_FLIGHT_MAX: Final = 5_000
TRIES_AT_ONCE_MAX: Final = 100
"""As a client's pool of connections is bounded. Without it every create that waits for a host is tried
every second, and what a host finds when it is back is thousands of requests that nobody waits for."""
READ_SHARE: Final = 0.1
"""So many of the accepted are looked up at once, on any host."""
RECIPIENTS: Final = 100

_SURELY_NOT: Final = ("was not accepted", "nothing was done", "not begun")
_AMBIGUOUS_HEADER: Final = "X-Trunkline-Ambiguous-Attempts"


@dataclass(frozen=True, slots=True)
class Target:
    """A host as the load reaches it."""

    name: str
    base_url: str


@dataclass(frozen=True, slots=True)
class Means:
    """What the load works with."""

    session: aiohttp.ClientSession
    journal: Journal
    clock: Clock
    rng: random.Random


@dataclass(slots=True)
class Tally:
    """What the load knows of itself while it runs."""

    asked: int = 0
    tries: int = 0
    accepted: dict[str, str] = field(default_factory=dict)
    """By SID: the text."""
    given_up: int = 0
    accepted_at: list[float] = field(default_factory=list)


class Load:
    """`targets` is asked for before each request, as hosts may move."""

    def __init__(
        self,
        targets: Callable[[], Sequence[Target]],
        account: Account,
        means: Means,
        *,
        run: str,
        callback: str,
        is_keyed: bool = True,
    ) -> None:
        self.tally: Final = Tally()
        self._targets = targets
        self._account = account
        self._run = run
        self._callback = callback
        self._journal = means.journal
        self._session = means.session
        self._clock = means.clock
        self._rng = means.rng
        self._is_keyed = is_keyed
        self._shunned: dict[str, float] = {}
        self._places = asyncio.Semaphore(TRIES_AT_ONCE_MAX)
        self._auth = aiohttp.BasicAuth(account.sid, account.auth_token)
        self._messages = f"/2010-04-01/Accounts/{account.sid}/Messages"

    async def run(self, rate_per_s: float, stop: asyncio.Event) -> None:
        """Until `stop` is set and every create was answered or given up."""
        began, sent = self._clock.monotonic(), 0
        places = asyncio.Semaphore(IN_FLIGHT_MAX)
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                due = began + sent / rate_per_s
                wait_s = due - self._clock.monotonic()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                sent += 1
                await places.acquire()
                creating = tasks.create_task(self._create(sent, due))
                creating.add_done_callback(lambda _: places.release())

    async def _create(self, number: int, due: float) -> None:
        text, key = f"{self._run}-{number}", f"{self._run}-key-{number}" if self._is_keyed else ""
        recipient = recipient_of(number)
        self.tally.asked += 1
        pause_s = PAUSE_LEAST_S
        while self._clock.monotonic() < due + GIVE_UP_S:
            async with self._places:
                made = await self._try(self._target(), text, recipient, key, due)
            match made.outcome:
                case Outcome.ACCEPTED:
                    self._note(made)
                    await self._look_up(made)
                    return
                case Outcome.UNKNOWN if not self._is_keyed:
                    return  # a repeat could be a second message
                case _:
                    await asyncio.sleep(self._rng.uniform(0.0, pause_s))
                    pause_s = min(PAUSE_MOST_S, pause_s * 2)
        self.tally.given_up += 1

    async def _try(self, target: Target, text: str, recipient: str, key: str, due: float) -> Create:
        form = {"To": recipient, "From": self._account.phone_number, "Body": text}
        if self._callback:
            form["StatusCallback"] = self._callback
        headers = {"X-Deadline-Ms": str(int(TRY_TIMEOUT_S * 1000))}
        if key:
            headers["Idempotency-Key"] = key
        outcome, http, sid = Outcome.UNKNOWN, 0, ""
        at = self._clock.monotonic()
        self.tally.tries += 1
        try:
            async with self._session.post(
                f"{target.base_url}{self._messages}.json",
                data=form,
                headers=headers,
                auth=self._auth,
                timeout=aiohttp.ClientTimeout(total=TRY_TIMEOUT_S),
            ) as answer:
                http = answer.status
                outcome, sid = outcome_of(http, await answer.json(content_type=None))
        except aiohttp.ClientConnectorError:
            outcome = Outcome.REFUSED
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            outcome = Outcome.UNKNOWN
        if outcome is not Outcome.ACCEPTED:
            self._shunned[target.name] = self._clock.monotonic() + SHUNNED_S
        record = Create(
            due, at, self._clock.monotonic(), text, recipient, target.name, outcome, key, http, sid
        )
        self._journal.write(record)
        return record

    def _note(self, made: Create) -> None:
        self.tally.accepted[made.sid] = made.text
        self.tally.accepted_at.append(made.until)

    async def _look_up(self, made: Create) -> None:
        """Now and then: what was answered 201 must be there, on any host."""
        if self._rng.random() < READ_SHARE:
            await self.look_up(self._target(), made.sid)

    async def look_up(self, target: Target, sid: str) -> Read | None:
        """Read one message and write down what was shown; None where no host answered."""
        at = self._clock.monotonic()
        try:
            async with self._session.get(
                f"{target.base_url}{self._messages}/{sid}.json",
                auth=self._auth,
                timeout=aiohttp.ClientTimeout(total=TRY_TIMEOUT_S),
            ) as answer:
                shown = await answer.json(content_type=None)
                ambiguous = int(answer.headers.get(_AMBIGUOUS_HEADER, "0"))
                http = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None
        is_shown = http == 200
        record = Read(
            at=at,
            until=self._clock.monotonic(),
            host=target.name,
            sid=sid,
            http=http,
            status=shown["status"] if is_shown else "",
            error_code=(shown["error_code"] or 0) if is_shown else 0,
            ambiguous=ambiguous,
        )
        self._journal.write(record)
        return record

    def _target(self) -> Target:
        """Any host but those that just failed; if all did, any."""
        now = self._clock.monotonic()
        targets = self._targets()
        well = [each for each in targets if self._shunned.get(each.name, 0.0) <= now]
        return self._rng.choice(well or targets)


def recipient_of(number: int) -> str:
    """To whom the message of that number goes."""
    return f"+1202555{number % RECIPIENTS:04d}"


def outcome_of(http: int, answer: object) -> tuple[Outcome, str]:
    """What an answer to a create means (docs/reference/api.md), and the SID where it has one."""
    content = answer if isinstance(answer, dict) else {}
    if http == 201:
        return Outcome.ACCEPTED, str(content.get("sid", ""))
    words = str(content.get("message", "")).lower()
    is_surely_not = http in {429, 503} and any(said in words for said in _SURELY_NOT)
    if is_surely_not or 400 <= http < 429:
        return Outcome.REFUSED, ""
    return Outcome.UNKNOWN, ""
