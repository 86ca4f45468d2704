"""The witnesses: what they write down is what they saw, and what they conclude is what was said."""

import json
from pathlib import Path

import pytest
from tests.unit.drills.histories import callback, create, read, shown, submission
from twilio.request_validator import RequestValidator

from trunkline.drills.load import outcome_of
from trunkline.drills.observer.carrier import extract
from trunkline.drills.observer.receiver import signature
from trunkline.drills.observer.records import Arrival, Outcome, Text, TurnedAway
from trunkline.drills.observer.witnesses import history_in, witnesses


def test_what_the_witnesses_wrote_is_the_history(tmp_path: Path) -> None:
    arrival, text = Arrival(1, 5.0, "run-1", "+12025550100"), Text("inbound-1", "hello", True)
    turned_away = TurnedAway(2, 6.0, "host-1", 3)
    with witnesses(tmp_path) as files:
        for record in (create(1), read(1), shown(1, "host-1")):
            files.client.write(record)
        for given in (submission(1), turned_away):
            files.carrier.write(given)
        for seen in (arrival, text):
            files.handsets.write(seen)
        files.webhooks.write(callback(1, "sent"))

    history = history_in(tmp_path, hosts=["host-1"])

    assert history.creates == [create(1)]
    assert history.reads == [read(1)]
    assert history.shown == [shown(1, "host-1")]
    assert (history.submissions, history.turned_away) == ([submission(1)], [turned_away])
    assert (history.arrivals, history.texts) == ([arrival], [text])
    assert history.callbacks == [callback(1, "sent")]


def test_many_records_are_all_there_and_in_order(tmp_path: Path) -> None:
    with witnesses(tmp_path) as files:
        for number in range(5_000):
            files.client.write(create(number))

    assert history_in(tmp_path, hosts=()).creates == [create(number) for number in range(5_000)]


def test_the_simulators_file_becomes_the_carriers_and_the_handsets_logs(tmp_path: Path) -> None:
    entries = [
        {"event": "started", "n": 1, "at": 1.0, "pid": 1},
        {
            "event": "submitted", "n": 2, "at": 2.0, "bind": "host-1", "reference": "SM1:1",
            "from": "+1", "to": "+12025550100", "body": "run-1", "outcome": "accept",
            "message_id": "sim-2", "delivered": True, "possible_duplicate": True,
        },
        {
            "event": "submitted", "n": 3, "at": 3.0, "bind": "host-1", "reference": "SM2:1",
            "from": "+1", "to": "+12025550101", "body": "run-2", "outcome": "throttle",
        },
        {"event": "inbound-sent", "n": 4, "at": 4.0, "item_id": "inbound-4", "body": "hello"},
        {"event": "inbound-sent", "n": 5, "at": 5.0, "item_id": "inbound-5", "body": "again"},
        {"event": "acked", "n": 6, "at": 6.0, "item_ids": ["inbound-4", "receipt-2"]},
        {"event": "turned-away", "n": 7, "at": 7.0, "bind": "host-1"},
        {"event": "turned-away", "n": 8, "at": 7.1, "bind": "host-1", "attempt": 2},
    ]  # fmt: skip
    torn = '{"event":"submitted","n":9'
    file = tmp_path / "simulator.jsonl"
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + torn)

    with witnesses(tmp_path) as files:
        extract(file, files.carrier, files.handsets)
    history = history_in(tmp_path, hosts=())

    assert [(each.text, each.is_taken) for each in history.submissions] == [
        ("run-1", True),
        ("run-2", False),
    ]
    assert history.submissions[0].is_marked_repeat
    assert [each.attempt for each in history.turned_away] == [1, 2]
    assert [each.text for each in history.arrivals] == ["run-1"]
    assert [(each.text, each.is_acked) for each in history.texts] == [
        ("hello", True),
        ("again", False),
    ]


def test_the_receivers_signature_is_the_official_one() -> None:
    url, form = "http://127.0.0.1:8080/status", {"MessageSid": "SM1", "To": "+1", "Body": "Grüße"}

    assert signature("made-up", url, form) == RequestValidator("made-up").compute_signature(
        url, form
    )


@pytest.mark.parametrize(
    ("http", "message", "outcome"),
    [
        (201, "", Outcome.ACCEPTED),
        (503, "The message was not accepted and will not be sent (no room).", Outcome.REFUSED),
        (503, "The request was not begun (waited), and nothing was done.", Outcome.REFUSED),
        (429, "The account has too many requests under way. Nothing was done;", Outcome.REFUSED),
        (400, "The 'To' number is malformed", Outcome.REFUSED),
        (503, "The message may have been accepted (no answer)", Outcome.UNKNOWN),
        (500, "A fault of ours", Outcome.UNKNOWN),
        (502, "", Outcome.UNKNOWN),
    ],
)
def test_an_answer_means_what_the_documentation_says(
    http: int, message: str, outcome: Outcome
) -> None:
    answer = {"sid": "SM1"} if http == 201 else {"message": message}

    assert outcome_of(http, answer)[0] is outcome
