"""The automatic answer to STOP, START and HELP, sent under a key made of the message it answers.

The keyword itself takes effect where it is written down: whoever folds the inbound message knows it.
"""

from trunkline.domain.events import MessageReceived
from trunkline.domain.optout import REPLIES, Keyword, keyword_in
from trunkline.messaging.accept import NewMessage


def answer_to(account: str, received: MessageReceived, *, had_opted_out: bool) -> NewMessage | None:
    """What is answered to `received`, if it is a keyword that needs an answer.

    A stop or a start that changes nothing is not answered: "yes" is also what people say.
    """
    keyword = keyword_in(received.text)
    match keyword:
        case None:
            return None
        case Keyword.STOP if had_opted_out:
            return None
        case Keyword.START if not had_opted_out:
            return None
        case _:
            return NewMessage(
                account=account,
                sender=received.recipient,
                recipient=received.sender,
                text=REPLIES[keyword],
                direction="outbound-reply",
                is_automatic=True,
            )


def key_of_answer(sid: str) -> str:
    """No document's reply has this key: theirs end with a number."""
    return f"{sid}:keyword"
