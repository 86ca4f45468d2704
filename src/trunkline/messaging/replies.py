"""Having replies to inbound messages accepted: again under the same key, until it is known.

Of the replies between two numbers only so many are accepted in so many seconds: where two applications
answer each other, the one that is not sent ends it.
"""

import random
from dataclasses import dataclass
from typing import Final, assert_never

import structlog

from trunkline.kernel import Backoff, Clock, Deadline
from trunkline.log.interface import Unreadable
from trunkline.messaging.accept import (
    AcceptAnswer,
    Acceptor,
    Created,
    Inactive,
    KeyReused,
    NewMessage,
    NotAccepted,
    OptedOut,
    OutcomeUnknown,
)
from trunkline.messaging.unwanted import ACCOUNT_INACTIVE, OPTED_OUT

# Twilio's bounds and code (Twilio documentation, "Error 14107").
LOOP_REPLIES_MAX: Final = 30
LOOP_WINDOW_S: Final = 30.0
LOOPING: Final = 14107

ACCEPT_DEADLINE_S: Final = 5.0
ACCEPT_BACKOFF_BASE_S: Final = 0.1
ACCEPT_BACKOFF_CAP_S: Final = 2.0

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """The reply is the message `sid`."""

    sid: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """There is no such message, and there will be none. `code` is Twilio's."""

    code: int


class Replies:
    """Use one for all the replies of a process."""

    def __init__(self, acceptor: Acceptor, clock: Clock, rng: random.Random) -> None:
        self._acceptor = acceptor
        self._clock = clock
        self._backoff = Backoff(ACCEPT_BACKOFF_BASE_S, ACCEPT_BACKOFF_CAP_S, rng)

    def may_be_sent(self, account: str) -> bool | Unreadable:
        """Whether the account is active. What arrives for another one is kept, and answered by nobody."""
        return self._acceptor.is_active(account)

    async def accept(
        self, reply: NewMessage, inbound: str, key: str, work: Deadline
    ) -> Taken | Dropped | None:
        """Have one reply to the message `inbound` accepted; `None` if it is not known to be before
        `work` ends. One to a handset that has opted out is dropped, and so is one too many."""
        attempt = 0
        while not work.has_passed():
            deadline = Deadline.after(min(ACCEPT_DEADLINE_S, work.remaining_s()), self._clock)
            match await self._answer(reply, key, deadline):
                case None:
                    return Dropped(LOOPING)
                case Created(message=message):
                    return Taken(message.sid)
                case KeyReused(sid=sid):
                    # The conversation was had before and went otherwise; what was said counts.
                    log.info("inbound.reply_kept", sid=sid, inbound=inbound)
                    return Taken(sid)
                case Inactive():
                    log.info("inbound.reply_unwanted", inbound=inbound)
                    return Dropped(ACCOUNT_INACTIVE)  # suspended since it was asked
                case OptedOut():
                    log.info("inbound.reply_unwanted", inbound=inbound)
                    return Dropped(OPTED_OUT)
                case NotAccepted() | OutcomeUnknown():
                    delay_s = self._backoff.delay_s(attempt)
                    await self._clock.sleep(min(delay_s, work.remaining_s()))
                    attempt += 1
                case other:
                    assert_never(other)
        return None

    async def _answer(self, reply: NewMessage, key: str, deadline: Deadline) -> AcceptAnswer | None:
        """What is answered to it; `None` if it is one too many. One that was accepted before, in a
        conversation that is had again, is none: it is itself among those that are counted."""
        if self._is_too_many(reply):
            return await self._acceptor.repeated(reply, key=key, deadline=deadline)
        return await self._acceptor.accept(reply, key=key, deadline=deadline)

    def _is_too_many(self, reply: NewMessage) -> bool:
        """As far as this host's copy knows; while it cannot be read, none is."""
        if reply.is_automatic is True:
            return False
        count = self._acceptor.replica.replies_between(
            reply.account, reply.sender, reply.recipient, since=self._clock.wall() - LOOP_WINDOW_S
        )
        return not isinstance(count, Unreadable) and count >= LOOP_REPLIES_MAX
