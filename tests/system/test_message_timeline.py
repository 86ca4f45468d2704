"""`trunkline message`: what an operator is shown of a message, on a host that runs and on one that does not."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.system.machines import RECIPIENT, create, expect_told, request, trunkline
from tests.system.running import up, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

UNKNOWN = "SM" + "0" * 32


def shown(data: Path, sid: str) -> dict[str, Any]:
    printed = trunkline("message", sid, "--data", str(data), "--json")
    assert printed.returncode == 0, printed.stderr
    found: dict[str, Any] = json.loads(printed.stdout)
    return found


def test_every_step_of_a_message_is_shown_and_nothing_of_what_it_said(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with up(data) as host:
        url = host.facts["base_url"]
        sid, other = (create(host.facts, url, body) for body in ("private words", "another"))
        for each in (sid, other):
            expect_told(host.facts, url, each)

        whole = shown(data, sid)
        printed = trunkline("message", sid, "--data", str(data)).stdout
        refused = trunkline("message", UNKNOWN, "--data", str(data))
    alone = shown(data, sid)

    assert [each["what"] for each in whole["events"]] == ["original", "claim", "outcome", "receipt"]
    assert whole["unread"] == []
    assert (whole["status"], whole["copy"]["attempts"]) == ("delivered", 1)
    assert {each["host"] for each in whole["events"]} == {"host-1"}
    assert whole["events"][2]["facts"]["carrier_message_id"] == whole["copy"]["carrier_message_id"]
    assert sum(each["behind_s"] for each in whole["events"]) == pytest.approx(
        whole["events"][-1]["at"] - whole["events"][0]["at"], abs=0.001
    )
    assert "delivered" in printed
    assert "claim" in printed
    assert "private words" not in printed + json.dumps(whole)
    assert refused.returncode == 1
    assert "neither the copy" in refused.stderr
    assert (alone["status"], alone["events"]) == ("delivered", [])
    assert "did not answer" in alone["unread"][0]


def test_what_was_taken_out_of_the_answers_is_not_shown_here_either(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with up(data) as host:
        url = host.facts["base_url"]
        sid = create(host.facts, url, "private words")
        expect_told(host.facts, url, sid)
        request(host.facts, url, f"Messages/{sid}.json", {"Body": ""})
        wait_until(lambda: "redacted" in shown(data, sid)["copy"], "the copy to show it")

        found = shown(data, sid)

    assert found["events"][-1]["what"] == "redacted"
    assert "private words" not in json.dumps(found)


def test_of_a_deleted_message_neither_the_parties_nor_where_it_was_told_are_shown(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with up(data) as host:
        url = host.facts["base_url"]
        told_at = "http://user:pass@127.0.0.1:9/status"
        sid = create(host.facts, url, "private words", told_at=told_at)
        expect_told(host.facts, url, sid)
        kept = shown(data, sid)
        request(host.facts, url, f"Messages/{sid}.json", method="DELETE")
        wait_until(lambda: "deleted" in shown(data, sid)["copy"], "the copy to show it")

        whole = json.dumps(shown(data, sid))
        printed = trunkline("message", sid, "--data", str(data)).stdout

    assert kept["events"][0]["facts"]["status_callback"] == "http://***@127.0.0.1:9/status"
    assert kept["copy"]["to"] == RECIPIENT
    for secret in (RECIPIENT, host.facts["phone_number"], "127.0.0.1:9", "pass"):
        assert secret not in whole + printed


def test_what_is_no_sid_is_a_wrong_command_line(tmp_path: Path) -> None:
    refused = trunkline("message", "order-42", "--data", str(tmp_path))

    assert refused.returncode == 2
    assert "not the SID of a message" in refused.stderr
