"""The phone network: submissions and time in, entries and answers out."""

import random
from dataclasses import dataclass, field

import pytest

from trunkline.protocols.simulated import Accepted, Answer, Inbound, Item, Refused, Submission
from trunkline.simulator.behaviour import Behaviour, Outcome, ReceiptStatus
from trunkline.simulator.entries import AnyEntry, Submitted, decode_entries, encode_entries
from trunkline.simulator.network import RECEIPT_LEAD_MAX_S, Network, Step

SENDER = "+15550001111"
RECIPIENT = "+15550002222"
WALL = 1_700_000_000.0


@dataclass
class Bench:
    """A network whose disk is at once, with virtual time."""

    network: Network = field(default_factory=lambda: Network(rng=random.Random(1)))
    now: float = 0.0
    written: list[AnyEntry] = field(default_factory=list)
    answers: list[Answer | None] = field(default_factory=list)

    def do(self, step: Step) -> None:
        for entry in step.entries:
            self.written.append(entry)
            self.network.apply(entry, now=self.now, wall=WALL + self.now)
        for release in step.releases:
            self.answers += [*release.answers, *[None] * release.withheld]

    def behave(self, behaviour: Behaviour, number: str = "") -> None:
        self.do(self.network.behave(number, behaviour, wall=WALL + self.now))

    def submit(self, *references: str, recipient: str = RECIPIENT, text: str = "hello") -> None:
        submissions = [
            Submission(reference=reference, sender=SENDER, recipient=recipient, text=text)
            for reference in references
        ]
        self.do(self.network.submit(1, "bind", submissions, now=self.now, wall=WALL + self.now))

    def at(self, now: float) -> None:
        self.now = now
        self.do(self.network.on_deadline(now=now, wall=WALL + now))

    def offer(self) -> list[Item]:
        items, step = self.network.offer("bind", 100, now=self.now, wall=WALL + self.now)
        self.do(step)
        return items

    def acknowledge(self, *items: Item) -> None:
        item_ids = [item.item_id for item in items]
        self.do(self.network.acknowledge(item_ids, now=self.now, wall=WALL + self.now))

    def inbox(self, number: str = RECIPIENT) -> list[str]:
        return [m.body for m in self.network.handsets.messages(number, after=0, limit=100)]

    def events(self) -> list[str]:
        return [str(type(entry).__struct_config__.tag) for entry in self.written]

    def restarted(self, now: float) -> "Bench":
        again = Bench(now=now)
        for entry in decode_entries(encode_entries(self.written)):
            again.network.apply(entry, now=now, wall=WALL + now)
        return again


def test_a_perfect_carrier_delivers_answers_and_sends_one_receipt() -> None:
    bench = Bench()

    bench.submit("MS1:1")

    [line] = bench.written
    assert isinstance(line, Submitted)
    assert (line.outcome, line.delivered, line.receipt, line.answered) == (
        "accept", True, "delivered", True,
    )  # fmt: skip
    assert bench.answers == [Accepted(reference="MS1:1", message_id="sim-1")]
    assert bench.inbox() == ["hello"]
    [receipt] = bench.offer()
    assert (receipt.message_id, receipt.status) == ("sim-1", "delivered")  # type: ignore[union-attr]  # only receipts were made


def test_lines_are_numbered_without_gaps() -> None:
    bench = Bench()

    bench.submit("MS1:1", "MS2:1")
    bench.acknowledge(*bench.offer())

    assert [entry.n for entry in bench.written] == list(range(1, len(bench.written) + 1))


def test_nothing_is_shown_before_it_is_written() -> None:
    bench = Bench()
    submission = Submission(reference="MS1:1", sender=SENDER, recipient=RECIPIENT, text="hello")

    bench.network.submit(1, "bind", [submission], now=0.0, wall=WALL)

    assert bench.inbox() == []
    assert bench.offer() == []


