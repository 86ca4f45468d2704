"""An unmodified program under `trunkline run`, while one of three hosts is killed: nobody notices."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.system import running
from tests.system.machines import (
    BACK_S,
    RECIPIENT,
    Facts,
    expect_delivered_once,
    is_ready,
    kill_host,
    request,
)
from tests.system.running import end, wait_until

pytestmark = [
    pytest.mark.several,
    pytest.mark.system,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="each host has a loopback address"),
]

CREATES: Final = 300
BEFORE_THE_KILL: Final = 60
DONE_S: Final = 150.0

PROGRAM: Final = """
import json, sys, time
from twilio.rest import Client
client = Client()
for turn in range(int(sys.argv[3])):
    began = time.monotonic()
    try:
        made = client.messages.create(to=sys.argv[1], from_=sys.argv[2], body=f"run {turn}")
        said = {"sid": made.sid}
    except Exception as error:
        said = {"error": repr(error)}
    print(json.dumps({**said, "took_s": time.monotonic() - began}), flush=True)
"""


def test_a_program_sees_no_failure_while_a_host_is_killed_and_nothing_is_doubled(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)
    said = tmp_path / "said"
    with running.up(tmp_path / "data", "--hosts", "3") as up:
        facts, hosts = up.facts, up.facts["hosts"]
        arguments = [str(tmp_path / "app.py"), RECIPIENT, facts["phone_number"], str(CREATES)]
        with said.open("wb") as output:
            program = subprocess.Popen(
                [
                    sys.executable, "-m", "trunkline", "run", "--data", str(tmp_path / "data"),
                    "--hosts", ",".join(host["base_url"] for host in hosts),
                    "--", sys.executable, *arguments,
                ],
                env={**os.environ},  # noqa: TID251 - what it is started with
                stdout=output,
            )  # fmt: skip
        try:
            wait_until(
                lambda: len(said.read_bytes().splitlines()) >= BEFORE_THE_KILL,
                "the first creates",
                within_s=DONE_S,
            )
            kill_host(hosts[0]["pid"])
            assert program.wait(timeout=DONE_S) == 0
        finally:
            end(program)

        lines = [json.loads(line) for line in said.read_text().splitlines()]
        sys.stderr.write(f"the slowest took {max(line['took_s'] for line in lines):.2f} s\n")
        assert [line for line in lines if "error" in line] == []
        assert len({line["sid"] for line in lines}) == CREATES
        bodies = [f"run {turn}" for turn in range(CREATES)]
        wait_until(lambda: is_ready(hosts[0]["base_url"]), "the host to be back", within_s=BACK_S)
        expect_one_message_each(facts, hosts[0]["base_url"], bodies)
        expect_delivered_once(facts, bodies)


def expect_one_message_each(facts: Facts, base_url: str, bodies: list[str]) -> None:
    """The API lists a message for each body, and no second one."""

    def listed() -> list[str]:
        page = request(facts, base_url, "Messages.json?PageSize=1000")
        return sorted(message["body"] for message in page["messages"])

    wait_until(lambda: len(listed()) >= len(bodies), "the copy to have all", within_s=BACK_S)
    assert listed() == sorted(bodies)
