"""Two of three hosts are gone, so nothing can be decided: what is known can still be read, what cannot
be accepted is refused at once, and with the hosts everything comes back by itself."""

import json
import sys
import time
import urllib.error
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from tests.system.application import application
from tests.system.machines import (
    BACK_S,
    ENDED_S,
    SETTLED_S,
    Facts,
    Host,
    Machines,
    bodies_on_the_phone,
    create,
    expect_told,
    kill_host,
    machines,
    request,
    status,
    trunkline,
)
from tests.system.running import put_json, wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.alone,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="each host has a loopback address"),
]

REFUSED_WITHIN_S: Final = 8.0
"""A create asks for up to five seconds whether one of its shards comes back."""
RECEIPT_DELAY_MS: Final = 3_000.0
KEY: Final = "a key"
REPEATED: Final = "refused, and repeated"


def facts_of(cluster: Machines, folder: Path) -> Facts:
    found: Facts = json.loads((folder / "host-a" / "credentials.json").read_bytes())
    return found | {"simulator_url": cluster.carrier}


def base_url(host: Host) -> str:
    return str(json.loads(host.ready.read_bytes())["base_url"])


def behave(facts: Facts, **behaviour: object) -> None:
    put_json(f"{facts['simulator_url']}/v1/behaviour", behaviour)


def expect_read(facts: Facts, url: str, sids: Sequence[str]) -> None:
    """Each is shown by itself and in the list."""
    for sid in sids:
        assert request(facts, url, f"Messages/{sid}.json")["sid"] == sid
    listed = request(facts, url, "Messages.json?PageSize=50")["messages"]
    assert {message["sid"] for message in listed} == set(sids)


def bodies_listed(facts: Facts, url: str) -> list[str]:
    listed = request(facts, url, "Messages.json?PageSize=50")["messages"]
    return sorted(message["body"] for message in listed)


def expect_refused(facts: Facts, url: str, key: str | None) -> None:
    """Soon, and as a client of Twilio knows it."""
    asked_at = time.monotonic()
    with pytest.raises(urllib.error.HTTPError) as refused:
        create(facts, url, REPEATED, key=key)
    took_s = time.monotonic() - asked_at
    answer = json.load(refused.value)
    assert refused.value.code == answer["status"] == 503
    assert answer["code"] == 20503
    assert "may have been accepted" in answer["message"] or "Try again" in answer["message"]
    assert int(refused.value.headers["Retry-After"]) >= 1
    assert took_s < REFUSED_WITHIN_S


def expect_said_why(folder: Path) -> None:
    """The command still answers, and names whom to look after."""
    said = trunkline("status", "--data", str(folder))
    assert said.returncode == 1
    assert "1 of 3 hosts" in said.stdout, said.stdout
    assert "Not heard: host-b, host-c" in said.stdout, said.stdout


def start(cluster: Machines, letters: str) -> dict[str, Host]:
    hosts = {letter: cluster.start(letter) for letter in letters}
    wait_until(
        lambda: all(host.is_ready() for host in hosts.values()), "all to serve", within_s=BACK_S
    )
    return hosts


def test_without_a_majority_reads_go_on_creates_are_refused_and_all_comes_back_by_itself(
    tmp_path: Path,
) -> None:
    with machines(tmp_path) as cluster, application() as customer:
        # What waits is tried again and again. When the majority is lost one may just have been turned
        # away, and nobody can write that down: it is ambiguous, and here to be sent again.
        cluster.on_ambiguous = "resend"
        hosts = start(cluster, "abc")
        facts, url = facts_of(cluster, tmp_path), base_url(hosts["a"])

        # Some messages are done, the receipts of some are under way, and some wait for the carrier.
        done = [create(facts, url, f"done {turn}") for turn in range(3)]
        for sid in done:
            expect_told(facts, url, sid)
        behave(facts, receipt_delay_ms=RECEIPT_DELAY_MS)
        sent = [create(facts, url, f"sent {turn}", told_at=customer.url) for turn in range(3)]
        wait_until(
            lambda: all(status(facts, url, sid) == "sent" for sid in sent), "three to be sent"
        )
        behave(facts, outcome="throttle")
        waiting = [create(facts, url, f"waits {turn}", told_at=customer.url) for turn in range(3)]
        # A message by itself is looked for in the log as well, a list only in the copy.
        wait_until(lambda: len(bodies_listed(facts, url)) == 9, "all to be in the copy")
        on_the_phone = bodies_on_the_phone(facts)

        for letter in "bc":
            kill_host(hosts[letter].process.pid)
            hosts[letter].process.wait(timeout=ENDED_S)
        expect_read(facts, url, [*done, *sent, *waiting])
        for key in (None, KEY):
            expect_refused(facts, url, key)
        expect_said_why(tmp_path / "host-a")
        expect_read(facts, url, [*done, *sent, *waiting])
        behave(facts)
        assert bodies_on_the_phone(facts) == on_the_phone

        # With the two, everything goes on by itself.
        hosts |= start(cluster, "bc")
        repeated = [create(facts, url, REPEATED, key=KEY) for _ in range(2)]
        assert repeated[0] == repeated[1]
        after = [create(facts, base_url(host), "after") for host in hosts.values()]
        accepted = [*done, *sent, *waiting, repeated[0], *after]
        for sid in accepted:
            expect_told(facts, url, sid)
        assert hosts["a"].process.poll() is None

        # Each that was accepted is on the phone once, and the application was told of it once. The
        # one without a key may have been accepted, as it was told, and then it is there as well.
        wait_until(
            lambda: bodies_listed(facts, url) == bodies_on_the_phone(facts),
            "each message to be on the phone, and once",
            within_s=SETTLED_S,
        )
        ends = [(sid, "delivered") for sid in (*sent, *waiting)]
        wait_until(
            lambda: all(customer.told[each] for each in ends), "all to be told", within_s=SETTLED_S
        )
        assert max(customer.told.values()) == 1
