"""What the carrier and its handsets saw, taken from the simulator's own flushed file.

The simulator writes everything down before it answers and outlives any host, so its file is the
record; here it becomes the two logs that the checker reads (docs/reference/simulator.md).
"""

import json
from pathlib import Path
from typing import Any

from trunkline.drills.observer.journal import Journal
from trunkline.drills.observer.records import Arrival, Submission, Text, TurnedAway


def extract(file: Path, carrier: Journal, handsets: Journal) -> None:
    """Write what the file holds to the two logs."""
    texts: dict[str, str] = {}
    acked: set[str] = set()
    with file.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break  # the last line of a simulator that was killed
            entry = json.loads(line)
            match entry["event"]:
                case "submitted":
                    carrier.write(_submission(entry))
                    if entry.get("delivered"):
                        handsets.write(Arrival(entry["n"], entry["at"], entry["body"], entry["to"]))
                case "turned-away":
                    attempt = entry.get("attempt", 1)
                    carrier.write(TurnedAway(entry["n"], entry["at"], entry["bind"], attempt))
                case "inbound-sent":
                    texts[entry["item_id"]] = entry["body"]
                case "acked":
                    acked.update(entry["item_ids"])
                case _:
                    pass
    for item, text in texts.items():
        handsets.write(Text(item, text, item in acked))


def _submission(entry: dict[str, Any]) -> Submission:
    return Submission(
        n=entry["n"],
        at=entry["at"],
        text=entry.get("body", ""),
        recipient=entry.get("to", ""),
        outcome=entry.get("outcome", "accept"),
        reference=entry.get("reference", ""),
        bind=entry.get("bind", ""),
        is_marked_repeat=bool(entry.get("possible_duplicate", False)),
    )
