"""One host as its operator meets it: what may be deleted, split, asked, and left running."""

import contextlib
import http.client
import json
import urllib.request
from base64 import b64encode
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.system.running import Running, descendants, get_json, up, wait_until
from twilio.rest import Client

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

HANDSET = "+12025550123"


def test_a_deleted_read_copy_is_rebuilt_from_the_log(tmp_path: Path) -> None:
    with up(tmp_path / "data") as host:
        sids = {send(host, f"kept {number}") for number in range(5)}
        wait_until(lambda: delivered(host) >= sids, "all to be delivered")
        assert host.stop() == 0
    for file in (tmp_path / "data" / "replica").iterdir():
        file.unlink()

    with up(tmp_path / "data") as host:
        assert delivered(host) >= sids, "what is served after a start is complete"


def test_services_may_be_split_into_processes(tmp_path: Path) -> None:
    split = {"TRUNKLINE_HOST_PROCESSES": "api;projector,receipts;dispatch,webhooks,inbound"}
    with up(tmp_path / "data", settings=split) as host:
        names = list(descendants(host.pid).values())
        assert len([name for name in names if name.startswith("python")]) == 4  # and the simulator

        sid = send(host, "through three processes")

        wait_until(lambda: sid in delivered(host), "it to be delivered")
        processes = [host.pid, *descendants(host.pid)]
        assert host.stop() == 0
        wait_until(lambda: not any(map(exists, processes)), "every process to be gone")


def test_reads_say_how_far_behind_they_may_be(tmp_path: Path) -> None:
    with up(tmp_path / "data", "--ephemeral") as host:
        wait_until(lambda: 0 <= lag_ms(host) < 2_000, "a small lag on an idle host")


def test_probes_and_metrics_need_no_credentials(tmp_path: Path) -> None:
    with up(tmp_path / "data", "--ephemeral") as host:
        base_url = host.facts["base_url"]
        sid = send(host, "to be counted")
        wait_until(lambda: sid in delivered(host), "it to be delivered")

        assert get_json(f"{base_url}/healthz") == {"status": "alive"}
        assert get_json(f"{base_url}/readyz") == {"status": "ready"}
        text = text_of(f"{base_url}/metrics")

    assert "trunkline_messages_handed_over_total 1.0" in text
    assert "trunkline_replica_lag_seconds" in text
    assert 'trunkline_pool_failures_total{pool="carrier:simulated:submit"} 0.0' in text
    assert 'trunkline_api_requests_total{operation="CreateMessage",status="201"} 1.0' in text


def test_a_body_that_is_too_large_is_answered_and_the_connection_goes_on(tmp_path: Path) -> None:
    with up(tmp_path / "data", "--ephemeral") as host:
        address = urlsplit(host.facts["base_url"])
        account, token = host.facts["account_sid"], host.facts["auth_token"]
        headers = {"Authorization": "Basic " + b64encode(f"{account}:{token}".encode()).decode()}
        path = f"/2010-04-01/Accounts/{account}/Messages.json"
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", path, b"Body=" + b"x" * (5 * 1024 * 1024), headers)
            refused = connection.getresponse()
            said = json.load(refused)
            socket = connection.sock
            connection.request("GET", path, headers=headers)

            assert (refused.status, said["code"]) == (413, 20413)
            assert connection.getresponse().status == 200
            assert connection.sock is socket


def test_logs_name_messages_and_never_quote_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with up(tmp_path / "data", settings={"TRUNKLINE_HOST_LOG_LEVEL": "debug"}) as host:
        sid = send(host, "an unmistakable sentence")
        wait_until(lambda: sid in delivered(host), "it to be delivered")
        token = host.facts["auth_token"]
        assert host.stop() == 0

    said = capfd.readouterr().err
    assert sid in said
    assert "unmistakable" not in said
    assert token not in said
    assert all(json.loads(line) for line in said.splitlines() if line.startswith("{"))


def client_of(host: Running) -> Client:
    client = Client(host.facts["account_sid"], host.facts["auth_token"])
    client.api.base_url = host.facts["base_url"]
    return client


def send(host: Running, body: str) -> str:
    sender = host.facts["phone_number"]
    return str(client_of(host).messages.create(to=HANDSET, from_=sender, body=body).sid)


def delivered(host: Running) -> set[str]:
    listed = client_of(host).messages.list(page_size=1000)
    return {str(message.sid) for message in listed if message.status == "delivered"}


def lag_ms(host: Running) -> float:
    account, token = host.facts["account_sid"], host.facts["auth_token"]
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    url = f"{host.facts['base_url']}/2010-04-01/Accounts/{account}/Messages.json"
    passwords.add_password(None, url, account, token, is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
    with opener.open(url, timeout=10) as answer:
        return float(answer.headers["X-Trunkline-Replica-Lag-Ms"])


def text_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
        return str(answer.read().decode())


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
