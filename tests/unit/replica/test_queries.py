"""Reading the copy: what is shown, in which order, and to whom."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from trunkline.domain.events import (
    ApplicationMade,
    Body,
    Deleted,
    HandedOver,
    Kind,
    MessageCreated,
    MessageReceived,
    NumberOwned,
    Type,
)
from trunkline.kernel import FakeClock
from trunkline.log.event import Event, changed_subject, encode_body
from trunkline.log.interface import Stored
from trunkline.log.limits import LATE_MAX_S
from trunkline.replica import schema
from trunkline.replica.folding import Folding
from trunkline.replica.progress import Progress
from trunkline.replica.queries import MessageFilter, NumberFilter, Place, Replica

ACCOUNT = "AC" + "a" * 32
OTHER_ACCOUNT = "AC" + "b" * 32
ALL = MessageFilter()


class Rows:
    """A copy whose events come from the test."""

    def __init__(self, path: Path) -> None:
        self._ids = itertools.count()
        self._folding = Folding(schema.open_for_writing(path, cluster="test"))
        self._progress = Progress(path.with_suffix(".progress"), shards=1, clock=FakeClock())
        self.replica = Replica(path, self._progress)

    def add(
        self,
        kind: Kind,
        type_: Type,
        sid: str,
        body: Body,
        *,
        at: float,
        account: str = ACCOUNT,
        created_at: float | None = None,
        changed_at: float | None = None,
    ) -> None:
        self.add_stored_at(
            at,
            kind,
            type_,
            sid,
            body,
            at=at,
            account=account,
            created_at=created_at,
            changed_at=changed_at,
        )

    def add_stored_at(
        self,
        stored_at: float,
        kind: Kind,
        type_: Type,
        sid: str,
        body: Body,
        *,
        at: float,
        account: str = ACCOUNT,
        created_at: float | None = None,
        changed_at: float | None = None,
    ) -> None:
        event = Event(
            id=f"event-{next(self._ids)}",
            kind=kind,
            type=type_,
            sid=sid,
            account=account,
            at=at,
            by_host="one",
            created_at=created_at,
            changed_at=changed_at,
            data=encode_body(body),
        )
        stored = Stored(0, changed_subject(0, kind, account), 1, stored_at, b"")
        self._folding.add(event, body, stored)
        self._folding.write()
        if self._folding.writes_keywords:
            self._progress.keywords_change()
        self._folding.commit()
        if self._folding.writes_keywords:
            self._progress.keywords_changed()
        self._folding.forget_written()

    def close(self) -> None:
        self.replica.close()
        self._progress.close()
        self._folding.close()


def name(number: int) -> str:
    return f"SM{number:032}"


def created(number: int, *, sender: str = "+1555", recipient: str = "+1777") -> MessageCreated:
    return MessageCreated(sid=name(number), sender=sender, recipient=recipient, text="hello")


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Rows]:
    made = Rows(tmp_path / "copy.sqlite3")
    yield made
    made.close()


@pytest.fixture
def ten(rows: Rows) -> Replica:
    """Ten messages of one account, created at 100 to 109, the odd ones to another recipient."""
    for number in range(10):
        body = created(number, recipient="+1888" if number % 2 else "+1777")
        rows.add(Kind.MESSAGE, Type.ORIGINAL, name(number), body, at=100.0 + number)
    other = created(99)
    rows.add(Kind.MESSAGE, Type.ORIGINAL, name(99), other, at=105.0, account=OTHER_ACCOUNT)
    return rows.replica


def numbers_of(
    replica: Replica, wanted: MessageFilter, *, behind: Place | None = None, items_max: int = 50
) -> list[int]:
    found = replica.messages(ACCOUNT, wanted, items_max=items_max, behind=behind)
    return [int(message.sid[2:]) for message in found]


def test_a_list_shows_the_account_s_messages_newest_first(ten: Replica) -> None:
    assert numbers_of(ten, ALL) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_pages_meet_without_a_gap_or_a_repeat(ten: Replica) -> None:
    seen: list[int] = []
    behind = None
    while page := ten.messages(ACCOUNT, ALL, items_max=3, behind=behind):
        seen += [int(message.sid[2:]) for message in page]
        behind = Place(page[-1].created_at, page[-1].sid)

    assert seen == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_messages_of_one_moment_are_paged_by_their_sids(rows: Rows) -> None:
    for number in (3, 1, 2):
        rows.add(Kind.MESSAGE, Type.ORIGINAL, name(number), created(number), at=100.0)

    assert numbers_of(rows.replica, ALL) == [3, 2, 1]
    assert numbers_of(rows.replica, ALL, behind=Place(100.0, name(3)), items_max=1) == [2]


def test_filters_must_all_match(ten: Replica) -> None:
    assert numbers_of(ten, MessageFilter(recipient="+1888")) == [9, 7, 5, 3, 1]
    assert numbers_of(ten, MessageFilter(sender="+1555", recipient="+1777", sent_from=106.0)) == [
        8,
        6,
    ]
    assert numbers_of(ten, MessageFilter(sent_from=103.0, sent_to=105.0)) == [4, 3]
    assert numbers_of(ten, MessageFilter(sender="+1999")) == []


def test_a_date_filter_speaks_of_the_moment_of_sending(rows: Rows) -> None:
    rows.add(Kind.MESSAGE, Type.ORIGINAL, name(1), created(1), at=100.0)
    outcome = HandedOver(attempt=1, carrier="acme", carrier_message_id="acme-1")
    rows.add(Kind.MESSAGE, Type.OUTCOME, name(1), outcome, at=200.0)

    assert numbers_of(rows.replica, MessageFilter(sent_from=150.0)) == [1]
    assert numbers_of(rows.replica, MessageFilter(sent_to=150.0)) == []


def test_a_message_is_shown_only_once_its_original_has_come(rows: Rows) -> None:
    outcome = HandedOver(attempt=1, carrier="acme", carrier_message_id="acme-1")
    rows.add(Kind.MESSAGE, Type.OUTCOME, name(1), outcome, at=101.0)
    assert rows.replica.message(name(1)) is None
    assert numbers_of(rows.replica, ALL) == []

    rows.add(Kind.MESSAGE, Type.ORIGINAL, name(1), created(1), at=100.0)

    message = rows.replica.message(name(1))
    assert message is not None
    assert (message.sid, message.carrier_message_id) == (name(1), "acme-1")


def test_a_late_original_is_not_shown(rows: Rows) -> None:
    stored_at = 100.0 + LATE_MAX_S + 1.0
    rows.add_stored_at(stored_at, Kind.MESSAGE, Type.ORIGINAL, name(1), created(1), at=100.0)

    assert rows.replica.message(name(1)) is None


def test_a_sid_of_other_letters_is_not_found(ten: Replica) -> None:
    assert ten.message(name(1)) is not None
    assert ten.message("MM" + name(1)[2:]) is None
    assert ten.message(name(11)) is None


def test_inbound_messages_stand_in_the_same_list(rows: Rows) -> None:
    body = MessageReceived(sid=name(1), sender="+1777", recipient="+1555", text="hi")
    rows.add(Kind.INBOUND, Type.ORIGINAL, name(1), body, at=100.0)
    rows.add(Kind.MESSAGE, Type.ORIGINAL, name(2), created(2), at=101.0)

    assert numbers_of(rows.replica, ALL) == [2, 1]
    assert numbers_of(rows.replica, MessageFilter(sender="+1777")) == [1]


def test_numbers_are_listed_newest_first_and_found_by_parts_of_them(rows: Rows) -> None:
    for number in range(4):
        settings = NumberOwned(
            sid=f"PN{number:032x}",
            phone_number=f"+1512555010{number}",
            friendly_name="desk" if number < 2 else "shop",
        )
        rows.add(Kind.NUMBER, Type.ORIGINAL, settings.sid, settings, at=100.0 + number)

    def listed(wanted: NumberFilter, behind: Place | None = None) -> list[str]:
        found = rows.replica.numbers(ACCOUNT, wanted, items_max=3, behind=behind)
        return [number.phone_number[-1] for number in found]

    assert listed(NumberFilter()) == ["3", "2", "1"]
    assert listed(NumberFilter(), Place(101.0, f"PN{1:032x}")) == ["0"]
    assert listed(NumberFilter(phone_number="5550102")) == ["2"]
    assert listed(NumberFilter(phone_number="5550*02")) == ["2"]
    assert listed(NumberFilter(phone_number="*" * 20_000)) == []
    assert listed(NumberFilter(friendly_name="desk")) == ["1", "0"]
    assert rows.replica.numbers(OTHER_ACCOUNT, NumberFilter(), items_max=3) == []
    found = rows.replica.number(f"PN{2:032x}")
    assert found is not None
    assert rows.replica.number_by_phone(found.phone_number) == found


def test_a_number_that_was_released_is_shown_to_its_new_owner_alone(rows: Rows) -> None:
    first, second = f"PN{1:032x}", f"PN{2:032x}"
    owned = NumberOwned(sid=first, phone_number="+15125550100", friendly_name="desk")
    rows.add(Kind.NUMBER, Type.ORIGINAL, first, owned, at=100.0)
    shop = msgspec.structs.replace(owned, friendly_name="shop")
    rows.add(Kind.NUMBER, Type.CHANGE, first, shop, at=150.0, created_at=100.0, changed_at=150.0)

    changed = rows.replica.number(first)
    assert changed is not None
    assert (changed.settings, changed.created_at, changed.updated_at) == (shop, 100.0, 150.0)

    theirs = msgspec.structs.replace(owned, sid=second)
    rows.add(Kind.NUMBER, Type.DELETED, first, Deleted(), at=200.0)
    assert rows.replica.number_by_phone("+15125550100") is None
    rows.add(Kind.NUMBER, Type.ORIGINAL, second, theirs, at=300.0, account=OTHER_ACCOUNT)

    assert rows.replica.number(first) is None
    found = rows.replica.number_by_phone("+15125550100")
    assert found is not None
    assert (found.account, found.sid, found.created_at) == (OTHER_ACCOUNT, second, 300.0)


def test_a_number_that_is_carried_forward_keeps_its_times(rows: Rows) -> None:
    sid = f"PN{1:032x}"
    owned = NumberOwned(sid=sid, phone_number="+15125550100", friendly_name="desk")
    rows.add(Kind.NUMBER, Type.ORIGINAL, sid, owned, at=100.0)
    before = rows.replica.number(sid)

    rows.add(Kind.NUMBER, Type.ORIGINAL, sid, owned, at=900.0)  # as older programs did it
    assert rows.replica.number(sid) == before
    rows.add(Kind.NUMBER, Type.ORIGINAL, sid, owned, at=950.0, created_at=100.0, changed_at=100.0)
    assert rows.replica.number(sid) == before


def test_applications_are_listed_changed_and_gone(rows: Rows) -> None:
    for number in range(3):
        made = ApplicationMade(sid=f"AP{number:032x}", friendly_name="desk" if number else "shop")
        rows.add(Kind.APPLICATION, Type.ORIGINAL, made.sid, made, at=100.0 + number)
    renamed = ApplicationMade(sid=f"AP{0:032x}", friendly_name="store")
    rows.add(
        Kind.APPLICATION,
        Type.CHANGE,
        renamed.sid,
        renamed,
        at=200.0,
        created_at=100.0,
        changed_at=200.0,
    )
    rows.add(Kind.APPLICATION, Type.DELETED, f"AP{1:032x}", Deleted(), at=201.0)

    def listed(name: str | None = None) -> list[str]:
        found = rows.replica.applications(ACCOUNT, name, items_max=9)
        return [application.settings.friendly_name for application in found]

    assert listed() == ["desk", "store"]
    assert listed("store") == ["store"]
    assert rows.replica.applications(OTHER_ACCOUNT, items_max=9) == []
    assert rows.replica.application(f"AP{1:032x}") is None
    found = rows.replica.application(renamed.sid)
    assert found is not None
    assert (found.created_at, found.updated_at) == (100.0, 200.0)
