"""Histories made by hand: one in which every promise was kept, and what it takes to break one."""

from dataclasses import replace
from typing import Any

from trunkline.drills.observer.records import (
    Callback,
    Create,
    Debit,
    History,
    Outcome,
    Read,
    Shown,
    Submission,
    Text,
    TurnedAway,
)

MESSAGES = 4
HOSTS = ("host-1", "host-2")


def sid_of(number: int) -> str:
    return f"SM{number:032x}"


def text_of(number: int) -> str:
    return f"run-{number}"


def create(number: int, **other: Any) -> Create:
    """The create of one message, accepted under its key at second `number`."""
    facts: dict[str, Any] = {
        "due": float(number),
        "at": float(number),
        "until": number + 0.01,
        "text": text_of(number),
        "recipient": "+12025550100",
        "host": "host-1",
        "outcome": Outcome.ACCEPTED,
        "key": f"key-{number}",
        "http": 201,
        "sid": sid_of(number),
    }
    return Create(**(facts | other))


def submission(number: int, **other: Any) -> Submission:
    facts: dict[str, Any] = {
        "n": number,
        "at": float(number),
        "text": text_of(number),
        "recipient": "+12025550100",
        "outcome": "accept",
    }
    return Submission(**(facts | other))


def callback(number: int, status: str, **other: Any) -> Callback:
    facts: dict[str, Any] = {
        "at": number + 0.1,
        "sid": sid_of(number),
        "status": status,
        "token": f"token-{number}-{status}",
        "is_signed": True,
        "answer": 200,
    }
    return Callback(**(facts | other))


def read(number: int, status: str = "delivered", **other: Any) -> Read:
    facts: dict[str, Any] = {
        "at": number + 0.5,
        "until": number + 0.51,
        "host": "host-1",
        "sid": sid_of(number),
        "http": 200,
        "status": status,
    }
    return Read(**(facts | other))


def shown(number: int, host: str, **other: Any) -> Shown:
    facts: dict[str, Any] = {
        "host": host,
        "sid": sid_of(number),
        "text": text_of(number),
        "direction": "outbound-api",
        "status": "delivered",
    }
    return Shown(**(facts | other))


def flawless() -> History:
    """Four messages and one text, of which nothing is wrong."""
    numbers = range(1, MESSAGES + 1)
    steps = ("sending", "sent", "delivered")
    text = Text("inbound-1", "hello", is_acked=True)
    inbound = [
        shown(900, host, text="hello", direction="inbound", status="received") for host in HOSTS
    ]
    return History(
        creates=[create(number) for number in numbers],
        reads=[read(number) for number in numbers],
        submissions=[submission(number) for number in numbers],
        texts=[text],
        callbacks=[
            *(callback(number, step) for number in numbers for step in steps),
            callback(900, "received", text="hello"),
        ],
        shown=[*(shown(number, host) for number in numbers for host in HOSTS), *inbound],
        hosts=HOSTS,
        debits=[Debit(sid_of(number), 7900) for number in numbers],
        turned_away=[TurnedAway(0, 1.0, "host-1"), TurnedAway(1, 12.0, "host-1")],
    )


def without(history: History, number: int, *fields: str) -> History:
    """The history without what some of its witnesses saw of one message."""
    sid, text = sid_of(number), text_of(number)
    kept = {
        name: [
            each
            for each in getattr(history, name)
            if getattr(each, "sid", None) != sid and getattr(each, "text", None) != text
        ]
        for name in fields
    }
    return replace(history, **kept)


def with_more(history: History, **more: list[Any]) -> History:
    """The history with something added to some of its files."""
    return replace(
        history, **{name: [*getattr(history, name), *items] for name, items in more.items()}
    )
