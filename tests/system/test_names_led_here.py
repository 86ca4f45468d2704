"""The ways that need a name and port 443: `api.twilio.com` led here, and an edge of one's own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.peer, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).with_name("names_led_here.py")
NODE_MODULES = ROOT / "build" / "node-sdk" / "node_modules"
CLI = ROOT / "build" / "twilio-cli" / "node_modules" / ".bin" / "twilio"
NAMESPACES = ("unshare", "--map-root-user", "--mount", "--net")
RUN_MAX_S = 170.0


def can_have_namespaces() -> bool:
    if any(shutil.which(name) is None for name in ("unshare", "ip", "openssl")):
        return False
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, timeout=10, check=False)
    return tried.returncode == 0


def test_programs_ask_us_by_twilios_name_and_by_an_edge_of_our_own(tmp_path: Path) -> None:
    if not can_have_namespaces():
        pytest.skip("this user can make no network namespace, or iproute2 is missing: make peers")
    node = shutil.which("node") or ""
    has_sdk, has_cli = (
        bool(node) and (NODE_MODULES / "twilio").is_dir(),
        bool(node) and CLI.exists(),
    )

    done = subprocess.run(
        [*NAMESPACES, sys.executable, str(INSIDE), str(tmp_path), *_named(node, has_sdk, has_cli)],
        env={
            **os.environ,  # noqa: TID251 - what it is started with
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "NODE_PATH": str(NODE_MODULES),
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=RUN_MAX_S,
        check=True,
    )

    said = json.loads(done.stdout.splitlines()[-1])
    assert len(said) == 4 + 2 * has_sdk + has_cli
    assert {each: text for each, text in said.items() if not text.startswith("SM")} == {}


def _named(node: str, has_sdk: bool, has_cli: bool) -> tuple[str, str]:
    return node if has_sdk else "", str(CLI) if has_cli else ""
