"""A message that the host's copy does not show yet, as the log itself has it."""

from dataclasses import dataclass

from trunkline.domain.events import Kind
from trunkline.domain.message import Message
from trunkline.kernel import Deadline
from trunkline.log.interface import Log, Unreadable
from trunkline.log.lookup import find_original
from trunkline.messaging.accept import message_from


@dataclass(frozen=True, slots=True)
class MessageLookup:
    """Leader reads over every shard: slow and certain."""

    log: Log

    async def message(
        self, account: str, sid: str, *, deadline: Deadline
    ) -> Message | Unreadable | None:
        """The message as its original made it; `None` when every shard said no."""
        unasked: Unreadable | None = None
        for kind in (Kind.MESSAGE, Kind.INBOUND):
            found = await find_original(self.log, kind, account, sid, deadline=deadline)
            match found:
                case None:
                    continue
                case Unreadable():
                    unasked = found
                case _:
                    message = message_from(found)
                    return message if message.sid == sid else None
        return unasked
