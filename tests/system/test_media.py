"""Media in a cluster: fetched again by another host where one dies, and given out by every host."""

import functools
import queue
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from tests.system import running
from tests.system.machines import BACK_S, Facts, is_ready, kill_host, request
from tests.system.running import descendants, get_json, post_json, wait_until

from trunkline.blobs.store import name_of

pytestmark = [
    pytest.mark.system,
    pytest.mark.several,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="each host has a loopback address"),
]

HANDSET: Final = "+12025550144"
PICTURE: Final = b"\x89PNG\r\n\x1a\n" + b"a picture of a cat" * 1000
SAID_S: Final = 60.0


class Pictures:
    """A web server with one picture. `asked` is given the client's port of each request; while
    `may_answer` is clear, requests wait."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: queue.Queue[int] = queue.Queue()
        self.told: queue.Queue[dict[str, str]] = queue.Queue()
        self.may_answer = threading.Event()


@contextmanager
def pictures() -> Iterator[Pictures]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.put(self.client_address[1])
            made.may_answer.wait(SAID_S)
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(PICTURE)))
            self.end_headers()
            self.wfile.write(PICTURE)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            made.told.put(dict(urllib.parse.parse_qsl(body, keep_blank_values=True)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that died
        made = Pictures(f"http://127.0.0.1:{server.server_address[1]}")
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield made
        finally:
            made.may_answer.set()
            server.shutdown()
            serving.join()


def process_at(port: int, pids: list[int]) -> int:
    """Which of the processes has a connection that begins at this port."""
    for pid in pids:
        mine = {
            link.readlink().name.removeprefix("socket:[").removesuffix("]")
            for link in Path(f"/proc/{pid}/fd").iterdir()
            if link.is_symlink()
        }
        for line in Path(f"/proc/{pid}/net/tcp").read_text("ascii").splitlines()[1:]:
            words = line.split()
            if int(words[1].rpartition(":")[2], 16) == port and words[9] in mine:
                return pid
    raise AssertionError(f"none of {pids} has a connection from port {port}")


def on_handset(facts: Facts, body: str) -> list[Facts]:
    found = get_json(f"{facts['simulator_url']}/v1/handsets/{HANDSET}/messages")
    return [message for message in found if message["body"] == body]


def bytes_at(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - our own server
        return bytes(answer.read())


def ask_as_host(method: str, url: str) -> None:
    """As whoever does not know the cluster's secret."""
    body = PICTURE if method == "PUT" else None
    asked = urllib.request.Request(url, data=body, method=method)  # noqa: S310 - our own server
    urllib.request.urlopen(asked, timeout=10)  # noqa: S310 - our own server


def blobs(hosts: list[Facts]) -> list[Path | None]:
    """Where each host has the picture."""
    name = name_of(PICTURE)
    return [next(iter((Path(host["data"]) / "blobs").glob(f"*/{name}")), None) for host in hosts]


def send(facts: Facts, base_url: str, body: str, url: str) -> str:
    form = {"To": HANDSET, "From": facts["phone_number"], "Body": body, "MediaUrl": url}
    return str(request(facts, base_url, "Messages.json", form)["sid"])


def test_a_picture_survives_the_host_that_fetched_it_and_is_given_out_by_every_host(
    tmp_path: Path,
) -> None:
    with pictures() as web, running.up(tmp_path / "data", "--hosts", "3") as up:
        facts, hosts = up.facts, up.facts["hosts"]
        urls = [host["base_url"] for host in hosts]
        pids = [host["pid"] for host in hosts]

        # The host that fetches dies in the middle of it; another one fetches, and sends once.
        sid = send(facts, urls[0], "look", f"{web.url}/cat.png")
        fetching = process_at(web.asked.get(timeout=SAID_S), [*pids, *descendants(up.pid)])
        host = next(n for n, pid in enumerate(pids) if fetching in {pid, *descendants(pid)})
        kill_host(pids[host])
        web.may_answer.set()
        wait_until(lambda: on_handset(facts, "look"), "the picture to arrive", within_s=SAID_S)
        wait_until(lambda: is_ready(urls[host]), "the host to serve again", within_s=BACK_S)
        assert web.asked.get(timeout=SAID_S), "another host fetches"
        (arrived,) = on_handset(facts, "look")
        assert bytes_at(facts["simulator_url"] + arrived["media"][0]["url"]) == PICTURE
        assert sum(path is not None for path in blobs(hosts)) >= 2

        # Every host lists it and gives it out, also one that has lost it.
        for path in blobs(hosts)[1:]:
            if path is not None:
                path.unlink()
                break
        place = f"/2010-04-01/Accounts/{facts['account_sid']}/Messages/{sid}/Media"
        for url in urls:
            listed = functools.partial(media_list, facts, url, sid)
            wait_until(listed, f"{url} to list it", within_s=SAID_S)
            (media,) = media_list(facts, url, sid)
            assert bytes_at(f"{url}{place}/{media['sid']}") == PICTURE
        assert all(blobs(hosts))

        # Only a host of the cluster may ask for blobs, or bring some.
        for method in ("GET", "PUT"):
            with pytest.raises(urllib.error.HTTPError) as refusal:
                ask_as_host(method, f"{urls[0]}/internal/blob/{name_of(PICTURE)}")
            with refusal.value as refused:
                assert refused.code == 401
        assert up.stop() == 0


def media_list(facts: Facts, base_url: str, sid: str) -> list[Facts]:
    """What a host lists; nothing while it cannot say."""
    try:
        return list(request(facts, base_url, f"Messages/{sid}/Media.json")["media_list"])
    except urllib.error.HTTPError as refused:
        refused.close()
    except OSError:
        pass
    return []


def test_a_picture_from_a_handset_is_given_to_the_application_by_every_host(
    tmp_path: Path,
) -> None:
    with pictures() as web, running.up(tmp_path / "data", "--hosts", "3") as up:
        facts = up.facts
        web.may_answer.set()
        form = {"PhoneNumber": "+12025550145", "SmsUrl": f"{web.url}/sms"}
        request(facts, facts["base_url"], "IncomingPhoneNumbers.json", form)
        inbox = f"{facts['simulator_url']}/v1/handsets/{HANDSET}/messages"
        sending = {"to": "+12025550145", "body": "see", "media_urls": [f"{web.url}/cat.png"]}
        post_json(inbox, sending)

        told = web.told.get(timeout=SAID_S)

        assert (told["NumMedia"], told["MediaContentType0"]) == ("1", "image/png")
        assert bytes_at(told["MediaUrl0"]) == PICTURE
        place = urllib.parse.urlsplit(told["MediaUrl0"]).path
        for host in facts["hosts"]:
            url = f"{host['base_url']}{place}"
            wait_until(functools.partial(is_there, url), f"{url} to be there", within_s=SAID_S)
            assert bytes_at(url) == PICTURE
        assert up.stop() == 0


def is_there(url: str) -> bool:
    try:
        return bool(bytes_at(url))
    except urllib.error.HTTPError as refused:
        refused.close()
        return False
