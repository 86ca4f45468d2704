"""Inbound messages: the application is asked what to do, and its TwiML is done.

The message itself is safe before anything here begins. Asking has a strict bound and a fallback
URL, as the Twilio API has; replies are accepted under keys made of the inbound message and their
position, so that a crash half way through, and the whole conversation again, cannot double one.
"""

import functools
import random
from collections.abc import Iterable, Sequence
from typing import Final, assert_never

import structlog

from trunkline.directory.numbers import find_owned
from trunkline.domain.events import MessageReceived, Type
from trunkline.kernel import Backoff, Clock, Deadline, Open
from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.log.event import Event
from trunkline.log.fence import Verdict, is_true_copy
from trunkline.log.interface import Delivery, Log, Unreadable
from trunkline.log.share import WHOLE, Share
from trunkline.messaging.accept import Acceptor
from trunkline.messaging.answering import answering, is_number_of
from trunkline.messaging.conversation import (
    Conversation,
    Document,
    Place,
    conversation_of,
    read,
    reply_of,
    request_for,
)
from trunkline.messaging.inbound_media import InboundMedia, Later
from trunkline.messaging.keywords import answer_to, key_of_answer
from trunkline.messaging.replies import (
    ACCEPT_BACKOFF_BASE_S,
    ACCEPT_BACKOFF_CAP_S,
    ACCEPT_DEADLINE_S,
    Replies,
)
from trunkline.messaging.wanted import by_inbound
from trunkline.protocols.twiml.messaging import Message, Reply, TwimlError
from trunkline.replica.queries import Replica
from trunkline.webhooks.client import (
    HTTP_RETRIEVAL_FAILURE,
    WEBHOOK_DEADLINE_S,
    Unreachable,
    WebhookAnswer,
    WebhookClient,
    WebhookRequest,
)
from trunkline.webhooks.intake import Hands, Intake, readable
from trunkline.webhooks.receivers import Receiver, Receivers

REDIRECTS_MAX: Final = 5
WORK_MAX_S: Final = 55.0
"""One conversation ends before the log's bound on work (60 s), or goes back to the log."""
FENCE_DEADLINE_S: Final = 5.0
FENCE_RETRY_S: Final = 1.0
COPY_RETRY_S: Final = 2.0
RETURN_DELAY_MIN_S: Final = 1.0
RETURN_DELAY_MAX_S: Final = 5.0

DOCUMENT_LIMIT_REACHED: Final = 14106
"""Twilio's code for it (Twilio documentation, "Error and Warning Dictionary")."""

