"""The customer's side of a host: a web server with an application on it, and the handsets it writes to."""

import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from tests.system.running import Running, get_json, post_json
from twilio.request_validator import RequestValidator
from twilio.twiml.messaging_response import MessagingResponse

HANDSET = "+12025550123"
TOLD_MAX_S = 20.0


class WebServer:
    """A web server on a port of its own, which keeps what it is told."""

    def __init__(self) -> None:
        self.told: queue.Queue[dict[str, str]] = queue.Queue()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.give(self)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                server.answer(self, dict(parse_qsl(body, keep_blank_values=True)))

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def give(self, request: BaseHTTPRequestHandler) -> None:
        """Nothing is here to be fetched."""
        request.send_error(404)

    def answer(self, request: BaseHTTPRequestHandler, params: dict[str, str]) -> None:
        """Taken note of."""
        self.told.put(params)
        request.send_response(204)
        request.end_headers()

    def next(self) -> dict[str, str]:
        return self.told.get(timeout=TOLD_MAX_S)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=TOLD_MAX_S)


class Application(WebServer):
    """Checks signatures, and says what to do."""

    def __init__(self, auth_token: str) -> None:
        self._validator = RequestValidator(auth_token)
        super().__init__()

    def answer(self, request: BaseHTTPRequestHandler, params: dict[str, str]) -> None:
        signature = request.headers["X-Twilio-Signature"]
        is_ours = self._validator.validate(self.url + request.path, params, signature)
        token = request.headers["I-Twilio-Idempotency-Token"]
        self.told.put({**params, "path": request.path, "signed": str(is_ours), "token": token})
        reply = MessagingResponse()
        match request.path:
            case "/sms":
                reply.message(f"you said {params['Body']}")
            case "/talk":
                reply.message("one", action="/then", status_callback="/status")
                reply.message("never")
            case "/then":
                reply.redirect("/last", method="POST")
            case "/last":
                halves = reply.message()
                halves.body("two")
                halves.body(" and a half")
            case _:
                pass
        document = str(reply).encode()
        request.send_response(200)
        request.send_header("Content-Type", "text/xml")
        request.send_header("Content-Length", str(len(document)))
        request.end_headers()
        request.wfile.write(document)


def on_handset(host: Running, handset: str, body: str | None = None) -> list[dict[str, Any]]:
    """What arrived there, oldest first: all, or what says `body`."""
    arrived = get_json(f"{host.facts['simulator_url']}/v1/handsets/{handset}/messages")
    return [message for message in arrived if body is None or message["body"] == body]


def text_from(host: Running, handset: str, *, body: str, to: str = "") -> None:
    """A message to `to`, or to the host's first number."""
    url = f"{host.facts['simulator_url']}/v1/handsets/{handset}/messages"
    post_json(url, {"to": to or host.facts["phone_number"], "body": body})
