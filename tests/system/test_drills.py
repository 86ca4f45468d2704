"""A drill from the command line, on a real host: it hurts it, counts, and says so in JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.timeout(120)]

DRILL_MAX_S = 100.0
RATE_PER_S = 20


def run_drill(*arguments: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "trunkline", "drill", *arguments, "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
        timeout=DRILL_MAX_S,
    )
    result: dict[str, object] = json.loads(done.stdout)
    return done.returncode, result


def test_a_host_whose_log_server_is_killed_keeps_every_promise(tmp_path: Path) -> None:
    keep = tmp_path / "drill"
    code, result = run_drill(
        "kill-log-server", "--hosts", "1", "--seed", "1", "--rate", str(RATE_PER_S),
        "--keep", str(keep),
    )  # fmt: skip

    assert (code, result["verdict"]) == (0, "pass"), result["invariants"]
    accepted = result["accepted"]
    assert isinstance(accepted, int)
    assert accepted >= RATE_PER_S
    assert (result["lost"], result["doubled"]) == (0, 0)
    for name in ("client", "carrier", "handsets", "webhooks"):
        assert (keep / f"{name}.jsonl").read_bytes().count(b"\n") >= accepted, name


def test_a_drill_that_cannot_be_run_says_so_and_is_no_pass() -> None:
    code, result = run_drill("lose-disk", "--hosts", "1")

    assert (code, result["verdict"]) == (2, "not-run")
    assert result["reason"] == "it needs 3 hosts"
