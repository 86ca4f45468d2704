"""The official Node SDK, unchanged but for where it points, over every operation that is implemented."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.sdk.walking import NAMED, as_json, calls
from tests.system.running import Running

from trunkline.api import catalogue
from trunkline.api.resources import RESOURCES

pytestmark = [pytest.mark.system, pytest.mark.peer, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "build" / "node-sdk" / "node_modules"
WALK = Path(__file__).parent / "node" / "walk.js"
WALK_MAX_S = 90.0


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("there is no Node: make peers, then make node-sdk")
    if not (MODULES / "twilio").is_dir():
        pytest.skip(f"the Node SDK is not in {MODULES}: make node-sdk")
    return found


@pytest.fixture(scope="module")
def host(node: str, host: Running) -> Running:
    """None is started where there is no Node."""
    del node
    return host


def test_every_operation_answers_the_node_sdk(host: Running, node: str) -> None:
    told = {
        **{name: host.facts[name] for name in ("account_sid", "auth_token", "base_url")},
        "known": NAMED,
        "calls": json.loads(as_json(calls(catalogue.load(), host.facts))),
    }

    walked = subprocess.run(
        [node, str(WALK)],
        input=json.dumps(told),
        env={**os.environ, "NODE_PATH": str(MODULES)},  # noqa: TID251 - what it is started with
        capture_output=True,
        text=True,
        timeout=WALK_MAX_S,
        check=False,
    )

    assert walked.returncode == 0, walked.stderr
    lines = [json.loads(line) for line in walked.stdout.splitlines()]
    assert [line for line in lines if "error" in line] == [], "see tests/sdk/arguments.json"
    assert {line["operation"] for line in lines} == RESOURCES.keys()
