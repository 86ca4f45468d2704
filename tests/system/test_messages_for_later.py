"""Messages for later on three hosts, one of which dies: each leaves once when due, or was canceled.

All through the API, of whichever host. Two cancels of each message race with its sending, from two
hosts: what they were answered is what the phone shows.
"""

import asyncio
import random
import sys
import threading
import urllib.error
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from tests.system.machines import BACK_S, RECIPIENT, is_ready, kill_host, request, status
from tests.system.running import get_json, up, wait_until

from trunkline.host.engine import Door, open_door_to_read
from trunkline.host.layout import Layout
from trunkline.kernel import SystemClock

pytestmark = [
    pytest.mark.system,
    pytest.mark.alone,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="each host has a loopback address"),
]

SENT: Final = 12
CANCELED: Final = 6
RACED: Final = 24
LATER_S: Final = 20
"""Beyond what is held without a timer, with the creates and the elections before it."""
RACE_S: Final = 0.4
"""Before and behind the moment at which they are due, in which the cancels are spread."""
SETTLE_MAX_S: Final = 60.0
TRIES_MAX: Final = 20
SETTINGS: Final = {
    "TRUNKLINE_MESSAGES_SEND_AT_MIN_S": "0",
    "TRUNKLINE_CARRIER_ON_AMBIGUOUS": "resend",
}
CLOCK: Final = SystemClock()

Facts = dict[str, Any]


