"""Conversing with an application about one inbound message: document after document.

Whoever begins again, here or on another host, says and does the same: requests have the tokens they
had, and each reply has a key made of the inbound message and of the reply's place among the replies.
So a conversation may end anywhere and be had again, and doubles nothing.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, assert_never

import msgspec
import structlog

from trunkline.domain.events import Kind, Notice, Type
from trunkline.domain.number import is_e164
from trunkline.kernel import Clock, Deadline, Open
from trunkline.kernel.crash import CrashHere, CrashPoint
from trunkline.log.author import EVENT_ID_BYTES, Author
from trunkline.log.event import Event
from trunkline.messaging.conversation import (
    DOCUMENT_LIMIT_REACHED,
    DOCUMENTS_MAX,
    REPLIES_MAX,
    REPLY_LIMIT_REACHED,
    WARNINGS,
    Asking,
    Conversation,
    Document,
    Place,
    read,
    reply_of,
    request_for,
)
from trunkline.messaging.replies import (
    LOOP_REPLIES_MAX,
    LOOP_WINDOW_S,
    LOOPING,
    Dropped,
    Replies,
    Taken,
)
from trunkline.protocols.twiml.messaging import (
    REASON_CHARACTERS_MAX,
    Message,
    Redirect,
    Reply,
    TwimlError,
)
from trunkline.webhooks.client import (
    HTTP_RETRIEVAL_FAILURE,
    URL_INVALID,
    WEBHOOK_DEADLINE_S,
    Answered,
    Unreachable,
    WebhookAnswer,
    WebhookClient,
    WebhookRequest,
)
from trunkline.webhooks.cookies import Cookies
from trunkline.webhooks.overrides import RetryOn, overrides_of
from trunkline.webhooks.receivers import Receiver, Receivers
from trunkline.webhooks.signature import without_user

WORK_MAX_S: Final = 45.0
"""One conversation ends before the log's bound on work (60 s), or goes back to the log: what is kept of
it needs up to 10 s more."""
URL_CHARACTERS_MAX: Final = 500
NOTICES_MAX: Final = 50
"""Of one conversation."""

NOTICE_ID_DIGITS: Final = 2 * EVENT_ID_BYTES

SPARED: Final = TwimlError(HTTP_RETRIEVAL_FAILURE, "it has failed so often that it was not asked")
TOO_MANY: Final = TwimlError(
    LOOPING,
    f"over {LOOP_REPLIES_MAX} replies between two numbers in {LOOP_WINDOW_S:.0f} s; not sent",
)
NO_TIME: Final = TwimlError(
    HTTP_RETRIEVAL_FAILURE, f"it took longer than {WORK_MAX_S:.0f} s in all"
)

log: Final = structlog.get_logger(__name__)


class Recorder(Protocol):
    """Appends what may arrive in any order: to any healthy shard."""

    async def record_all(self, events: Sequence[Event], /) -> bool:
        """Whether they are on flushed storage."""


Owns = Callable[[str, str, Deadline], Awaitable[bool | None]]
"""`owns(account, number, deadline)`: whether it is the account's; `None` if nobody can tell in time."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """It is not known whether a reply is accepted."""


@dataclass(slots=True)
class _Course:
    """One conversation under way."""

    work: Deadline
    documents: int = 0
    """Asked for, those of the fallback among them."""
    hops: int = 0
    position: int = 0
    """Of the next `<Message>` among all of them."""
    taken: int = 0
    notices: list[Notice] = field(default_factory=list)

    def note(self, sid: str, place: Place, errors: Iterable[TwimlError]) -> None:
        """Say what was wrong, and keep it for whoever looks at the message later."""
        for error in errors:
            log.warning("inbound.twiml", sid=sid, code=error.code, reason=error.reason)
            if len(self.notices) < NOTICES_MAX:
                notice = Notice(
                    code=error.code,
                    reason=error.reason[:REASON_CHARACTERS_MAX],
                    url=without_user(place.url)[:URL_CHARACTERS_MAX],
                    method=place.method,
                    is_warning=error.code in WARNINGS,
                )
                self.notices.append(notice)


