"""Accounts and keys of three hosts: made through one, good through all, and no more from the moment on
in which another one said so; also when a copy stands still, and when a host has died."""

import functools
import json
import os
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from tests.system import running
from tests.system.machines import kill_host
from tests.system.running import descendants, put_json, wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.alone,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="each host has a loopback address"),
]

CALL_MAX_S: Final = 15.0
ELECTED_S: Final = 60.0
ENFORCED_S: Final = 1.0
"""What the documentation promises."""
HANDSET: Final = "+12025550123"
NUMBER: Final = "+12025550171"
QUEUED: Final = 5
SPLIT: Final = {"TRUNKLINE_HOST_PROCESSES": "api,dispatch,receipts,webhooks,inbound;projector"}
"""So that the copy can stand still alone."""
REFUSED: Final = (401, 20003)


@dataclass(frozen=True)
class Who:
    """Somebody with credentials, who acts on `account`."""

    urls: tuple[str, ...]
    user: str
    password: str
    account: str

    def ask(
        self, host: int, method: str, what: str = "", form: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """The status, and what was answered; 0 while nobody answers."""
        token = b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.urls[host]}/2010-04-01/Accounts{self.account}{what}.json",
            data=urllib.parse.urlencode(form).encode() if form is not None else None,
            headers={"Authorization": f"Basic {token}"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_MAX_S) as answer:  # noqa: S310 - as above
                body = answer.read()
                return answer.status, json.loads(body) if body else None
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read())
        except OSError as error:
            return 0, str(error)

    def get_in(self, host: int) -> bool:
        return self.ask(host, "GET", "/Messages")[0] == 200

    def is_out(self, host: int) -> bool:
        status, answer = self.ask(host, "GET", "/Messages")
        return (status, status and answer.get("code")) == REFUSED

    def send(self, host: int, sender: str = NUMBER) -> tuple[int, Any]:
        return self.ask(host, "POST", "/Messages", {"To": HANDSET, "From": sender, "Body": "Hello"})

    def on(self, account: str) -> "Who":
        return Who(self.urls, self.user, self.password, f"/{account}" if account else "")


def expect_out(who: Who, host: int) -> None:
    wait_until(lambda: who.is_out(host), f"host {host} to refuse", within_s=ENFORCED_S)


def expect_in(who: Who, host: int) -> None:
    wait_until(lambda: who.get_in(host), f"host {host} to let it in", within_s=ENFORCED_S)


@contextmanager
def copy_stands_still(host_pid: int) -> Iterator[None]:
    """The process that keeps a host's copy up to date is frozen; the one that answers is not."""
    (pid,) = (each for each, name in descendants(host_pid).items() if name != "nats-server")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_who_may_act_is_the_same_through_every_host_at_once(tmp_path: Path) -> None:
    with running.up(tmp_path / "data", "--hosts", "3", settings=SPLIT) as up:
        facts = up.facts
        urls = tuple(host["base_url"] for host in facts["hosts"])
        main = Who(urls, facts["account_sid"], facts["auth_token"], f"/{facts['account_sid']}")
        shop = expect_opened_for_all(main)
        expect_keys_known_by_all(main, shop)
        expect_a_deleted_key_is_out_where_the_copy_stands_still(shop, facts["hosts"][2]["pid"])
        expect_suspension_of_what_is_queued(main, shop, facts["simulator_url"])
        expect_going_on_without_one(main, shop, facts["hosts"][0]["pid"])
        assert up.stop() == 0


def expect_opened_for_all(main: Who) -> Who:
    """A subaccount that one host opened is acted on through another, and acts through a third."""
    status, account = main.on("").ask(0, "POST", form={"FriendlyName": "Shop"})
    assert status == 201
    shop = Who(main.urls, account["sid"], account["auth_token"], f"/{account['sid']}")
    by_parent = main.on(shop.user)
    owned = by_parent.ask(1, "POST", "/IncomingPhoneNumbers", {"PhoneNumber": NUMBER})
    assert owned[0] == 201, owned
    expect_in(shop, 2)
    wait_until(lambda: shop.send(2)[0] == 201, "the third host to know the number")
    assert shop.on(main.user).is_out(2)
    assert main.send(1)[1]["code"] == 21659
    return shop


