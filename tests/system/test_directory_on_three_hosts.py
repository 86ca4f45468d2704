"""Numbers and applications of three hosts: one owner, no lost change, also when a host dies meanwhile."""

import functools
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from tests.system import running
from tests.system.machines import RECIPIENT, kill_host
from tests.system.running import wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.several,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="each host has a loopback address"),
]

CALL_MAX_S: Final = 15.0
ELECTED_S: Final = 60.0
ROUNDS: Final = 5
NUMBERS: Final = "IncomingPhoneNumbers"
SMS_URL: Final = "http://127.0.0.1:9/sms"
VOICE_URL: Final = "http://127.0.0.1:9/voice"


class Hosts:
    """The API of each host of one cluster."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.urls: list[str] = [host["base_url"] for host in facts["hosts"]]
        user = f"{facts['account_sid']}:{facts['auth_token']}".encode()
        self._authorization = f"Basic {b64encode(user).decode()}"
        self._account = facts["account_sid"]

    def call(
        self, host: int, method: str, what: str, form: dict[str, str] | None = None, key: str = ""
    ) -> tuple[int, Any]:
        """The status, and what was answered; 0 while nobody answers."""
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.urls[host]}/2010-04-01/Accounts/{self._account}/{what}.json",
            data=urllib.parse.urlencode(form).encode() if form is not None else None,
            headers={"Authorization": self._authorization}
            | ({"Idempotency-Key": key} if key else {}),
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

    def at_once(
        self, method: str, what: str, forms: Sequence[dict[str, str] | None]
    ) -> list[tuple[int, Any]]:
        """The same through every host at once, each with its form."""
        with ThreadPoolExecutor(len(self.urls)) as threads:
            asked = [
                threads.submit(self.call, host, method, what, form)
                for host, form in enumerate(forms)
            ]
            return [each.result() for each in asked]

    def shows(self, host: int, what: str, fields: dict[str, str]) -> bool:
        found = self.call(host, "GET", what)[1]
        return all(found.get(name) == value for name, value in fields.items())


def test_a_number_has_one_owner_and_no_change_is_lost_through_whichever_host(
    tmp_path: Path,
) -> None:
    with running.up(tmp_path / "data", "--hosts", "3") as up:
        hosts = Hosts(up.facts)
        for turn in range(ROUNDS):
            expect_one_owner_and_every_change(hosts, f"+1415555012{turn % 2}", f"turn {turn}")
        expect_going_on_without_one(hosts, up.facts["hosts"][0]["pid"])
        assert up.stop() == 0


def expect_one_owner_and_every_change(hosts: Hosts, phone_number: str, name: str) -> None:
    """Three hosts own, change and delete one number at the same moments."""
    owned = hosts.at_once("POST", NUMBERS, [{"PhoneNumber": phone_number}] * 3)
    assert sorted(status for status, _ in owned) == [201, 400, 400]
    sid = next(answer["sid"] for status, answer in owned if status == 201)
    path = f"{NUMBERS}/{sid}"

    # It can be sent from at once through each of them.
    message = {"From": phone_number, "To": RECIPIENT, "Body": name}
    sent = hosts.at_once("POST", "Messages", [message] * 3)
    assert [status for status, _ in sent] == [201, 201, 201]

    # What each host changes is kept, although two of them may not show the number yet.
    forms = [{"FriendlyName": name}, {"SmsUrl": SMS_URL}, {"VoiceUrl": VOICE_URL}]
    changed = hosts.at_once("POST", path, forms)
    assert [status for status, _ in changed] == [200, 200, 200]
    fields = {"friendly_name": name, "sms_url": SMS_URL, "voice_url": VOICE_URL}
    for host in range(3):
        wait_until(functools.partial(hosts.shows, host, path, fields), "every change to show")

    # One of them deletes it; for the others it is gone, and the next round owns it anew.
    gone = hosts.at_once("DELETE", path, [None] * 3)
    assert sorted(status for status, _ in gone) == [204, 404, 404]


def expect_going_on_without_one(hosts: Hosts, pid: int) -> None:
    """What was made through the host that dies is there; what is asked while its shards elect is
    done or refused with 503, and never done twice."""
    status, made = hosts.call(0, "POST", "Applications", {"FriendlyName": "desk"})
    assert status == 201
    path = f"Applications/{made['sid']}"
    assert hosts.call(2, "GET", path)[0] == 200  # at once, whether its copy shows it or not

    kill_host(pid)

    for turn in range(4):
        form, host = {"PhoneNumber": f"+1212555013{turn}"}, 1 + turn % 2
        ours = Owning(hosts, host, form, key=f"order-{turn}")
        wait_until(ours.is_owned, "the number to be owned", within_s=ELECTED_S)
        assert {status for status, _ in ours.answers} <= {0, 201, 503}
        again = Owning(hosts, 3 - host, form, key=f"order-{turn}")
        assert again.is_owned()
        assert again.answers[-1][1]["sid"] == ours.answers[-1][1]["sid"]
        assert hosts.call(3 - host, "POST", NUMBERS, form)[0] == 400

    wait_until(
        lambda: hosts.call(1, "POST", path, {"FriendlyName": "shop"})[0] == 200,
        "the application to be changed",
        within_s=ELECTED_S,
    )
    wait_until(lambda: hosts.shows(2, path, {"friendly_name": "shop"}), "the change to show")


@dataclass
class Owning:
    """One create with a key, repeated until it is answered."""

    hosts: Hosts
    host: int
    form: dict[str, str]
    key: str
    answers: list[tuple[int, Any]] = field(default_factory=list)

    def is_owned(self) -> bool:
        self.answers.append(self.hosts.call(self.host, "POST", NUMBERS, self.form, key=self.key))
        return self.answers[-1][0] == 201
