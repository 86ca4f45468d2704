"""The envelope and the subjects: what is written is read again, and what is not ours is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.log.scripted_log import ACCOUNT, pen

from trunkline.domain.events import Kind, MessageCreated, Type
from trunkline.kernel import FakeClock
from trunkline.log.event import (
    NewerEvent,
    UnreadableEvent,
    changed_filter,
    changed_subject,
    created_filter,
    created_subject,
    decode,
    encode,
)
from trunkline.log.shards import SHARDS, home, order

SID = "SM" + "1" * 32
ORDER_OF_ZEROS = (1, 9, 4, 0, 5, 8, 6, 10, 3, 2, 7, 11)
BODY = MessageCreated(sid=SID, sender="+15550001", recipient="+15550002", text="hi")


def test_an_event_survives_being_written() -> None:
    event = pen("one", FakeClock()).event(Kind.MESSAGE, Type.ORIGINAL, ACCOUNT, SID, BODY)

    read = decode(encode(event))

    assert (read, read.body()) == (event, BODY)
    assert read.at == FakeClock().wall()


def test_hosts_whose_names_begin_alike_give_no_id_twice() -> None:
    ids = [pen(host, FakeClock()).new_id() for host in ("host-a", "host-b", "host", "b")]

    assert len(set(ids)) == 4


def test_one_author_never_gives_an_id_twice() -> None:
    author = pen("one", FakeClock())

    assert len({author.new_id() for _ in range(100)}) == 100


@pytest.mark.parametrize("payload", [b"", b"junk", b"{}", b"[]", b'{"v": 1, "kind": "message"}'])
def test_what_is_not_an_event_is_refused_by_name(payload: bytes) -> None:
    with pytest.raises(UnreadableEvent):
        decode(payload)


def test_an_event_of_a_newer_version_is_refused() -> None:
    event = pen("one", FakeClock()).event(Kind.MESSAGE, Type.ORIGINAL, ACCOUNT, SID, BODY)
    newer = encode(event).replace(b'{"id"', b'{"v":2,"id"', 1)

    with pytest.raises(NewerEvent, match="version 2"):
        decode(newer)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"v":2}',
        b'{"v":7,"id":{"of":"another"},"kind":3}',
        b'{"v":1,"kind":"call","type":"original"}',
        b'{"kind":"message","type":"cancelled"}',
        b'[{"kind":"message","type":"claim"},{"v":2}]',
    ],
)
def test_what_a_newer_program_wrote_is_never_taken_for_damage(payload: bytes) -> None:
    with pytest.raises(NewerEvent):
        decode(payload)


@pytest.mark.parametrize(
    "payload", [b"junk", b"[" * 10_000, b'{"v":"2"}', b'{"v":1,"kind":"message","type":"claim"}']
)
def test_damage_is_not_taken_for_a_newer_program_s_work(payload: bytes) -> None:
    with pytest.raises(UnreadableEvent) as refusal:
        decode(payload)
    assert not isinstance(refusal.value, NewerEvent)


def test_fields_that_were_added_later_are_passed_over() -> None:
    event = pen("one", FakeClock()).event(Kind.MESSAGE, Type.ORIGINAL, ACCOUNT, SID, BODY)
    written = json.loads(encode(event))
    written["span"] = "0af7"
    written["data"]["colour"] = "blue"

    read = decode(json.dumps(written).encode())

    assert (read.id, read.body()) == (event.id, BODY)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_the_reader(payload: bytes) -> None:
    with pytest.raises(UnreadableEvent):
        decode(payload)


def test_subjects_stand_under_the_filters_of_their_kind() -> None:
    chain = created_subject(3, Kind.MESSAGE, ACCOUNT, "1" * 32)
    later = changed_subject(3, Kind.MESSAGE, ACCOUNT)

    assert chain == f"ev.3.message.created.{ACCOUNT}.{'1' * 32}"
    assert chain.startswith(created_filter(3, Kind.MESSAGE).removesuffix(">"))
    assert later.startswith(changed_filter(3, Kind.MESSAGE).removesuffix(">"))


def test_the_order_of_a_name_never_changes() -> None:
    # Every fence rests on it: a cluster with another order would send messages twice.
    assert order("0" * 32) == ORDER_OF_ZEROS
    assert home("+15125550100") == order("+15125550100")[0]


@given(st.text("0123456789abcdef", min_size=32, max_size=32))
def test_every_name_may_stand_in_every_shard(name: str) -> None:
    assert sorted(order(name)) == list(range(SHARDS))


def test_names_are_spread_over_the_shards() -> None:
    homes = [home(f"{number:032x}") for number in range(1200)]

    assert all(60 <= homes.count(shard) <= 140 for shard in range(SHARDS))