def expect_keys_known_by_all(main: Who, shop: Who) -> None:
    status, key = main.on(shop.user).ask(1, "POST", "/Keys", {"FriendlyName": "till"})
    assert status == 201
    till = Who(main.urls, key["sid"], key["secret"], shop.account)
    for host in range(3):
        expect_in(till, host)
    assert till.ask(0, "GET", "/Keys")[0] == 401
    assert shop.ask(2, "DELETE", f"/Keys/{till.user}")[0] == 204
    for host in range(3):
        expect_out(till, host)


def expect_a_deleted_key_is_out_where_the_copy_stands_still(shop: Who, pid: int) -> None:
    status, key = shop.ask(0, "POST", "/SigningKeys", {})
    assert status == 201
    till = Who(shop.urls, key["sid"], key["secret"], shop.account)
    wait_until(lambda: key["sid"] in str(shop.ask(2, "GET", "/Keys")[1]), "the copy to show it")
    expect_in(till, 2)
    with copy_stands_still(pid):
        assert shop.ask(0, "DELETE", f"/Keys/{till.user}")[0] == 204
        expect_out(till, 2)
        assert key["sid"] in str(shop.ask(2, "GET", "/Keys")[1]), "its copy shows the key still"
    wait_until(lambda: key["sid"] not in str(shop.ask(2, "GET", "/Keys")[1]), "the copy to follow")
    assert till.is_out(2)


def expect_suspension_of_what_is_queued(main: Who, shop: Who, simulator: str) -> None:
    """What the carrier did not take yet when its account was suspended fails, and is never sent."""
    put_json(f"{simulator}/v1/behaviour", {"outcome": "throttle"})
    queued = []
    for turn in range(QUEUED):
        status, message = shop.send(turn % 3)
        assert status == 201
        queued.append(message["sid"])
    suspended = main.on(shop.user).ask(1, "POST", form={"Status": "suspended"})
    assert suspended[0] == 200
    for host in range(3):
        expect_out(shop, host)
        assert main.on(shop.user).send(host)[0] == 403
    # Whatever still had the account for active is through when every host has refused its caller.
    put_json(f"{simulator}/v1/behaviour", {})
    for sid in queued:
        wait_until(
            functools.partial(fails_with, main.on(shop.user), sid, 30002),
            "the message to fail",
            within_s=ELECTED_S,
        )
    assert main.on(shop.user).ask(2, "POST", form={"Status": "active"})[0] == 200
    for host in range(3):
        expect_in(shop, host)


def fails_with(who: Who, sid: str, code: int) -> bool:
    message = who.ask(0, "GET", f"/Messages/{sid}")[1]
    return (message["status"], message["error_code"]) == ("failed", code)


def expect_going_on_without_one(main: Who, shop: Who, pid: int) -> None:
    """What the dead host had done counts, and what is changed without it counts on those that are
    left. While the account's shard has no leader nothing changes, and 503 says so."""
    kill_host(pid)
    by_parent = main.on(shop.user)

    def becomes(status: str, host: int) -> bool:
        answer = by_parent.ask(host, "POST", form={"Status": status})
        assert answer[0] in (0, 200, 503), answer
        return answer[0] == 200

    wait_until(lambda: becomes("suspended", 1), "the suspension", within_s=ELECTED_S)
    expect_out(shop, 2)
    expect_out(shop, 1)
    wait_until(lambda: becomes("active", 2), "the end of it", within_s=ELECTED_S)
    expect_in(shop, 1)
    wait_until(lambda: becomes("closed", 1), "the closing", within_s=ELECTED_S)
    expect_out(shop, 2)
    assert by_parent.ask(2, "POST", form={"Status": "active"})[0] == 400
    owned = main.ask(2, "POST", "/IncomingPhoneNumbers", {"PhoneNumber": NUMBER})
    assert owned[0] == 201, owned
