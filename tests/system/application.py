"""A customer's application on loopback, which keeps what it is told and says yes to all of it."""

import threading
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

HEARD_BYTES_MAX: Final = 1 << 20


class Application:
    """`told` counts each status of each message, as (SID, status); repeats of one token count once,
    because an application is expected to know them again."""

    def __init__(self, url: str) -> None:
        self.url: Final = url
        self._heard: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()

    def hear(self, token: str, form: dict[str, str]) -> None:
        with self._lock:
            self._heard[token] = (form["MessageSid"], form["MessageStatus"])

    @property
    def told(self) -> Counter[tuple[str, str]]:
        with self._lock:
            return Counter(self._heard.values())


@contextmanager
def application() -> Iterator[Application]:
    """Serves until the end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name is the base class's
            length = min(int(self.headers["Content-Length"]), HEARD_BYTES_MAX)
            form = urllib.parse.parse_qsl(self.rfile.read(length).decode(), keep_blank_values=True)
            made.hear(self.headers["I-Twilio-Idempotency-Token"], dict(form))
            self.send_response(204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Not among the output of tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made = Application(f"http://127.0.0.1:{server.server_address[1]}/told")
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield made
        finally:
            server.shutdown()
            serving.join()
