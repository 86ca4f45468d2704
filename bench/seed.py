"""A million finished messages in a read copy, in tens of seconds, through the code that makes rows.

What a host does by and by, without the log: each message's events are folded, and its row is written,
without flushes.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from trunkline.domain.events import HandedOver, Kind, MessageCreated, Receipt, Type
from trunkline.log.event import Event, chain_subject
from trunkline.log.interface import Stored
from trunkline.replica import schema
from trunkline.replica.folding import Folding

BATCH: Final = 20_000
CACHE_KIB: Final = 1536 * 1024
"""All of a million rows: they come in no order."""
SECONDS_APART: Final = 0.05
SPREAD: Final = 0x9E3779B97F4A7C15
"""An odd number without a pattern: what it is multiplied with looks like chance."""
SUBJECT: Final = chain_subject(0, Kind.MESSAGE)
NO_BODY: Final = msgspec.Raw(b"{}")
TEXT: Final = "Your parcel {} leaves today and arrives tomorrow before noon. Reply STOP to end."


def name_of(number: int) -> str:
    """The digits of a seeded message: in no order, as real ones are."""
    return f"{number * SPREAD % (1 << 64):016x}{number:016x}"


def seed(copy: Path, cluster: str, account: str, count: int, *, ended_at: float) -> None:
    """Write `count` delivered messages of the account into the copy at `copy`, the last of them
    created shortly before `ended_at`, in seconds since the epoch. No cursor is moved."""
    with contextlib.closing(schema.open_for_writing(copy, cluster=cluster)) as database:
        # One transaction without a journal: each page is written once, although rows come in no order.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        folding = Folding(database)
        folding.begin()
        for start in range(0, count, BATCH):
            for number in range(start, min(count, start + BATCH)):
                at = ended_at - (count - number) * SECONDS_APART
                stored = Stored(0, SUBJECT, 1, at, b"")
                for event, body in _history(account, number, at):
                    folding.add(event, body, stored)
            folding.write()
            folding.forget_written()
        folding.commit()
        database.execute("PRAGMA journal_mode = WAL")


def _history(
    account: str, number: int, at: float
) -> Iterator[tuple[Event, MessageCreated | HandedOver | Receipt]]:
    sid = "SM" + name_of(number)
    created = MessageCreated(
        sid=sid,
        sender="+12025550100",
        recipient=f"+1202556{number % 10_000:04d}",
        text=TEXT.format(number),
    )
    carrier_id = f"{number:032x}"
    outcome = HandedOver(attempt=1, carrier="simulated", carrier_message_id=carrier_id)
    receipt = Receipt(status="delivered", carrier="simulated", carrier_message_id=carrier_id)
    yield _event(Type.ORIGINAL, account, sid, at, f"{number:024x}"), created
    yield _event(Type.OUTCOME, account, sid, at + 0.1, f"{number:023x}1"), outcome
    yield _event(Type.RECEIPT, account, sid, at + 1.0, f"{number:023x}2"), receipt


def _event(type_: Type, account: str, sid: str, at: float, event_id: str) -> Event:
    """Without its body, which is handed along as it is: encoding and decoding it would take longer
    than all the rest."""
    return Event(
        id=event_id,
        kind=Kind.MESSAGE,
        type=type_,
        sid=sid,
        account=account,
        at=at,
        by_host="seed",
        data=NO_BODY,
    )
