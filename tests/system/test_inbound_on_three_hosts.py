"""An inbound message in a cluster whose talking host dies between two verbs of its conversation."""

import queue
import sys
import threading
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from tests.system import running
from tests.system.machines import BACK_S, Facts, is_ready, kill_host, request
from tests.system.running import descendants, get_json, post_json, wait_until
from tests.system.test_media import process_at
from twilio.twiml.messaging_response import MessagingResponse

pytestmark = [
    pytest.mark.system,
    pytest.mark.several,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="each host has a loopback address"),
]

HANDSET: Final = "+12025550144"
NUMBER: Final = "+12025550101"
SAID_S: Final = 90.0
WANTED: Final = ["one: hi", "two: hi", "three: hi"]


class Application:
    """Answers with two replies, an action and a redirect. `asked` is given the client's port of each
    request for the action; while `may_answer` is clear, those wait."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: queue.Queue[int] = queue.Queue()
        self.told: queue.Queue[tuple[str, str, str]] = queue.Queue()
        self.may_answer = threading.Event()

    def document(self, path: str, text: str) -> str:
        document = MessagingResponse()
        match path:
            case "/sms":
                document.message(f"one: {text}")
                document.message(f"two: {text}", action="/then", method="GET")
                document.message("never")
            case "/then":
                document.redirect("/last")
            case _:
                document.message(f"three: {text}")
        return str(document)


@contextmanager
def application() -> Iterator[Application]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.put(self.client_address[1])
            made.may_answer.wait(SAID_S)
            self.answer(urllib.parse.urlsplit(self.path).query)

        def do_POST(self) -> None:
            self.answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def answer(self, said: str) -> None:
            form = dict(urllib.parse.parse_qsl(said, keep_blank_values=True))
            path = urllib.parse.urlsplit(self.path).path
            if form["SmsStatus"] in {"received", "sending"} and "Body" in form:
                token = self.headers["I-Twilio-Idempotency-Token"]
                made.told.put((path, token, form["MessageSid"]))
            body = made.document(path, form.get("Body", "")).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # a host that died
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made = Application(f"http://127.0.0.1:{server.server_address[1]}")
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield made
        finally:
            made.may_answer.set()
            server.shutdown()
            serving.join()


def on_handset(facts: Facts) -> list[str]:
    found = get_json(f"{facts['simulator_url']}/v1/handsets/{HANDSET}/messages")
    return [message["body"] for message in found if message["from"] == NUMBER]


def told(app: Application) -> list[tuple[str, str, str]]:
    with app.told.mutex:
        return list(app.told.queue)


def test_a_conversation_goes_on_elsewhere_and_every_reply_is_sent_once(tmp_path: Path) -> None:
    with application() as app, running.up(tmp_path / "data", "--hosts", "3") as up:
        facts, hosts = up.facts, up.facts["hosts"]
        pids = [host["pid"] for host in hosts]
        form = {"PhoneNumber": NUMBER, "SmsUrl": f"{app.url}/sms"}
        request(facts, hosts[0]["base_url"], "IncomingPhoneNumbers.json", form)
        url = f"{facts['simulator_url']}/v1/handsets/{HANDSET}/messages"
        post_json(url, {"to": NUMBER, "body": "hi"})

        # Two replies are accepted, and the host that talks dies before the action has answered.
        talking = process_at(app.asked.get(timeout=SAID_S), [*pids, *descendants(up.pid)])
        host = next(n for n, pid in enumerate(pids) if talking in {pid, *descendants(pid)})
        kill_host(pids[host])
        app.may_answer.set()

        wait_until(
            lambda: set(on_handset(facts)) >= set(WANTED), "all the replies", within_s=SAID_S
        )
        # The host that comes back doubles nothing either. Whoever goes on has the conversation from its beginning, with the same tokens and SIDs.
        wait_until(
            lambda: Counter(path for path, _, _ in told(app))["/last"] >= 1, "it to be had again"
        )
        wait_until(
            lambda: is_ready(hosts[host]["base_url"]), "the host to serve again", within_s=BACK_S
        )
        assert Counter(on_handset(facts)) == Counter(WANTED)
        heard = told(app)
        assert Counter(path for path, _, _ in heard)["/sms"] >= 2
        assert len({(token, sid) for _, token, sid in heard}) == 3
        assert up.stop() == 0