@dataclass(frozen=True, slots=True)
class Converser:
    """Use one for all the conversations of a process."""

    client: WebhookClient
    receivers: Receivers
    replies: Replies
    recorder: Recorder
    author: Author
    owns: Owns
    clock: Clock
    crash_here: CrashHere

    async def converse(self, conversation: Conversation, receiver: Receiver) -> bool:
        """Document after document. `False`: it must be had again, from the beginning."""
        conversation = replace(conversation, cookies=Cookies())
        course = _Course(Deadline.after(WORK_MAX_S, self.clock))
        asking: Asking | None = Asking(conversation.primary)
        while asking is not None:
            document = await self._fetch(conversation, asking, receiver, course)
            if document is None:
                break
            course.note(conversation.received.sid, document.place, document.reply.warnings)
            self.crash_here(CrashPoint.DOCUMENT_BEFORE_REPLY)
            done = await self._do(conversation, document, course)
            if isinstance(done, Unsettled):
                return False
            asking = done
        return await self._keep_notices(conversation, course)

    async def _do(
        self, conversation: Conversation, document: Document, course: _Course
    ) -> Asking | Unsettled | None:
        """What is to be asked for next, when all is done that the document says."""
        for instruction in document.reply.instructions:
            if isinstance(instruction, Redirect):
                return document.behind(instruction)
            came = await self._reply(conversation, document.place, instruction, course)
            if came is None:
                return Unsettled()
            action = document.action_of(instruction, came)
            if action is not None:
                return action  # what stands behind it is not reached
        return None

    async def _fetch(
        self, conversation: Conversation, asking: Asking, receiver: Receiver, course: _Course
    ) -> Document | None:
        """The document, or the fallback URL's; `None` when there is neither."""
        sid, hop, place = conversation.received.sid, course.hops, asking.place
        course.hops += 1
        if not self._may_ask(conversation, place, course):
            return None
        started = self.clock.monotonic()
        request = request_for(conversation, asking, hop)
        # A primary URL that keeps failing is left out where there is another one to ask.
        asked = await self.receivers.ask(
            lambda: self._ask(request, course.work),
            account=conversation.account,
            url=place.url,
            is_only_chance=conversation.fallback is None,
        )
        reply = SPARED if isinstance(asked, Open) else read(asked)
        if not isinstance(asked, Open):
            took_s = self.clock.monotonic() - started
            receiver.note(is_success=isinstance(reply, Reply), took_s=took_s)
        if isinstance(reply, Reply):
            return Document(_place_behind(place, asked), reply)
        course.note(sid, place, [reply])
        instead = conversation.fallback
        if instead is None or not self._may_ask(conversation, instead, course):
            return None
        request = request_for(conversation, asking, hop, instead=instead, because=reply)
        answer = await self._ask(request, course.work)
        reply = read(answer)
        if isinstance(reply, Reply):
            return Document(_place_behind(instead, answer), reply)
        course.note(sid, instead, [reply])
        return None

    def _may_ask(self, conversation: Conversation, place: Place, course: _Course) -> bool:
        course.documents += 1
        if course.documents > DOCUMENTS_MAX:
            why = TwimlError(DOCUMENT_LIMIT_REACHED, f"over {DOCUMENTS_MAX} documents")
        elif course.work.has_passed():
            why = NO_TIME
        else:
            return True
        course.note(conversation.received.sid, place, [why])
        return False

    async def _ask(self, request: WebhookRequest, work: Deadline) -> WebhookAnswer:
        """Twilio documentation, "Webhooks: Connection Overrides": 15 s in all, and by default one
        retry, only if no connection came about; the URL's fragment may say otherwise."""
        overrides = overrides_of(request.url)
        bound_s = min(WEBHOOK_DEADLINE_S, overrides.total_s, work.remaining_s())
        deadline = Deadline.after(bound_s, self.clock)
        answer = await self.client.send(request, deadline=deadline)
        for _ in range(overrides.retries):
            if failure_of(answer) not in overrides.policy or deadline.has_passed():
                break
            answer = await self.client.send(request, deadline=deadline)
        return answer

    async def _reply(
        self, conversation: Conversation, place: Place, message: Message, course: _Course
    ) -> Taken | Dropped | TwimlError | None:
        """What came of one reply; `None` if that is not known."""
        sid, position = conversation.received.sid, course.position
        course.position += 1
        sender = message.sender
        is_ours = sender is None or (
            is_e164(sender) and await self.owns(conversation.account, sender, course.work)
        )
        if is_ours is None:
            return None
        prepared = reply_of(conversation, place, message, is_ours=is_ours)
        course.note(sid, place, prepared.warnings)
        reply = prepared.reply
        if not isinstance(reply, TwimlError) and course.taken >= REPLIES_MAX:
            reply = TwimlError(REPLY_LIMIT_REACHED, f"over {REPLIES_MAX} replies; not sent")
        if isinstance(reply, TwimlError):
            course.note(sid, place, [reply])
            return reply
        came = await self.replies.accept(reply, sid, f"{sid}:{position}", course.work)
        course.taken += isinstance(came, Taken)
        if came == Dropped(LOOPING):
            course.note(sid, place, [TOO_MANY])
        if came is not None:
            self.crash_here(CrashPoint.REPLY_BEFORE_ACK)
        return came

    async def _keep_notices(self, conversation: Conversation, course: _Course) -> bool:
        if not course.notices:
            return True
        sid = conversation.received.sid
        events = [
            msgspec.structs.replace(
                self.author.event(Kind.INBOUND, Type.NOTICE, conversation.account, sid, notice),
                id=_notice_id(sid, number, notice.code),
            )
            for number, notice in enumerate(course.notices)
        ]
        return await self.recorder.record_all(events)


def failure_of(answer: WebhookAnswer) -> RetryOn | None:
    """Which failure of a connection override's policy it is; `None` for a success, and for what no
    policy names: a URL that cannot be asked, an answer that is no HTTP or breaks off."""
    match answer:
        case Answered(status=status):
            if status >= 500:
                return RetryOn.SERVER_ERROR
            return RetryOn.CLIENT_ERROR if status >= 400 else None
        case Unreachable(error_code=error_code) if error_code == URL_INVALID:
            return None
        case Unreachable():
            if answer.is_unsent:
                return RetryOn.CONNECT
            return RetryOn.READ if answer.is_late else None
        case other:
            assert_never(other)


def _place_behind(place: Place, asked: WebhookAnswer | Open) -> Place:
    """Where the answer is from: redirects of HTTP may have led on."""
    if isinstance(asked, Answered) and asked.url:
        return Place(asked.url, place.method)
    return place


def _notice_id(sid: str, number: int, code: int) -> str:
    """The same when the conversation is had again and the same goes wrong."""
    return hashlib.sha256(f"{sid}:{number}:{code}".encode()).hexdigest()[:NOTICE_ID_DIGITS]
