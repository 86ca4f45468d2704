"""Messages for later, on a whole host that dies with them in its hands: each leaves once, when due.

The API does not take a time to send at yet, so these are appended by a client of the log.
"""

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.system.running import Running, get_json, up, wait_until

from trunkline.domain.events import Kind, MessageCreated
from trunkline.domain.sid import SMS, sid_from_key
from trunkline.host.engine import Door, open_door
from trunkline.host.layout import Layout
from trunkline.kernel import SystemClock
from trunkline.kernel.crash import CrashPoint, mark_of
from trunkline.log.append import Draft, ShardHealth, append
from trunkline.log.author import Author

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

MESSAGES = 6
LATER_S = 16.0
"""Beyond what is near enough to be held without a timer, also after the host has come back."""

HANDSET = "+12025550123"
NUMBER = "+12025550101"
SETTLE_MAX_S = 60.0

PASSINGS: Mapping[CrashPoint, int] = {
    CrashPoint.TIMER_BEFORE_ACK: MESSAGES,
    CrashPoint.DUE_BEFORE_HANDING_BACK: 2,
}
"""The last timer, so that all are stored by then; and with some that are due before and behind."""

CLOCK = SystemClock()


@pytest.mark.parametrize("point", PASSINGS, ids=str)
def test_a_host_that_dies_with_messages_for_later_sends_each_once_and_not_early(
    point: CrashPoint, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    settings = {
        "TRUNKLINE_CRASH_AT": f"{point}:{PASSINGS[point]}",
        "TRUNKLINE_CARRIER_ON_AMBIGUOUS": "resend",
    }
    with up(data, settings=settings) as host:
        send_at = CLOCK.wall() + LATER_S
        asyncio.run(accept_for(send_at, data, str(host.facts["account_sid"])))

        wait_until(mark_of(data / "run", point).exists, f"a process to pass {point}")
        wait_until(
            lambda: len({each["body"] for each in arrived(host)}) == MESSAGES,
            "every message to arrive",
            within_s=SETTLE_MAX_S,
        )
        wait_until(lambda: timers_standing(data) == 0, "no timer to stand any more")

        silent = Counter(each["body"] for each in arrived(host) if not each["possible_duplicate"])
        assert {body: copies for body, copies in silent.items() if copies > 1} == {}
        assert min(float(each["at"]) for each in arrived(host)) >= send_at


async def accept_for(send_at: float, data: Path, account: str) -> None:
    """As the acceptor does; the answer to the last one may be lost with its host."""
    author = Author("later", CLOCK, secrets.token_bytes)
    health = ShardHealth(CLOCK)
    async with open_door(Door.find(Layout(data)), clock=CLOCK, rng=random.Random()) as log:
        for number in range(MESSAGES):
            sid = sid_from_key(SMS, account, "CreateMessage", f"later-{number}")
            body = MessageCreated(
                sid=sid,
                sender=NUMBER,
                recipient=HANDSET,
                text=f"later-{number}",
                send_at=send_at,
            )
            draft = Draft(kind=Kind.MESSAGE, sid=sid, account=account, body=body, is_keyed=True)
            await append(log, draft, author=author, health=health)


def timers_standing(data: Path) -> int:
    async def count() -> int:
        async with open_door(Door.find(Layout(data)), clock=CLOCK, rng=random.Random()) as log:
            counts = [
                await log.timers.count(shard, timeout_s=5.0) for shard in range(log.timers.shards)
            ]
        return sum(each if isinstance(each, int) else 1 for each in counts)

    return asyncio.run(count())


def arrived(host: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get_json(
        f"{host.facts['simulator_url']}/v1/handsets/{HANDSET}/messages"
    )
    return found
