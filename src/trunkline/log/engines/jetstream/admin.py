"""Administrative requests: asked again soon, because who should answer may just not be there yet.

Where several servers make one cluster, a request about a stream is answered by its leader alone, and
while there is none, by nobody. Every one of these may be repeated: a stream is made, or changed, to
the same configuration.
"""

from typing import Final

from trunkline.log.engines.jetstream.requests import NotReceived, Reply, Requests, Unanswered

TRY_S: Final = 0.5
"""A leader answers in milliseconds, and flushes a few files to make a stream."""
TRIES_MAX: Final = 10


async def ask(requests: Requests, subject: str, question: bytes = b"") -> Reply:
    """The first answer, over several tries."""
    reply: Reply = Unanswered("never asked")
    for _ in range(TRIES_MAX):
        reply = await requests.request(subject, question, timeout_s=TRY_S)
        if isinstance(reply, bytes | NotReceived):
            return reply
    return reply
