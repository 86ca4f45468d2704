"""Our signatures before the validators that customers run: the Node library's, and django-twilio's.

They must believe every request of ours, as it was sent and as it is seen, and none that was changed.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.webhooks.signature_vectors import TOKEN, vectors

pytestmark = [pytest.mark.system, pytest.mark.peer]

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "build" / "node-sdk" / "node_modules"
VALIDATE = ROOT / "tests" / "sdk" / "node" / "validate.js"
DJANGO = Path(__file__).parent / "django_receiver.py"
VALIDATE_MAX_S = 60.0
REWRITTEN = re.compile(r"/\.\./|[^:]//")
"""Paths that Django changes before anybody can check a signature over them."""

VECTORS = vectors()


def test_the_node_library_believes_what_we_sign_and_nothing_else() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node: make peers, then make node-sdk")
    if not (MODULES / "twilio").is_dir():
        pytest.skip(f"the Node SDK is not in {MODULES}: make node-sdk")
    told = {"token": TOKEN, "vectors": [vector.as_json() for vector in VECTORS]}

    verdicts = json.loads(run([node, str(VALIDATE)], told, NODE_PATH=str(MODULES)))

    wanted = {"sent": True, "seen": True, "otherUrl": False, "otherForm": False}
    wanted |= {"otherBody": False, "otherToken": False}
    wrong = []
    for vector, verdict in zip(VECTORS, verdicts, strict=True):
        # What is no form has none to be changed.
        expected = {**wanted, "otherForm": vector.body is not None}
        wrong += [] if verdict == expected else [(str(vector), verdict)]
    assert wrong == []


def test_django_twilio_believes_what_we_post_and_nothing_else() -> None:
    if importlib.util.find_spec("django_twilio") is None:
        pytest.skip("there is no django-twilio: install it, and Django, beside the SDK")
    posted = [
        each
        for each in VECTORS
        if each.form and each.method == "POST" and not REWRITTEN.search(each.seen)
    ]
    told = {"token": TOKEN, "vectors": [vector.as_json() for vector in posted]}

    verdicts = json.loads(run([sys.executable, str(DJANGO)], told))

    wrong = [
        (str(vector), verdict)
        for vector, verdict in zip(posted, verdicts, strict=True)
        if verdict != {"seen": 200, "otherForm": 403}
    ]
    assert wrong == []


def run(command: list[str], told: object, **environment: str) -> str:
    done = subprocess.run(
        command,
        input=json.dumps(told),
        env={**os.environ, **environment},  # noqa: TID251 - what it is started with
        capture_output=True,
        text=True,
        timeout=VALIDATE_MAX_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
