"""What is kept in memory is bounded; the oldest goes first."""

from trunkline.protocols.simulated import Inbound
from trunkline.simulator.entries import Submitted
from trunkline.simulator.handsets import Handsets, Kept
from trunkline.simulator.offers import Offers


def delivered(n: int, number: str = "+15550002222", body: str = "hello") -> Submitted:
    return Submitted(
        n=n,
        at=0.0,
        bind="a",
        outcome="accept",
        message_id=f"sim-{n}",
        reference="",
        sender="+15550001111",
        recipient=number,
        body=body,
        delivered=True,
    )


def item(n: int) -> Inbound:
    return Inbound(item_id=f"i{n}", message_id=f"m{n}", sender="a", recipient="b", text="")


def test_a_page_is_what_comes_behind_a_number() -> None:
    kept: Kept[Submitted] = Kept()
    for n in range(0, 200, 2):
        kept.append(delivered(n))
    for _ in range(60):
        kept.drop_oldest()

    assert len(kept) == 40
    assert [line.n for line in kept.after(0, 3)] == [120, 122, 124]
    assert [line.n for line in kept.after(121, 2)] == [122, 124]
    assert list(kept.after(198, 5)) == []


def test_only_the_newest_messages_of_all_handsets_are_kept() -> None:
    handsets = Handsets(messages_max=3)

    for n in range(5):
        handsets.deliver(delivered(n, number=f"+1555000000{n % 2}", body=str(n)))

    assert handsets.numbers(10) == [("+15550000000", 2), ("+15550000001", 1)]
    assert handsets.delivered == 5


def test_a_handset_whose_messages_are_all_dropped_is_forgotten() -> None:
    handsets = Handsets(messages_max=1)

    handsets.deliver(delivered(1, number="+15550000001"))
    handsets.deliver(delivered(2, number="+15550000002"))

    assert handsets.numbers(10) == [("+15550000002", 1)]
    assert list(handsets.messages("+15550000001", after=0, limit=9)) == []


def test_a_repeat_is_recognised_long_after_its_first_is_dropped() -> None:
    handsets = Handsets(messages_max=1, bodies_max=10)

    for n in range(10):
        handsets.deliver(delivered(n, body=str(n)))
    handsets.deliver(delivered(10, body="0"))
    assert (handsets.duplicates_by_body, handsets.unflagged_duplicates_by_body) == (1, 1)

    for n in range(11, 31):
        handsets.deliver(delivered(n, body=str(n)))
    handsets.deliver(delivered(31, body="0"))
    assert (handsets.delivered, handsets.duplicates_by_body) == (32, 1)


def test_items_beyond_the_bound_push_out_the_oldest() -> None:
    offers = Offers(reoffer_s=3.0, items_max=2)

    for n in range(3):
        offers.owe(item(n), due=0.0, now=0.0)

    assert [each.item_id for each in offers.offer(10, now=0.0)] == ["i1", "i2"]
    assert offers.dropped == 1


def test_the_next_deadline_is_that_of_the_first_item_still_waiting() -> None:
    offers = Offers(reoffer_s=3.0)
    offers.owe(item(1), due=0.0, now=0.0)
    offers.owe(item(2), due=10.0, now=0.0)

    offers.offer(1, now=0.0)
    assert offers.next_deadline() == 3.0
    offers.acknowledge("i1")
    assert offers.next_deadline() == 10.0
    offers.acknowledge("i2")
    assert offers.next_deadline() is None
