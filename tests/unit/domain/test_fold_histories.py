"""Folding the histories that a real host wrote: in any order, seen twice, or in parts on two hosts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit import recorded_log

from trunkline.domain.callback import untold
from trunkline.domain.events import Body, Kind, Type
from trunkline.domain.message import Link, Message, fold, link_of, merge
from trunkline.domain.status import FINAL, Status, rank
from trunkline.log.append import is_late
from trunkline.log.event import Event, decode_all, is_changed
from trunkline.log.interface import Stored


@dataclass(frozen=True)
class Happened:
    """One event of a history, and what it says."""

    event: Event
    body: Body
    link: Link | None


History = Sequence[Happened]


def histories_of(version: str) -> list[list[Happened]]:
    """Every message's events as they were recorded, the short histories last."""
    by_name: dict[str, list[Happened]] = {}
    for stored in recorded_log.stored(version):
        for event in decode_all(stored.payload):
            is_closed = event.type is Type.ORIGINAL and is_late(event, stored.at)
            if event.kind in (Kind.MESSAGE, Kind.INBOUND) and not is_closed:
                by_name.setdefault(event.sid[2:], []).append(_happened(event, stored))
    return sorted(by_name.values(), key=len, reverse=True)


def _happened(event: Event, stored: Stored) -> Happened:
    body = event.body()
    link = link_of(event.id, event.type, body, shard=stored.shard, sequence=stored.sequence)
    return Happened(event, body, None if is_changed(stored.subject) else link)


HISTORIES: Final = [history for name in recorded_log.RECORDED for history in histories_of(name)]


def folded(history: History, message: Message | None = None) -> Message:
    return reduce(_with, history, message or Message(account=HISTORIES[0][0].event.account))


def _with(message: Message, happened: Happened) -> Message:
    event = happened.event
    return fold(
        message,
        happened.body,
        at=event.at,
        event_id=event.id,
        position=event.position,
        link=happened.link,
    )


@st.composite
def seen(draw: st.DrawFn, *, times_max: int = 3) -> tuple[list[Happened], list[Happened]]:
    """A history, and the same one out of order, each event once or more."""
    history = draw(st.sampled_from(HISTORIES))
    repeats = draw(st.lists(st.sampled_from(history), max_size=times_max * len(history)))
    return history, draw(st.permutations([*history, *repeats]))


@st.composite
def shared_out(draw: st.DrawFn) -> tuple[list[Happened], list[list[Happened]]]:
    """A history, and parts of it as three hosts saw them: together they have seen it all."""
    history = draw(st.sampled_from(HISTORIES))
    parts: list[list[Happened]] = [[], [], []]
    for happened in draw(st.permutations(history)):
        for number in draw(st.sets(st.integers(0, 2), min_size=1)):
            parts[number].append(happened)
    return history, parts


def test_the_recorded_histories_are_worth_folding() -> None:
    longest = HISTORIES[0]
    originals = [
        [each for each in history if each.event.type is Type.ORIGINAL] for history in HISTORIES
    ]

    assert len(HISTORIES) >= 30
    assert len(longest) >= 10
    assert max(map(len, originals)) == 2  # a copy in each of two shards
    assert {folded(history).status for history in HISTORIES} >= {*FINAL} - {Status.CANCELED}


@given(seen())
def test_a_real_history_folds_into_one_record_however_it_is_seen(
    both: tuple[list[Happened], list[Happened]],
) -> None:
    history, other = both

    assert folded(other) == folded(history)


@given(seen(times_max=1))
def test_what_was_seen_already_changes_nothing(
    both: tuple[list[Happened], list[Happened]],
) -> None:
    history, other = both
    message = folded(history)

    assert folded(other, message) == message
    assert merge(message, folded(other[: len(other) // 2])) == message


@given(shared_out())
def test_copies_that_saw_parts_of_a_history_merge_into_the_whole_of_it(
    shared: tuple[list[Happened], list[list[Happened]]],
) -> None:
    history, parts = shared
    one, two, three = (folded(part) for part in parts)

    assert merge(merge(one, two), three) == folded(history)
    assert merge(one, merge(two, three)) == folded(history)
    assert merge(two, one) == merge(one, two)
    assert merge(one, one) == one
    assert folded(parts[1], one) == merge(one, two)


@given(seen())
def test_a_status_never_goes_back_whatever_order_a_history_comes_in(
    both: tuple[list[Happened], list[Happened]],
) -> None:
    _, order = both
    message, told = folded(()), list[Status]()

    for happened in order:
        earlier, message = message, _with(message, happened)
        told += untold(message.status, message.open_status, frozenset(told))

        assert message.status in FINAL or rank(message.status) >= rank(earlier.status)
        assert earlier.status not in FINAL or message.status in FINAL
    is_inbound = message.received is not None
    ranks = [rank(status) for status in told]
    assert is_inbound or ranks == sorted(set(ranks))
    assert not FINAL & set(told[:-1])


@given(seen())
def test_an_application_is_told_an_end_whatever_order_a_history_comes_in(
    both: tuple[list[Happened], list[Happened]],
) -> None:
    _, order = both
    history = [happened for happened in order if happened.event.type is not Type.TOLD]
    message, told = folded(()), list[Status]()

    for happened in history:
        message = _with(message, happened)
        told += untold(message.status, message.open_status, frozenset(told))

    if message.original is not None and message.status in FINAL:
        assert told[-1] in FINAL


@pytest.mark.parametrize("version", recorded_log.RECORDED)
def test_a_recorded_history_folds_into_the_record_its_own_version_made(version: str) -> None:
    recorded = {message.sid: message for message in recorded_log.records(version).messages}

    folds = [
        folded(history, Message(account=history[0].event.account))
        for history in histories_of(version)
    ]
    made = {message.sid: recorded_log.as_then(version, message) for message in folds}

    assert made == recorded
