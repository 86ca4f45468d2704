"""Telling a step of a message again because an operator asks for it: under the same token, once, and in
order. What the application makes of it is written down like any other telling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trunkline.domain.callback import given_up, has_callback, untold_of
from trunkline.domain.events import Kind, Told, Type
from trunkline.domain.message import Message
from trunkline.domain.status import Status, rank
from trunkline.kernel import Clock, Deadline
from trunkline.log.author import Author
from trunkline.messaging.callbacks import Recorder, plan_to_tell
from trunkline.webhooks.client import WEBHOOK_DEADLINE_S, Answered, WebhookAnswer, WebhookClient
from trunkline.webhooks.deliver import result_of

NO_CALLBACK: Final = "it has no status callback"


@dataclass(frozen=True, slots=True)
class NotReplayed:
    """Why there is nothing to tell again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """One step and what came of it. `is_recorded` is whether that it was told is on flushed storage."""

    step: Status
    answer: WebhookAnswer
    is_recorded: bool


def steps_to_replay(message: Message, step: Status | None) -> Sequence[Status] | NotReplayed:
    """Those that were given up, in order; without any, the last one told, or the one that waits. Of
    `step`, that one. None is told before the one in front of it."""
    if not has_callback(message):
        return NotReplayed(NO_CALLBACK)
    waiting = untold_of(message)
    if step is None:
        last = sorted(message.told, key=rank)[-1:] or list(waiting[:1])
        return given_up(message) or tuple(last) or NotReplayed("none of its steps came about yet")
    if step in message.told or step in waiting[:1]:
        return (step,)
    if step in waiting:
        return NotReplayed(f"{step} waits behind {waiting[0]}: replay that one first")
    return NotReplayed(f"{step} is none of its steps, or did not come about yet")


@dataclass(frozen=True, slots=True)
class Replayer:
    """Use one for a command."""

    client: WebhookClient
    recorder: Recorder
    author: Author
    clock: Clock

    async def replay(
        self, message: Message, auth_token: str, steps: Sequence[Status]
    ) -> list[Replayed]:
        """Tell `steps`, until one is not taken."""
        plan = plan_to_tell(message, auth_token, steps)
        done: list[Replayed] = []
        if plan is None:
            return done
        for step in plan.steps:
            deadline = Deadline.after(WEBHOOK_DEADLINE_S, self.clock)
            answer = await self.client.send(plan.request(step), deadline=deadline)
            # A URL that nobody may ask is no more told by being asked again.
            result = result_of(answer, attempts=1) if isinstance(answer, Answered) else None
            is_recorded = False
            if result is not None:
                told = Told(
                    status=step.name, attempts=1, http_status=result.http_status, is_replay=True
                )
                event = self.author.event(
                    Kind.MESSAGE, Type.TOLD, message.account, message.sid, told
                )
                is_recorded = await self.recorder.record_all([event])
            done.append(Replayed(Status(step.name), answer, is_recorded))
            if result is None:
                break
        return done