def test_a_host_that_dies_takes_none_with_it_and_none_is_both_canceled_and_sent(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with up(data, "--hosts", "3", settings=SETTINGS) as running:
        facts, hosts = running.facts, running.facts["hosts"]
        urls = [host["base_url"] for host in hosts]
        due = int(CLOCK.wall()) + LATER_S
        sent = create_all(facts, urls, "sent", SENT, due)
        canceled = create_all(facts, urls, "canceled", CANCELED, due)
        raced = create_all(facts, urls, "raced", RACED, due)
        for sid in canceled.values():
            assert settled(partial(cancel, facts, urls[1], sid))

        kill_host(hosts[0]["pid"])
        answers = race(facts, urls[1:], list(raced.values()), due)

        taken_back = {body for body, sid in raced.items() if answers[sid]}
        wanted = {*sent, *raced} - taken_back
        wait_until(
            lambda: {each["body"] for each in arrived(facts)} >= wanted,
            "every message to arrive",
            within_s=SETTLE_MAX_S,
        )
        wait_until(lambda: is_ready(urls[0]), "host-a to serve again", within_s=BACK_S)
        for url in urls:
            for sids, ends in ((sent, "delivered"), (canceled, "canceled")):
                for sid in sids.values():
                    expect(facts, url, sid, ends)
            for body, sid in raced.items():
                expect(facts, url, sid, "canceled" if body in taken_back else "delivered")
        wait_until(
            lambda: timers_standing(data / "host-b") == 0,
            "no timer to stand any more",
            within_s=BACK_S,
        )

        phone = arrived(facts)
        sys.stderr.write(f"{len(taken_back)} of {RACED} that were raced for were canceled\n")
        assert {each["body"] for each in phone} == wanted
        silent = Counter(each["body"] for each in phone if not each["possible_duplicate"])
        assert {body: copies for body, copies in silent.items() if copies > 1} == {}
        assert min(float(each["at"]) for each in phone) >= due
        assert running.stop() == 0


def test_what_was_deleted_through_one_host_is_gone_from_all_also_from_one_that_was_away(
    tmp_path: Path,
) -> None:
    with up(tmp_path / "data", "--hosts", "3", settings=SETTINGS) as running:
        facts, hosts = running.facts, running.facts["hosts"]
        urls = [host["base_url"] for host in hosts]
        form = {"To": RECIPIENT, "From": facts["phone_number"]}
        deleted, redacted = (
            str(request(facts, urls[0], "Messages.json", {**form, "Body": body})["sid"])
            for body in ("gone", "secret")
        )
        for url in urls:
            for sid in (deleted, redacted):
                expect(facts, url, sid, "delivered")

        kill_host(hosts[0]["pid"])
        settled(lambda: delete(facts, urls[1], deleted))
        settled(lambda: bool(request(facts, urls[1], f"Messages/{redacted}.json", {"Body": ""})))
        assert not is_there(facts, urls[1], deleted)

        wait_until(lambda: is_ready(urls[0]), "host-a to serve again", within_s=BACK_S)
        for url in urls:
            wait_until(
                partial(shows_only, facts, url, redacted, "", gone=deleted),
                f"{url} to show neither",
            )
        assert running.stop() == 0


def create_all(
    facts: Facts, urls: Sequence[str], name: str, count: int, due: int
) -> dict[str, str]:
    """SIDs by body, through each host in turn."""
    moment = f"{datetime.fromtimestamp(due, UTC):%Y-%m-%dT%H:%M:%SZ}"
    made = {}
    for number in range(count):
        form = {
            "To": RECIPIENT,
            "From": facts["phone_number"],
            "Body": f"{name}-{number}",
            "SendAt": moment,
            "ScheduleType": "fixed",
        }
        answer = request(facts, urls[number % len(urls)], "Messages.json", form, key=form["Body"])
        assert answer["status"] == "scheduled"
        made[form["Body"]] = str(answer["sid"])
    return made


def race(facts: Facts, urls: Sequence[str], sids: Sequence[str], due: int) -> dict[str, bool]:
    """Whether each was canceled; asked of two hosts, at a moment of its own around `due`."""
    pause = threading.Event()

    def one(place: int, url: str) -> bool:
        ahead_s = RACE_S * (2.0 * place / len(sids) - 1.0)
        pause.wait(max(0.0, due + ahead_s - CLOCK.wall()))
        return settled(lambda: cancel(facts, url, sids[place]))

    with ThreadPoolExecutor(max_workers=2 * len(sids)) as threads:
        asked = [[threads.submit(one, place, url) for url in urls] for place, _ in enumerate(sids)]
        answers = [{each.result() for each in of_one} for of_one in asked]
    assert all(len(each) == 1 for each in answers), "two hosts say different things of one message"
    return {sid: answer.pop() for sid, answer in zip(sids, answers, strict=True)}


def settled(ask: Callable[[], bool]) -> bool:
    """The answer, asked for again while it is that nobody can say."""
    pause = threading.Event()
    for _ in range(TRIES_MAX):
        try:
            return ask()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 503:
                raise
        except OSError:
            pass  # a host that is just gone
        pause.wait(1.0)
    raise AssertionError(f"no answer after {TRIES_MAX} tries")


def cancel(facts: Facts, url: str, sid: str) -> bool:
    """False: it is too late."""
    try:
        answer = request(facts, url, f"Messages/{sid}.json", {"Status": "canceled"})
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise
        error.close()
        return False
    assert answer["status"] == "canceled"
    return True


def delete(facts: Facts, url: str, sid: str) -> bool:
    request(facts, url, f"Messages/{sid}.json", method="DELETE")
    return True


def is_there(facts: Facts, url: str, sid: str) -> bool:
    try:
        request(facts, url, f"Messages/{sid}.json")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 404:
            raise
        return False
    return True


def shows_only(facts: Facts, url: str, sid: str, body: str, *, gone: str) -> bool:
    listed = request(facts, url, "Messages.json")["messages"]
    is_alone = [(each["sid"], each["body"]) for each in listed] == [(sid, body)]
    return is_alone and not is_there(facts, url, gone)


def expect(facts: Facts, url: str, sid: str, end: str) -> None:
    wait_until(
        lambda: status(facts, url, sid) == end,
        f"{url} to show {sid} as {end}",
        within_s=SETTLE_MAX_S,
    )


def timers_standing(data: Path) -> int:
    async def count() -> int:
        door = Door.find(Layout(data))
        async with open_door_to_read(door, clock=CLOCK, rng=random.Random()) as log:
            counts = [
                await log.timers.count(shard, timeout_s=5.0) for shard in range(log.timers.shards)
            ]
        return sum(each if isinstance(each, int) else 1 for each in counts)

    return asyncio.run(count())


def arrived(facts: Facts) -> list[Facts]:
    url = f"{facts['simulator_url']}/v1/handsets/{quote(RECIPIENT)}/messages?limit=1000"
    found: list[Facts] = get_json(url)
    return found
