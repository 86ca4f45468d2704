"""A stop that one host hears holds on every host, also when that one is gone; and all count alike."""

import sys
import urllib.error
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from tests.system import running
from tests.system.machines import BACK_S, SETTLED_S, Facts, is_ready, kill_host, request, status
from tests.system.running import get_json, post_json, wait_until

from trunkline.domain.optout import REPLIES, Keyword

pytestmark = [
    pytest.mark.system,
    pytest.mark.several,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="each host has a loopback address"),
]

HANDSET: Final = "+12025550151"
SENT_EACH: Final = 3


def sent(facts: Facts, url: str, body: str, *, to: str = HANDSET) -> str | None:
    """The SID; None for who has opted out."""
    form = {"To": to, "From": facts["phone_number"], "Body": body}
    try:
        return str(request(facts, url, "Messages.json", form)["sid"])
    except urllib.error.HTTPError as refusal:
        if refusal.code != 400 or b'"code":21610' not in refusal.read():
            raise
        return None


def refuses(facts: Facts, url: str) -> bool:
    return sent(facts, url, "probe") is None


def is_delivered(facts: Facts, url: str, sid: str) -> bool:
    return status(facts, url, sid) == "delivered"


def text(facts: Facts, body: str) -> None:
    url = f"{facts['simulator_url']}/v1/handsets/{HANDSET}/messages"
    post_json(url, {"to": facts["phone_number"], "body": body})


def on_the_phone(facts: Facts) -> list[str]:
    found = get_json(f"{facts['simulator_url']}/v1/handsets/{HANDSET}/messages")
    return [each["body"] for each in found]


def usage(facts: Facts, url: str) -> tuple[str, float, str]:
    """Texts sent, what everything came to, and the balance."""
    (texts,) = request(facts, url, "Usage/Records.json?Category=sms-outbound")["usage_records"]
    (total,) = request(facts, url, "Usage/Records.json?Category=totalprice")["usage_records"]
    return texts["count"], round(total["price"], 6), request(facts, url, "Balance.json")["balance"]


def test_a_stop_holds_on_every_host_and_all_count_alike(tmp_path: Path) -> None:
    with running.up(tmp_path / "data", "--hosts", "3") as up:
        facts, hosts = up.facts, up.facts["hosts"]
        urls = [host["base_url"] for host in hosts]
        sids = [sent(facts, url, f"{turn}") for turn in range(SENT_EACH) for url in urls]
        assert None not in sids

        for sid in sids:
            for url in urls:
                wait_until(
                    partial(is_delivered, facts, url, str(sid)),
                    f"{url} to tell that {sid} was delivered",
                    within_s=SETTLED_S,
                )

        # A stop: every host refuses, and the handset is told once.
        text(facts, "STOP")
        for url in urls:
            wait_until(partial(refuses, facts, url), f"{url} to refuse")
        wait_until(lambda: REPLIES[Keyword.STOP] in on_the_phone(facts), "the answer")
        assert sent(facts, urls[0], "to another", to="+12025550152") is not None

        # One of them is gone: the others go on refusing, and so does it when it is back.
        kill_host(hosts[0]["pid"])
        assert [sent(facts, url, "without host-a") for url in urls[1:]] == [None, None]
        wait_until(lambda: is_ready(urls[0]), "host-a to serve again", within_s=BACK_S)
        assert sent(facts, urls[0], "through host-a again") is None

        text(facts, "START")
        for url in urls:
            wait_until(
                partial(sent, facts, url, "after START"),
                f"{url} to accept",
                within_s=SETTLED_S,
            )
        assert on_the_phone(facts).count(REPLIES[Keyword.STOP]) == 1

        # Every host counts the same, and counts what the carrier took.
        counts = f"{facts['simulator_url']}/v1/counts"
        wait_until(
            lambda: {usage(facts, url)[0] for url in urls} == {str(get_json(counts)["delivered"])},
            "all to count what was delivered",
            within_s=SETTLED_S,
        )
        assert len({usage(facts, url) for url in urls}) == 1
        assert up.stop() == 0
