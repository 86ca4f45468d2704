"""Messages that were created together are folded into what is known of each."""

from contextlib import closing
from pathlib import Path

import pytest

from trunkline.domain.events import Body, HandedOver, Kind, MessageCreated, Type
from trunkline.domain.message import Message
from trunkline.domain.status import Status
from trunkline.kernel import FakeClock
from trunkline.log.event import Event, created_subject, encode_all, encode_body
from trunkline.log.interface import Stored
from trunkline.replica import schema
from trunkline.replica.folding import Folding
from trunkline.replica.progress import Progress
from trunkline.replica.projector import add
from trunkline.replica.queries import Replica

ACCOUNT = "AC" + "a" * 32
NOW = FakeClock().wall()


def name(number: int) -> str:
    return f"SM{number:032}"


def event(number: int, type_: Type, body: Body) -> Event:
    return Event(
        id=f"{type_}-{number}",
        kind=Kind.MESSAGE,
        type=type_,
        sid=name(number),
        account=ACCOUNT,
        at=NOW,
        by_host="one",
        data=encode_body(body),
    )


def created(number: int) -> Event:
    body = MessageCreated(sid=name(number), sender="+1555", recipient="+1777", text=f"n {number}")
    return event(number, Type.ORIGINAL, body)


def commit(folding: Folding, *events: Event) -> None:
    subject = created_subject(0, Kind.MESSAGE, ACCOUNT, "x")
    assert add(folding, Stored(0, subject, 1, NOW, encode_all(events)))
    folding.write()
    folding.commit()
    folding.forget_written()


def shown(path: Path) -> list[Message | None]:
    progress = Progress(path.with_suffix(".progress"), shards=1, clock=FakeClock())
    with closing(progress), closing(Replica(path, progress)) as replica:
        return [replica.message(name(number)) for number in (1, 2, 3)]


def test_of_those_created_together_some_may_be_known_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.replica.folding.MESSAGES_CACHED_MAX", 0)
    path = tmp_path / "copy.sqlite3"
    with closing(Folding(schema.open_for_writing(path, cluster="test"))) as folding:
        taken = HandedOver(attempt=1, carrier="c", carrier_message_id="1")
        commit(folding, event(2, Type.OUTCOME, taken))
        for _ in range(2):
            commit(folding, created(1), created(2), created(3))
    messages = [each for each in shown(path) if each is not None]

    assert [each.status for each in messages] == [Status.QUEUED, Status.SENT, Status.QUEUED]
    assert [each.original.text for each in messages if each.original] == ["n 1", "n 2", "n 3"]
