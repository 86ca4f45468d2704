"""`trunkline message`: what it prints, whatever a carrier or an application answered."""

import pytest

from trunkline.cli.commands import message as command
from trunkline.domain.events import MessageReceived
from trunkline.domain.message import Message
from trunkline.messaging.timeline import Happening, Timeline

SID = "SM" + "a" * 32
HOSTILE = "1\x1b[2J\r\n\u202e\x9b2K é"
RECEIVED = MessageReceived(sid=SID, sender=HOSTILE, recipient="+2", text="hi")
FACTS = {"carrier_message_id": HOSTILE, "reasons": [HOSTILE]}


def test_nothing_that_others_wrote_moves_the_cursor_of_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    happening = Happening(1.0, HOSTILE, "outcome", 1.0, ((1, 2),), FACTS)
    message = Message(sid=SID, received=RECEIVED, created_at=1.0, carrier=HOSTILE)

    timeline = Timeline((happening,), (f"shard 3: {HOSTILE}",))
    command._print(message, timeline, is_deleted=False)

    printed = capsys.readouterr().out
    assert all(each.isprintable() for each in printed.split("\n"))
    assert printed.count("é") == 6


def test_from_whom_to_whom_a_deleted_message_went_is_not_shown() -> None:
    message = Message(sid=SID, received=RECEIVED, created_at=1.0, carrier="acme")

    whole, rest = (dict(command._summary(message, is_deleted=each)) for each in (False, True))

    assert set(whole) - set(rest) == {"from", "to"}
    assert rest["carrier"] == "acme"