def test_a_refused_message_is_not_delivered_and_says_why() -> None:
    bench = Bench()
    bench.behave(Behaviour(outcome=Outcome.REFUSE, error_code=30_007), RECIPIENT)

    bench.submit("MS1:1")
    bench.submit("MS2:1", recipient="+15550003333")

    refused, accepted = bench.answers
    assert isinstance(refused, Refused)
    assert (refused.error_code, refused.returned) == (30_007, False)
    assert isinstance(accepted, Accepted)
    assert bench.inbox() == []


def test_a_recipient_that_is_no_telephone_number_is_refused() -> None:
    bench = Bench()

    bench.submit("MS1:1", recipient="nobody")

    [refused] = bench.answers
    assert isinstance(refused, Refused)
    assert refused.error_code == 30_005


def test_a_silent_carrier_takes_and_delivers_but_never_answers() -> None:
    bench = Bench()
    bench.behave(Behaviour(outcome=Outcome.SILENT))

    bench.submit("MS1:1")

    assert bench.answers == [None]
    assert bench.inbox() == ["hello"]
    assert len(bench.offer()) == 1
    assert not any(line.answered for line in bench.written if isinstance(line, Submitted))


def test_a_losing_carrier_neither_delivers_nor_answers() -> None:
    bench = Bench()
    bench.behave(Behaviour(outcome=Outcome.LOSE))

    bench.submit("MS1:1")

    assert bench.answers == [None]
    assert bench.inbox() == []
    assert bench.offer() == []


def test_random_losses_come_about_as_often_as_asked() -> None:
    bench = Bench()
    bench.behave(Behaviour(loss_probability=0.25))

    bench.submit(*(f"MS{n}:1" for n in range(200)))

    assert 25 <= bench.answers.count(None) <= 75


def test_messages_over_the_rate_are_throttled_until_tokens_grow() -> None:
    bench = Bench()
    bench.behave(Behaviour(rate_per_s=2))

    bench.submit("MS1:1", "MS2:1", "MS3:1")
    bench.now = 0.5
    bench.submit("MS4:1")

    throttled = bench.answers[2]
    assert isinstance(throttled, Refused)
    assert throttled.returned
    assert throttled.retry_after_s == pytest.approx(0.5)
    assert isinstance(bench.answers[3], Accepted)
    assert bench.network.counts.throttle == 1


def test_a_throttling_carrier_says_when_to_come_back() -> None:
    bench = Bench()
    bench.behave(Behaviour(outcome=Outcome.THROTTLE, retry_after_ms=700))

    bench.submit("MS1:1")

    [throttled] = bench.answers
    assert isinstance(throttled, Refused)
    assert throttled.retry_after_s == pytest.approx(0.7)


def test_an_answer_waits_for_its_latency() -> None:
    bench = Bench()
    bench.behave(Behaviour(latency_ms=300))

    bench.submit("MS1:1")
    bench.at(0.299)
    assert bench.answers == []
    assert bench.network.next_deadline() == pytest.approx(0.3)

    bench.at(0.3)
    assert len(bench.answers) == 1
    assert bench.network.on_deadline(now=9.0, wall=WALL) == Step()


def test_a_receipt_waits_for_its_delay_and_is_offered_again_until_acknowledged() -> None:
    bench = Bench()
    bench.behave(Behaviour(receipt_delay_ms=1_000))

    bench.submit("MS1:1")
    assert bench.offer() == []
    bench.now = 1.001
    [receipt] = bench.offer()
    assert bench.offer() == []
    bench.now = 4.1
    assert bench.offer() == [receipt]
    bench.acknowledge(receipt)
    bench.now = 60.0
    assert bench.offer() == []


def test_a_receipt_says_when_it_was_due_and_the_same_after_a_restart() -> None:
    bench = Bench()  # at 22:13:20 in UTC
    bench.behave(Behaviour(receipt_delay_ms=60_000))

    bench.submit("MS1:1")

    for each in (bench, bench.restarted(3_600.0)):
        each.now = 3_600.0
        [receipt] = each.offer()
        assert receipt.done_date == "2311142214"  # type: ignore[union-attr]  # only receipts were made


