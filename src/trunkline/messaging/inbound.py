"""Inbound messages: the application is asked what to do, and its TwiML is done.

The message itself is safe before anything here begins. Asking has a strict bound and a fallback
URL, as the Twilio API has; replies are accepted under keys made of the inbound message and their
position, so that a crash half way through, and the whole conversation again, cannot double one.
"""

import functools
import random
from collections.abc import Sequence
from typing import Final, assert_never

import structlog

from trunkline.directory.numbers import find_owned
from trunkline.domain.events import MessageReceived, Type
from trunkline.kernel import Backoff, Clock, Deadline
from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.log.author import Author
from trunkline.log.event import Event
from trunkline.log.fence import Verdict, is_true_copy
from trunkline.log.interface import Delivery, Log, Stored, Unreadable
from trunkline.log.share import WHOLE, Share
from trunkline.messaging.accept import Acceptor
from trunkline.messaging.answering import answering, is_number_of
from trunkline.messaging.conversation import Conversation, conversation_of
from trunkline.messaging.converse import Converser, Recorder
from trunkline.messaging.inbound_media import InboundMedia, Later
from trunkline.messaging.keywords import answer_to, key_of_answer
from trunkline.messaging.replies import (
    ACCEPT_BACKOFF_BASE_S,
    ACCEPT_BACKOFF_CAP_S,
    ACCEPT_DEADLINE_S,
    Replies,
)
from trunkline.messaging.wanted import by_inbound
from trunkline.replica.queries import Replica
from trunkline.webhooks.client import WebhookClient
from trunkline.webhooks.intake import Hands, Intake, readable
from trunkline.webhooks.receivers import Receivers

FENCE_DEADLINE_S: Final = 5.0
FENCE_RETRY_S: Final = 1.0
COPY_RETRY_S: Final = 2.0

KEYWORD_SHOWN_MAX_S: Final = 1.0
"""How long the answer to a keyword waits for this host's copy to show the keyword, which takes some
hundredths of a second: the answer to a START must not be read while messages are still refused. A
copy that is far behind keeps nobody without an answer."""

RETURN_DELAY_MIN_S: Final = 1.0
RETURN_DELAY_MAX_S: Final = 5.0

log: Final = structlog.get_logger(__name__)


