"""Every crash point: a host dies there, and what was accepted adds up, counted from outside.

The points are read from the table, so a new one is walked without a line here, and one that nothing
passes fails. Each has a host and a phone network of its own; a few are walked at once, because most
of a walk is waiting for what the dead process had in hand.
"""

import base64
import contextlib
import http.client
import json
import shutil
import socket
import threading
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from tests.system.running import Running, get_json, post_json, put_json, up, wait_until

from trunkline.host.retain import HASTENED_BY
from trunkline.host.setting_kinds import SERVICES
from trunkline.kernel import SystemClock
from trunkline.kernel.crash import CrashPoint, mark_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

WALKED_AT_ONCE = 4
CARRIED_MAX = 4  # an account and its numbers
CLOCK = SystemClock()
MESSAGES = 20
TEXTS = 4
WINDOW = 10
HANDSET = "+12025550123"
NUMBER = "+12025550101"
STEPS = ["sending", "sent", "delivered"]
PASSING = 2
"""The second time: with others before, behind and beside it."""
PASSING_LAST = {
    CrashPoint.WEBHOOK_BEFORE_TELLING: MESSAGES * len(STEPS),
    # Each pass purges twelve shards: in the fifth one, messages of this walk.
    CrashPoint.PURGE_BEFORE: 12 * 4 + 6,
    CrashPoint.PURGE_AFTER: 12 * 4 + 6,
}
"""The last time, where something that comes later would cover up for what is lost before."""

CREATE_TIMEOUT_S = 5.0
RECEIPT_DELAY_MS = 6000
"""Behind the second attempt: a receipt that came earlier would make it needless."""
SETTLE_MAX_S = 40.0


SENT_OR_NOT = frozenset(
    {CrashPoint.CLAIM_AFTER, CrashPoint.HAND_OVER_BEFORE, CrashPoint.ANSWER_BEFORE_OUTCOME}
)
"""Where nobody can know whether the message left."""

DELIVERY_OPEN = (
    CrashPoint.CLAIM_AFTER,
    CrashPoint.WEBHOOK_BEFORE_TELLING,
    CrashPoint.DOCUMENT_BEFORE_REPLY,
)
"""One of each service, in the middle of its work. If it had answered the log before, that would lose
something, but only while the engine lives: one that dies too forgets the answer."""


class Shape(StrEnum):
    """Who dies. The value is `host.processes`."""

    WITH_THE_ENGINE = "api,projector,dispatch,receipts,webhooks,inbound"
    WORKERS_ALONE = "api;projector,dispatch,receipts,webhooks,inbound"

    @property
    def ready_file(self) -> str:
        """Of the process that dies."""
        workers = self.partition(";")[2].replace(",", "-")
        return f"{workers or 'host'}.ready"


FOR_LATER = frozenset({CrashPoint.TIMER_BEFORE_ACK, CrashPoint.DUE_BEFORE_HANDING_BACK})
"""What only messages pass that are to be sent later."""

LATER_S = 16.0
"""Beyond what is near enough to be held without a timer, also after the host has come back."""

ANSWERS = {
    "/sms": (
        "<Message>you said {text}</Message>"
        "<Message action='/then'>and: {text}</Message><Message>never</Message>"
    ),
    "/then": "<Redirect>/last</Redirect>",
    "/last": "<Message>in the end: {text}</Message>",
}
"""Two replies, an action, a redirect and another reply: each text is answered three times."""

Case = tuple[CrashPoint, Shape]
CASES: list[Case] = [
    *((point, Shape.WITH_THE_ENGINE) for point in CrashPoint),
    *((point, Shape.WORKERS_ALONE) for point in DELIVERY_OPEN),
]


def name_of(case: Case) -> str:
    point, shape = case
    return f"{point}-{shape.name.lower().replace('_', '-')}"


@dataclass(frozen=True)
class Told:
    """One request to the application."""

    path: str
    sid: str
    status: str
    text: str
    token: str