def test_receipts_may_be_doubled_negative_or_missing() -> None:
    bench = Bench()
    bench.behave(Behaviour(receipt_copies=3, receipt_status=ReceiptStatus.UNDELIVERED), RECIPIENT)
    bench.behave(Behaviour(receipt_status=ReceiptStatus.NONE))

    bench.submit("MS1:1")
    receipts = bench.offer()
    bench.submit("MS2:1", recipient="+15550003333")

    assert len({receipt.item_id for receipt in receipts}) == 3
    assert {(r.status, r.error_code) for r in receipts} == {("undelivered", 30_003)}  # type: ignore[union-attr]  # only receipts were made
    assert bench.inbox() == []
    assert bench.inbox("+15550003333") == ["hello"]
    assert bench.offer() == []


def test_a_receipt_may_overtake_the_answer() -> None:
    bench = Bench()
    bench.behave(Behaviour(receipt_before_answer=True))

    bench.submit("MS1:1")
    [receipt] = bench.offer()
    assert bench.answers == []
    bench.acknowledge(receipt)
    bench.at(0.0)

    assert len(bench.answers) == 1
    bench.at(RECEIPT_LEAD_MAX_S)
    assert len(bench.answers) == 1


def test_an_answer_does_not_wait_for_ever_for_its_receipt_to_be_acknowledged() -> None:
    bench = Bench()
    bench.behave(Behaviour(receipt_before_answer=True))

    bench.submit("MS1:1")
    bench.at(RECEIPT_LEAD_MAX_S)

    assert len(bench.answers) == 1


def test_a_handset_s_message_is_offered_until_acknowledged() -> None:
    bench = Bench()
    sent, step = bench.network.send(RECIPIENT, SENDER, "hi", (), wall=WALL)
    bench.do(step)

    [inbound] = bench.offer()
    bench.now = 3.1
    [again] = bench.offer()
    bench.acknowledge(again, again)
    bench.acknowledge(inbound)

    assert isinstance(inbound, Inbound)
    assert (inbound.sender, inbound.text) == (RECIPIENT, "hi")
    assert again.message_id == inbound.message_id == sent.message_id
    assert bench.events().count("acked") == 1


def test_the_same_text_delivered_twice_is_counted() -> None:
    bench = Bench()

    bench.submit("MS1:1")
    bench.submit("MS1:2")
    flagged = Submission(
        reference="MS1:3",
        sender=SENDER,
        recipient=RECIPIENT,
        text="hello",
        possible_duplicate=True,
    )
    bench.do(bench.network.submit(1, "bind", [flagged], now=0.0, wall=WALL))

    assert bench.network.handsets.duplicates_by_body == 2
    assert bench.network.handsets.unflagged_duplicates_by_body == 1


def test_a_restart_remembers_everything_that_was_written() -> None:
    bench = Bench()
    bench.behave(Behaviour(receipt_delay_ms=5_000), RECIPIENT)
    bench.submit("MS1:1")
    bench.submit("MS2:1", recipient="+15550003333")
    bench.acknowledge(*bench.offer())
    _, step = bench.network.send(RECIPIENT, SENDER, "hi", (), wall=WALL)
    bench.do(step)
    bench.offer()

    again = bench.restarted(now=1.0)

    assert again.inbox() == ["hello"]
    assert again.network.counts == bench.network.counts
    assert again.network.behaviours == bench.network.behaviours
    assert [item.item_id for item in again.offer()] == [step.entries[0].item_id]  # type: ignore[union-attr]  # only receipts were made
    again.now = 5.1
    assert [type(item).__name__ for item in again.offer()] == ["Receipt", "Inbound"]
    again.submit("MS3:1")
    assert again.written[-1].n > bench.written[-1].n


def test_a_line_has_the_names_that_the_reference_page_gives() -> None:
    bench = Bench()

    bench.submit("MS1:1")

    assert encode_entries(bench.written) == (
        b'{"event":"submitted","n":1,"at":1700000000.0,"bind":"bind","reference":"MS1:1",'
        b'"from":"+15550001111","to":"+15550002222","body":"hello","outcome":"accept",'
        b'"message_id":"sim-1","delivered":true,"receipt":"delivered","answered":true}\n'
    )
