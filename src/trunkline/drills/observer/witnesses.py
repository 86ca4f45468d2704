"""The four files of one drill, side by side in its folder, and the history that they hold."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from trunkline.drills.observer import journal
from trunkline.drills.observer.journal import Journal
from trunkline.drills.observer.records import (
    Arrival,
    Callback,
    CarrierRecord,
    ClientRecord,
    Create,
    Debit,
    HandsetRecord,
    History,
    Read,
    Shown,
    Submission,
    Summed,
    Text,
    TurnedAway,
)

MICROS: Final = 1_000_000

_CLIENT: Final = msgspec.json.Decoder(ClientRecord)
_CARRIER: Final = msgspec.json.Decoder(CarrierRecord)
_HANDSETS: Final = msgspec.json.Decoder(HandsetRecord)
_WEBHOOKS: Final = msgspec.json.Decoder(Callback)


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Whoever sees something writes it to its own."""

    client: Journal
    carrier: Journal
    handsets: Journal
    webhooks: Journal


@contextlib.contextmanager
def witnesses(folder: Path) -> Iterator[Witnesses]:
    """Open until the block is left; then everything is on the disk."""
    names = ("client", "carrier", "handsets", "webhooks")
    with contextlib.ExitStack() as stack:
        yield Witnesses(*(stack.enter_context(Journal(folder / f"{name}.jsonl")) for name in names))


def history_in(folder: Path, *, hosts: Sequence[str]) -> History:
    """What the four files of `folder` say; `hosts` are those that had the last look."""
    client = list(journal.read(folder / "client.jsonl", _CLIENT))
    carrier = list(journal.read(folder / "carrier.jsonl", _CARRIER))
    handsets = list(journal.read(folder / "handsets.jsonl", _HANDSETS))
    shown = [each for each in client if isinstance(each, Shown)]
    sums = [each for each in client if isinstance(each, Summed)]
    return History(
        creates=[each for each in client if isinstance(each, Create)],
        reads=[each for each in client if isinstance(each, Read)],
        shown=shown,
        submissions=[each for each in carrier if isinstance(each, Submission)],
        turned_away=[each for each in carrier if isinstance(each, TurnedAway)],
        arrivals=[each for each in handsets if isinstance(each, Arrival)],
        texts=[each for each in handsets if isinstance(each, Text)],
        callbacks=list(journal.read(folder / "webhooks.jsonl", _WEBHOOKS)),
        hosts=hosts,
        debits=_debits(shown) if sums else None,
        sums=sums,
    )


def _debits(shown: Sequence[Shown]) -> list[Debit]:
    """The prices of what was sent; a price is negative, and in whole units of the currency."""
    return [
        Debit(each.sid, round(-float(each.price) * MICROS), each.host)
        for each in shown
        if each.price and each.direction != "inbound"
    ]