class Application:
    """The customer's side: writes down what it is told, and answers texts."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        application = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                application.answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers["Content-Length"])
        body = request.rfile.read(length)
        if len(body) < length:
            return  # its sender died meanwhile
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        told = Told(
            request.path,
            form["MessageSid"],
            form["SmsStatus"],
            form.get("Body", ""),
            request.headers["I-Twilio-Idempotency-Token"],
        )
        self.told.append(told)
        said = ANSWERS.get(told.path, "").format(text=told.text)
        document = f"<Response>{said}</Response>".encode()
        request.send_response(200)
        request.send_header("Content-Type", "text/xml")
        request.send_header("Content-Length", str(len(document)))
        request.end_headers()
        with contextlib.suppress(ConnectionError):
            request.wfile.write(document)

    def callbacks(self, sid: str) -> list[Told]:
        return [each for each in list(self.told) if each.path == "/status" and each.sid == sid]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=CREATE_TIMEOUT_S)


@dataclass(frozen=True)
class Walk:
    """What was seen from outside of one host that died at one point."""

    died: int
    successor: int
    sids: Mapping[str, set[str]]
    """By body: every SID that the create of it, and its repeats, were answered with."""
    send_at: float
    """Before which none of them may leave."""
    texts: tuple[str, ...]
    arrived: list[dict[str, Any]]
    told: list[Told]


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    application = Application()
    yield application
    application.close()


@pytest.fixture(scope="module")
def walks(
    request: pytest.FixtureRequest,
    application: Application,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[Case, Future[Walk]]]:
    """The walks of the cases that were asked for, under way."""
    folder = tmp_path_factory.mktemp("crash-points")
    born = folder / "born"
    with up(born) as host:
        sms_url = f"{application.url}/sms"
        assert post(host, "IncomingPhoneNumbers", {"PhoneNumber": NUMBER, "SmsUrl": sms_url})
    asked_for = "\n".join(item.nodeid for item in request.session.items)
    chosen = [case for case in CASES if f"[{name_of(case)}]" in asked_for]
    with ThreadPoolExecutor(max_workers=WALKED_AT_ONCE) as threads:
        yield {
            case: threads.submit(walk, *case, born, folder / name_of(case), application)
            for case in chosen
        }
        threads.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_what_dies_there_loses_nothing_and_doubles_nothing_in_silence(
    case: Case, walks: Mapping[Case, Future[Walk]]
) -> None:
    seen = walks[case].result()

    assert seen.died != seen.successor
    assert_one_message_for_each_key(seen)
    assert_kept_and_not_doubled_in_silence(seen)
    assert_told_in_order(seen)
    assert_every_text_is_one_inbound_message(seen)


def assert_one_message_for_each_key(seen: Walk) -> None:
    assert len(seen.sids) == MESSAGES
    assert {body: sids for body, sids in seen.sids.items() if len(sids) != 1} == {}
    assert len(set.union(*seen.sids.values())) == MESSAGES


def assert_kept_and_not_doubled_in_silence(seen: Walk) -> None:
    wanted = {*seen.sids, *replies_to(seen.texts)}
    assert {each["body"] for each in seen.arrived} == wanted
    silent = Counter(each["body"] for each in seen.arrived if not each["possible_duplicate"])
    assert {body: copies for body, copies in silent.items() if copies > 1} == {}
    assert (
        min(float(each["at"]) for each in seen.arrived if each["body"] in seen.sids) > seen.send_at
    )
    flagged = [each for each in seen.arrived if each["possible_duplicate"]]
    assert len(flagged) <= WINDOW, "more are ambiguous than the window allows"


def assert_told_in_order(seen: Walk) -> None:
    for (sid,) in seen.sids.values():
        tokens: dict[str, set[str]] = defaultdict(set)
        for each in seen.told:
            if each.path == "/status" and each.sid == sid:
                tokens[each.status].add(each.token)
        assert list(tokens) == STEPS
        assert len(set.union(*tokens.values())) == len(STEPS), "a repeat has a token of its own"


def assert_every_text_is_one_inbound_message(seen: Walk) -> None:
    asked = {(each.text, each.sid) for each in seen.told if each.path == "/sms"}
    assert sorted(text for text, _ in asked if text in seen.texts) == sorted(seen.texts)


def walk(point: CrashPoint, shape: Shape, born: Path, data: Path, application: Application) -> Walk:
    """Traffic on a host of which something dies at `point`, until nothing is in hand anywhere."""
    shutil.copytree(born, data, ignore=shutil.ignore_patterns("run"))
    monitor = f"127.0.0.1:{free_port()}"
    settings = {
        "TRUNKLINE_CRASH_AT": f"{point}:{PASSING_LAST.get(point, PASSING)}",
        "TRUNKLINE_CARRIER_ON_AMBIGUOUS": "resend",
        "TRUNKLINE_CARRIER_WINDOW": str(WINDOW),
        "TRUNKLINE_LOG_MONITOR_HTTP": monitor,
        "TRUNKLINE_HOST_PROCESSES": shape,
        "TRUNKLINE_MESSAGES_SEND_AT_MIN_S": "0",
    }
    ready = data / "run" / shape.ready_file
    with up(data, settings=settings) as host:
        first = pid_in(ready)
        if point in SENT_OR_NOT:
            behaviour = {"receipt_delay_ms": RECEIPT_DELAY_MS}
            put_json(f"{host.facts['simulator_url']}/v1/behaviour", behaviour)
        texts = tuple(f"{data.name}-text-{number}" for number in range(TEXTS))
        for text in texts:
            url = f"{host.facts['simulator_url']}/v1/handsets/{HANDSET}/messages"
            post_json(url, {"to": NUMBER, "body": text})
        sids: Mapping[str, set[str]] = defaultdict(set)
        send_at = CLOCK.wall() + LATER_S if point in FOR_LATER else 0.0
        create_all(host, data.name, application, sids, send_at)

        mark = mark_of(data / "run", point)
        wait_until(mark.exists, f"something to pass {point}", within_s=SETTLE_MAX_S)
        wait_until(lambda: pid_in(ready) not in (0, first), "another process in its place")
        wanted = {*sids, *replies_to(texts)}
        accepted = set.union(*sids.values())
        wait_until(
            lambda: (
                wanted <= {each["body"] for each in arrived(host)}
                and all(is_told_all(application, sid) for sid in accepted)
                and is_nothing_in_hand(host, monitor)
            ),
            f"everything to settle after {point}",
            within_s=SETTLE_MAX_S,
        )
        if point in HASTENED_BY:
            # Whoever took over trims on; repeats of the keys are then answered from the copy alone.
            wait_until(lambda: is_trimmed(monitor), "the log to be trimmed", within_s=SETTLE_MAX_S)
        create_all(host, data.name, application, sids, send_at)
        assert int(mark.read_text()) == first
        return Walk(
            died=first,
            successor=pid_in(ready),
            sids=sids,
            send_at=float(int(send_at)),
            texts=texts,
            arrived=arrived(host),
            told=list(application.told),
        )


def create_all(
    host: Running,
    name: str,
    application: Application,
    sids: Mapping[str, set[str]],
    send_at: float,
) -> None:
    """The creates, each under its key until it is answered; whoever answers is noted in `sids`. They
    are to be sent at `send_at`, if that is not 0; it may be past when they are repeated."""
    moment = datetime.fromtimestamp(send_at, UTC)
    later = {"SendAt": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "ScheduleType": "fixed"} if send_at else {}

    def create(number: int) -> None:
        body = f"{name}-{number}"
        form = {
            "To": HANDSET,
            "From": NUMBER,
            "Body": body,
            "StatusCallback": f"{application.url}/status",
            **later,
        }

        def is_answered() -> bool:
            sid = post(host, "Messages", form, key=body)
            if sid is not None:
                sids[body].add(sid)
            return sid is not None

        wait_until(is_answered, f"the create of {body} to be answered")

    with ThreadPoolExecutor(max_workers=8) as threads:
        list(threads.map(create, range(MESSAGES)))


def post(host: Running, resource: str, form: Mapping[str, str], *, key: str = "") -> str | None:
    """The SID of what was made; `None` where there was no answer, or one to come back later."""
    account, token = host.facts["account_sid"], host.facts["auth_token"]
    basic = base64.b64encode(f"{account}:{token}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{host.facts['base_url']}/2010-04-01/Accounts/{account}/{resource}.json",
        data=urlencode(form).encode(),
        headers={"Authorization": f"Basic {basic}", **({"Idempotency-Key": key} if key else {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=CREATE_TIMEOUT_S) as answer:  # noqa: S310 - our own server
            return str(json.load(answer)["sid"])
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 503:
                raise AssertionError(error.read()) from error
        return None
    except (OSError, http.client.HTTPException):
        return None


def replies_to(texts: Sequence[str]) -> list[str]:
    said = ("you said ", "and: ", "in the end: ")
    return [words + text for text in texts for words in said]


def arrived(host: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get_json(
        f"{host.facts['simulator_url']}/v1/handsets/{HANDSET}/messages"
    )
    return found


def is_told_all(application: Application, sid: str) -> bool:
    return {each.status for each in application.callbacks(sid)} >= set(STEPS)


def is_nothing_in_hand(host: Running, monitor: str) -> bool:
    """The carrier owes nothing, and the log has nothing undelivered or unanswered; so nothing more
    can come."""
    if get_json(f"{host.facts['simulator_url']}/v1/counts")["items_pending"]:
        return False
    consumers = [
        consumer
        for account in get_json(f"http://{monitor}/jsz?consumers=true")["account_details"]
        for stream in account["stream_detail"]
        for consumer in stream.get("consumer_detail", [])
        if consumer["name"] in SERVICES  # and not what a dead projector followed with
    ]
    assert consumers, "the engine shows no consumers"
    return not any(each["num_pending"] or each["num_ack_pending"] for each in consumers)


def is_trimmed(monitor: str) -> bool:
    """Whether no message stands in the log any more: of each shard the marker is left, and behind
    it what was carried forward."""
    streams = get_json(f"http://{monitor}/jsz?streams=true")["account_details"][0]["stream_detail"]
    shards = [stream["state"] for stream in streams if stream["name"].startswith("EV_")]
    return sum(int(state.get("num_subjects", 0)) for state in shards) <= len(shards) + CARRIED_MAX


def pid_in(ready: Path) -> int:
    """The process that says it is ready; 0 while there is none."""
    try:
        return int(json.loads(ready.read_bytes())["pid"])
    except FileNotFoundError:
        return 0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