class Inbound:
    """Asks applications about inbound messages, and does what they answer."""

    name = "inbound"

    def __init__(  # noqa: PLR0913 - each is a part that the composition root names
        self,
        *,
        log: Log,
        replica: Replica,
        client: WebhookClient,
        acceptor: Acceptor,
        recorder: Recorder,
        author: Author,
        media: InboundMedia,
        clock: Clock,
        rng: random.Random,
        crash_here: CrashHere = never_crash,
        share: Share = WHOLE,
    ) -> None:
        self._log = log
        self._replica = replica
        self._replies = Replies(acceptor, clock, rng)
        self._backoff = Backoff(ACCEPT_BACKOFF_BASE_S, ACCEPT_BACKOFF_CAP_S, rng)
        self._media = media
        self._crash_here = crash_here
        self._clock = clock
        self._rng = rng
        self._receivers = Receivers(clock)
        self._converser = Converser(
            client=client,
            receivers=self._receivers,
            replies=self._replies,
            recorder=recorder,
            author=author,
            owns=self._is_number_of,
            clock=clock,
            crash_here=crash_here,
        )
        self._intake = Intake(
            log, self.name, by_inbound, self._take, clock=clock, rng=rng, share=share
        )

    async def run(self) -> None:
        """Until drained."""
        await self._intake.run()

    def drain(self) -> None:
        """Take nothing new; `run` returns when what is in hand is answered."""
        self._intake.drain()

    async def _take(self, shard: int, deliveries: Sequence[Delivery], hands: Hands) -> None:
        del shard  # it is in each delivery
        for delivery in deliveries:
            events = await readable(delivery)
            if events is None:
                continue
            event = events[0]  # a register holds one
            if event.type is Type.ORIGINAL:
                work = functools.partial(self._handle, delivery, event)
                await hands.pass_on(delivery, work)
            else:
                await delivery.ack()

    async def _handle(self, delivery: Delivery, event: Event) -> None:
        """Fence, then converse; the delivery is answered in every case."""
        deadline = Deadline.after(FENCE_DEADLINE_S, self._clock)
        match await is_true_copy(
            self._log, event, delivery.stored, clock=self._clock, deadline=deadline
        ):
            case Verdict.TRUE:
                await self._handle_true(delivery, event)
            case Verdict.DUPLICATE:
                await delivery.ack()
            case Verdict.UNSETTLED:
                await delivery.nak(FENCE_RETRY_S)
            case other:
                assert_never(other)

    async def _handle_true(self, delivery: Delivery, event: Event) -> None:
        received = event.body()
        if not isinstance(received, MessageReceived):
            await delivery.ack()
            return
        number = await find_owned(self._log, self._replica, event.account, received.recipient)
        account = self._replica.account(event.account)
        if account is None or isinstance(number, Unreadable):  # not shown yet, or nobody can tell
            await delivery.nak(COPY_RETRY_S)
            return
        if number is None:
            log.warning("inbound.no_owner", sid=event.sid)
            await delivery.ack()
            return
        is_active = self._replies.may_be_sent(event.account)
        if isinstance(is_active, Unreadable):
            await delivery.nak(COPY_RETRY_S)
            return
        if not is_active:
            log.warning("inbound.account_inactive", sid=event.sid)
            await delivery.ack()
            return
        if not await self._answer_keyword(event, received, delivery.stored):
            await delivery.nak(self._rng.uniform(RETURN_DELAY_MIN_S, RETURN_DELAY_MAX_S))
            return
        settings = await answering(number, log=self._log, replica=self._replica)
        if isinstance(settings, Unreadable):
            await delivery.nak(COPY_RETRY_S)
            return
        pieces = await self._media.pieces(event, received, delivery.stored)
        if isinstance(pieces, Later):
            await delivery.nak(pieces.after_s)
            return
        conversation = conversation_of(
            received,
            number,
            account.auth_token,
            settings,
            media=self._media.told(event, pieces),
        )
        if conversation is None or await self._converse_in_turn(conversation):
            self._crash_here(CrashPoint.ANSWERED_BEFORE_ACK)
            await delivery.ack()
        else:
            await delivery.nak(self._rng.uniform(RETURN_DELAY_MIN_S, RETURN_DELAY_MAX_S))

    async def _answer_keyword(
        self, event: Event, received: MessageReceived, stored: Stored
    ) -> bool:
        """`False` if a keyword's answer is not known to be accepted."""
        pair = (event.account, received.recipient, received.sender)
        had_opted_out = self._replica.has_opted_out(*pair, before=(event.at, event.sid))
        answer = answer_to(event.account, received, had_opted_out=had_opted_out)
        if answer is None:
            return True
        shown_by = Deadline.after(KEYWORD_SHOWN_MAX_S, self._clock)
        await self._replica.wait_until_seen(stored.shard, stored.sequence, deadline=shown_by)
        work = Deadline.after(ACCEPT_DEADLINE_S, self._clock)
        key = key_of_answer(received.sid)
        return await self._replies.accept(answer, received.sid, key, work) is not None

    async def _converse_in_turn(self, conversation: Conversation) -> bool:
        with self._receivers.hold(conversation.account, conversation.primary.url) as receiver:
            if receiver is None:
                return False
            async with receiver.tries:
                if receiver.is_crowded:  # it fell ill while we waited
                    return False
                return await self._converser.converse(conversation, receiver)

    async def _is_number_of(
        self, account: str, phone_number: str, deadline: Deadline
    ) -> bool | None:
        return await is_number_of(
            account,
            phone_number,
            log=self._log,
            replica=self._replica,
            clock=self._clock,
            backoff=self._backoff,
            deadline=deadline,
        )
