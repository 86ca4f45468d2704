"""`trunkline run` as a process, without a cluster behind it: what it refuses, passes on and leaves."""

import contextlib
import http.server
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.running import end, wait_until

pytestmark = pytest.mark.system

ENDED_S = 20.0
NOBODY = "127.0.0.1:1"

CAREFUL = """
import signal, sys
def stop(number, frame):
    print("asked to end", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
signal.pause()
"""
LOOK = """
import os
for name in ("HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
    print(os.environ[name])
import customized
print("sitecustomize" in customized.seen)
"""


class Well(http.server.BaseHTTPRequestHandler):
    """A host, as far as anybody looks before the start."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@pytest.fixture(scope="module")
def hosts() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Well)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(timeout=ENDED_S)


def command(hosts: str, *argv: str) -> list[str]:
    return [sys.executable, "-m", "trunkline", "run", "--hosts", hosts, "--", *argv]


def led(
    hosts: str, *argv: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(hosts, *argv),
        env={**os.environ, **(environment or {})},  # noqa: TID251 - what it is started with
        capture_output=True,
        text=True,
        timeout=ENDED_S,
        check=False,
    )


def test_without_any_host_nothing_is_started(tmp_path: Path) -> None:
    done = led(NOBODY, "touch", str(tmp_path / "started"))

    assert done.returncode == 1
    assert "no host of the cluster answers" in done.stderr
    assert not (tmp_path / "started").exists()


def test_a_host_that_does_not_answer_is_named_once(hosts: str) -> None:
    done = led(f"{hosts},{NOBODY}", "true")

    assert done.returncode == 0
    assert done.stderr.count(f"http://{NOBODY} does not answer now") == 1


@pytest.mark.parametrize(
    ("argv", "why"),
    [(("no-such-program",), "there is no program"), (("sudo", "true"), "cannot be led here")],
)
def test_what_cannot_be_led_is_refused(
    hosts: str, tmp_path: Path, argv: tuple[str, ...], why: str
) -> None:
    (tmp_path / "sudo").write_text("#!/bin/sh\n")
    (tmp_path / "sudo").chmod(0o700)
    path = f"{tmp_path}:{os.defpath}"

    done = led(hosts, *argv, environment={"PATH": path})

    assert done.returncode == 1
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_signal_is_the_programs_and_its_end_is_ours(hosts: str, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(
            command(hosts, sys.executable, "-c", CAREFUL),
            stdin=subprocess.DEVNULL,
            stdout=output,
            start_new_session=True,
        )
    try:
        wait_until(lambda: b"ready" in said.read_bytes(), "the program to be ready")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=ENDED_S) == 3
    finally:
        end(process)

    assert said.read_text() == "ready\nasked to end\n"


def test_the_sitecustomize_behind_ours_runs_and_no_file_is_left(hosts: str, tmp_path: Path) -> None:
    (tmp_path / "customized.py").write_text("seen = []\n")
    (tmp_path / "sitecustomize.py").write_text("import customized; customized.seen += [__name__]\n")
    (tmp_path / "app.py").write_text(LOOK)
    inherited = os.environ.get("PYTHONPATH", "")  # noqa: TID251 - what it is started with
    environment = {"PYTHONPATH": f"{tmp_path}:{inherited}"}

    done = led(hosts, sys.executable, str(tmp_path / "app.py"), environment=environment)

    assert (done.returncode, done.stderr) == (0, "")
    proxy, *files, is_chained = done.stdout.split()
    assert proxy.startswith("http://127.0.0.1:")
    assert is_chained == "True"
    assert len(files) == 3
    assert [path for path in files if Path(path).exists()] == []
    assert not Path(files[0]).parent.exists()


def test_a_program_that_ends_by_ctrl_c_ends_us_with_it(hosts: str) -> None:
    process = subprocess.Popen(
        command(
            hosts, sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=ENDED_S) in (1, 128 + signal.SIGINT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            end(process)
        process.communicate()