SPARED: Final = TwimlError(HTTP_RETRIEVAL_FAILURE, "it has failed so often that it was not asked")

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
        media: InboundMedia,
        clock: Clock,
        rng: random.Random,
        crash_here: CrashHere = never_crash,
        share: Share = WHOLE,
    ) -> None:
        self._log = log
        self._replica = replica
        self._client = client
        self._replies = Replies(acceptor, clock, rng)
        self._backoff = Backoff(ACCEPT_BACKOFF_BASE_S, ACCEPT_BACKOFF_CAP_S, rng)
        self._media = media
        self._crash_here = crash_here
        self._clock = clock
        self._rng = rng
        self._receivers = Receivers(clock)
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
        if not await self._answer_keyword(event, received):
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
            await delivery.ack()
        else:
            await delivery.nak(self._rng.uniform(RETURN_DELAY_MIN_S, RETURN_DELAY_MAX_S))

    async def _answer_keyword(self, event: Event, received: MessageReceived) -> bool:
        """`False` if a keyword's answer is not known to be accepted."""
        pair = (event.account, received.recipient, received.sender)
        had_opted_out = self._replica.has_opted_out(*pair, before=(event.at, event.sid))
        answer = answer_to(event.account, received, had_opted_out=had_opted_out)
        work = Deadline.after(ACCEPT_DEADLINE_S, self._clock)
        return answer is None or await self._replies.accept(
            answer, received.sid, key_of_answer(received.sid), work
        )

    async def _converse_in_turn(self, conversation: Conversation) -> bool:
        with self._receivers.hold(conversation.account, conversation.primary.url) as receiver:
            if receiver is None:
                return False
            async with receiver.tries:
                if receiver.is_crowded:  # it fell ill while we waited
                    return False
                return await self._converse(conversation, receiver)

    async def _converse(self, conversation: Conversation, receiver: Receiver) -> bool:
        """Document after document. `False`: it must be had again, from the beginning."""
        sid = conversation.received.sid
        work = Deadline.after(WORK_MAX_S, self._clock)
        place: Place | None = conversation.primary
        position = 0
        for hop in range(1 + REDIRECTS_MAX):
            if place is None:
                return True
            document = await self._fetch(conversation, place, hop, receiver, work)
            if document is None:
                return True
            _warn_all(sid, document.reply.warnings)
            self._crash_here(CrashPoint.DOCUMENT_BEFORE_REPLY)
            for message in document.messages:
                key = f"{sid}:{position}"
                if not await self._reply(conversation, document.place, message, key, work):
                    return False
                self._crash_here(CrashPoint.REPLY_BEFORE_ACK)
                position += 1
            place = document.next_place
        _warn_all(sid, [TwimlError(DOCUMENT_LIMIT_REACHED, f"over {REDIRECTS_MAX} redirects")])
        return True

    async def _fetch(
        self,
        conversation: Conversation,
        place: Place,
        hop: int,
        receiver: Receiver,
        work: Deadline,
    ) -> Document | None:
        """The document, or the fallback URL's; `None` when there is neither."""
        sid = conversation.received.sid
        started = self._clock.monotonic()
        request = request_for(conversation, place, hop)
        # A primary URL that keeps failing is left out where there is another one to ask.
        asked = await self._receivers.ask(
            lambda: self._ask(request, work),
            account=conversation.account,
            url=place.url,
            is_only_chance=conversation.fallback is None,
        )
        reply = SPARED if isinstance(asked, Open) else read(asked)
        if not isinstance(asked, Open):
            took_s = self._clock.monotonic() - started
            receiver.note(is_success=isinstance(reply, Reply), took_s=took_s)
        if isinstance(reply, TwimlError) and conversation.fallback is not None:
            _warn_all(sid, [reply])
            failed, place = place, conversation.fallback
            request = request_for(conversation, place, hop, instead_of=failed, because=reply)
            reply = read(await self._ask(request, work))
        if isinstance(reply, TwimlError):
            _warn_all(sid, [reply])
            return None
        return Document(place, reply)

    async def _ask(self, request: WebhookRequest, work: Deadline) -> WebhookAnswer:
        """Twilio documentation, "Webhooks: Connection Overrides": 15 s in all, and by default one
        retry, only if no connection came about."""
        deadline = Deadline.after(min(WEBHOOK_DEADLINE_S, work.remaining_s()), self._clock)
        answer = await self._client.send(request, deadline=deadline)
        if isinstance(answer, Unreachable) and answer.is_unsent and not deadline.has_passed():
            return await self._client.send(request, deadline=deadline)
        return answer

    async def _reply(
        self, conversation: Conversation, place: Place, message: Message, key: str, work: Deadline
    ) -> bool:
        """Have one reply accepted; `False` if it is not known to be before `work` ends."""
        is_ours = message.sender is None or await is_number_of(
            conversation.account,
            message.sender,
            log=self._log,
            replica=self._replica,
            clock=self._clock,
            backoff=self._backoff,
            deadline=work,
        )
        if is_ours is None:
            return False
        prepared = reply_of(conversation, place, message, is_ours=is_ours)
        _warn_all(conversation.received.sid, prepared.warnings)
        reply = prepared.reply
        return reply is None or await self._replies.accept(
            reply, conversation.received.sid, key, work
        )


def _warn_all(sid: str, errors: Iterable[TwimlError]) -> None:
    for error in errors:
        log.warning("inbound.twiml", sid=sid, code=error.code, reason=error.reason)
