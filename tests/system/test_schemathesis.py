"""schemathesis over our own `/openapi.json`: all 197 operations, on a real host, from a fixed seed.

A failure that the document does not have for an operation is one of status; 501 and 503 it has.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.system.running import up

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

EXAMPLES_MAX: Final = 5
"""For each operation and phase: some 4,800 requests in all, in twenty seconds."""
TAKES_MAX_S: Final = 120
CHECKS: Final = "response_schema_conformance,content_type_conformance,status_code_conformance"


def test_no_answer_is_one_that_our_document_does_not_have(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("st")
    with up(tmp_path / "data") as running:
        facts = running.facts
        config = tmp_path / "schemathesis.toml"
        config.write_text(f'[parameters]\n"path.AccountSid" = "{facts["account_sid"]}"\n')
        arguments: list[str | Path] = [
            *(program, "--config-file", config, "run", f"{facts['base_url']}/openapi.json"),
            *("--auth", f"{facts['account_sid']}:{facts['auth_token']}"),
            *("--checks", CHECKS, "--phases", "coverage,fuzzing", "--warnings", "off"),
            *("--max-examples", str(EXAMPLES_MAX), "--seed", "1", "--no-color"),
        ]
        ran = subprocess.run(
            arguments,
            check=False,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TAKES_MAX_S,
        )

    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-1000:]
    assert "Tested: 197" in ran.stdout
