"""A real host under what no client should send, and under what only the document allows.

The requests of the second part are made from the host's own `/openapi.json`, with a fixed seed: every
answer must be one that the document has, and no failure but 501 and 503.
"""

import contextlib
import http.client
import json
import re
import socket
import sqlite3
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.bad_input import bad_inputs
from tests.published_shapes import answer_faults, implemented
from tests.system.running import Running, get_json, up, wait_until

from trunkline.api import catalogue

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

EXAMPLES_MAX = 60
"""For each operation: with seven of them some four hundred requests, in seconds."""
ANSWER_MAX_S = 10.0
FAILURES_ALLOWED = {501, 503}
SHAPE = {"code", "message", "more_info", "status"}
Json = dict[str, Any]


class Wire:
    """One connection that is kept, sending what it is told and no header besides."""

    def __init__(self, running: Running) -> None:
        self._address = urlsplit(running.facts["base_url"])
        self._connection = self._fresh()
        user = f"{running.facts['account_sid']}:{running.facts['auth_token']}"
        self._headers = {"authorization": "Basic " + b64encode(user.encode()).decode()}

    def _fresh(self) -> http.client.HTTPConnection:
        assert self._address.hostname
        return http.client.HTTPConnection(
            self._address.hostname, self._address.port, timeout=ANSWER_MAX_S
        )

    def ask(
        self,
        method: str,
        target: bytes,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and the JSON that came, or None. `target` is sent as it is."""
        self._connection.putrequest(method, "/", skip_accept_encoding=True)
        line = method.encode() + b" " + target + b" HTTP/1.1"
        self._connection._buffer[0] = line  # type: ignore[attr-defined]  # the only way to send any bytes
        for name, value in {**self._headers, **(headers or {})}.items():
            self._connection.putheader(name, value.encode("latin-1"))
        self._connection.putheader("content-length", str(len(body)))
        self._connection.endheaders(body or None)
        answer = self._connection.getresponse()
        text = answer.read()
        return answer.status, dict(answer.getheaders()), json.loads(text) if text else None

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with up(tmp_path_factory.mktemp("hostile") / "data") as running:
        yield running


@pytest.fixture
def wire(host: Running) -> Iterator[Wire]:
    made = Wire(host)
    yield made
    made.close()


@pytest.fixture(scope="module")
def document(host: Running) -> Json:
    published: Json = get_json(f"{host.facts['base_url']}/openapi.json")
    return published


def messages_of(host: Running) -> str:
    return f"/2010-04-01/Accounts/{host.facts['account_sid']}/Messages.json"


def wait_for_the_copy(host: Running, wire: Wire) -> None:
    """Until the host's copy shows all that was stored before this call."""
    called_at = time.monotonic()

    def shows_it() -> bool:
        asked_at = time.monotonic()
        _, headers, _ = wire.ask("GET", messages_of(host).encode())
        lag = headers["x-trunkline-replica-lag-ms"]
        return lag != "unknown" and asked_at - float(lag) / 1000.0 > called_at

    wait_until(shows_it, "the copy to show everything so far")


def stored(host: Running) -> dict[str, int]:
    """The rows of each table of the host's copy."""
    path = Path(host.facts["hosts"][0]["data"]) / "replica" / "replica.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {
            name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608 - its own names
            for name in tables
        }


def test_bad_input_is_refused_and_nothing_is_stored(
    host: Running, wire: Wire, document: Json
) -> None:
    wait_for_the_copy(host, wire)
    before = stored(host)
    broken = []
    seen: Counter[int] = Counter()

    for each in bad_inputs(catalogue.load(), host.facts["account_sid"]):
        target = each.path.encode() + (b"?" + each.query if each.query else b"")
        status, _, content = wire.ask(each.method, target, each.body, each.headers)
        seen[status] += 1
        is_shaped = content is not None and content.keys() == SHAPE
        if status not in each.statuses or not is_shaped or content["status"] != status:
            broken.append(f"{each}: {status} {content}")

    wait_for_the_copy(host, wire)
    assert not broken, "\n".join(["", *broken])
    assert stored(host) == before
    assert seen.keys() >= {400, 405, 413, 415}


@pytest.mark.parametrize(
    ("target", "statuses"),
    [
        (b"/%00", {404}),
        (b"/\xff\xfe", {400, 404}),
        (b"/%ff.json", {404}),
        (b"/%ED%A0%80", {404}),
        (b"/2010-04-01/Accounts/%2e%2e/Messages.json", {401}),
        (b"/" + b"a" * 8_000, {404, 414}),
        (b"//", {404}),
        (b"/2010-04-01/Accounts/{account}/Messages/SM%00.json", {404}),
        (b"/2010-04-01/Accounts/{account}/Messages/" + b"SM" + b"g" * 32, {404}),
        (b"/2010-04-01/Accounts/{account}/Messages/" + b"S" * 5_000, {404}),
        (b"/2010-04-01/Accounts/{account}/Messages//.json", {404}),
        (b"/2010-04-01/Accounts/{account}/IncomingPhoneNumbers/' OR 1=1.json", {400}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_path_that_is_no_place_is_no_fault_of_ours(
    host: Running, wire: Wire, target: bytes, statuses: set[int]
) -> None:
    account = host.facts["account_sid"].encode()
    request = b"GET " + target.replace(b"{account}", account) + b" HTTP/1.1\r\nhost: a\r\n"
    user = b64encode(account + b":" + host.facts["auth_token"].encode())
    address = urlsplit(host.facts["base_url"])
    with socket.create_connection((address.hostname, address.port), ANSWER_MAX_S) as client:
        client.sendall(request + b"authorization: Basic " + user + b"\r\nconnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65_536), b""))

    head, _, content = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) in statuses, answer
    assert json.loads(content).keys() == SHAPE


def test_whatever_the_document_allows_is_answered_as_the_document_says(
    host: Running, wire: Wire, document: Json
) -> None:
    seen: dict[str, Counter[int]] = {}
    sids: set[str] = set()
    # What is made first is then found by its SID; what is removed is removed last.
    verbs = ("Create", "List", "Fetch", "Update", "Delete")
    operations = sorted(
        implemented(document),
        key=lambda each: next(
            n for n, v in enumerate(verbs) if each[2]["operationId"].startswith(v)
        ),
    )

    for method, path, operation in operations:
        counts = seen.setdefault(operation["operationId"], Counter())
        facts = {**host.facts, "sids": sorted(sids)}
        sids |= _try(operation, requests_of(method, path, operation, facts), wire, document, counts)
        wait_for_the_copy(host, wire)

    assert operations
    assert [name for name, counts in seen.items() if not counts] == []
    # A table of refusals would prove little: creates and lists must succeed now and then.
    assert seen["CreateMessage"][201]
    for name in ("ListMessage", "FetchMessage", "FetchIncomingPhoneNumber"):
        assert seen[name][200], seen


def _try(
    operation: Json,
    requests: st.SearchStrategy[tuple[str, bytes, bytes, dict[str, str]]],
    wire: Wire,
    document: Json,
    counts: Counter[int],
) -> set[str]:
    """The SIDs of what was made."""
    sids = set()

    @settings(
        max_examples=EXAMPLES_MAX,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(requests)
    def answers_as_published(request: tuple[str, bytes, bytes, dict[str, str]]) -> None:
        status, headers, content = wire.ask(*request)
        counts[status] += 1
        if status == 201:
            sids.add(content["sid"])
        found = answer_faults(content, status, operation, document)
        if status >= 500 and status not in FAILURES_ALLOWED:
            found.append(f"a failure: {status}")
        if status in (429, 503) and "retry-after" not in headers:
            found.append("it does not say when to come back")
        assert not found, f"{request}: {found}"

    answers_as_published()
    return sids


def requests_of(
    method: str, path: str, operation: Json, facts: Json
) -> st.SearchStrategy[tuple[str, bytes, bytes, dict[str, str]]]:
    """Method, target, body and headers of requests that the document allows, and of some that differ
    from those by one strange text."""

    @st.composite
    def request(draw: st.DrawFn) -> tuple[str, bytes, bytes, dict[str, str]]:
        target, query, headers = path, [], {}
        for parameter in operation["parameters"]:
            name, schema = parameter["name"], parameter["schema"]
            if parameter["in"] == "path":
                target = target.replace(f"{{{name}}}", quote(draw(_path_word(schema, facts)), ""))
            elif parameter["in"] == "header":
                if draw(st.booleans()):
                    headers[name] = draw(st.text("abc01 ~", min_size=1, max_size=8))
            elif draw(st.integers(0, 3)) == 0:
                query.append((name, draw(_text(schema, facts))))
        body = b""
        if "requestBody" in operation:
            ((content_type, content),) = operation["requestBody"]["content"].items()
            form = _form(draw, content["schema"], facts)
            body = urlencode(form, doseq=True).encode()
            headers["content-type"] = content_type
        encoded = f"?{urlencode(query)}" if query else ""
        return method, (target + encoded).encode(), body, headers

    return request()


def _form(draw: st.DrawFn, schema: Json, facts: Json) -> list[tuple[str, str]]:
    """Now and then a required field is left out, and a few of the others are there."""
    required = set(schema.get("required", ()))
    form = []
    # A good form, as far as one is known for any create: what is drawn beside it is what varies.
    for name in schema["properties"]:
        likely = name in required or name in ("From", "Body", "PhoneNumber")
        if draw(st.integers(0, 29)) < (28 if likely else 1):
            form.append((name, draw(_text(schema["properties"][name], facts, name))))
    return form


def _path_word(schema: Json, facts: Json) -> st.SearchStrategy[str]:
    if "AC" in schema.get("pattern", ""):
        return st.just(facts["account_sid"])
    found = [each for each in facts["sids"] if re.match(schema.get("pattern", "(?!)"), each)]
    others = st.one_of(_text(schema, facts), _STRANGE).filter(bool)
    return st.one_of(st.sampled_from(found), others) if found else others


_STRANGE = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=0, max_size=40)


def _text(schema: Json, facts: Json, name: str = "") -> st.SearchStrategy[str]:
    """A value in ten is any text at all; the others are what the schema asks for."""
    return st.integers(0, 9).flatmap(lambda n: _STRANGE if n == 0 else _fit(schema, facts, name))


def _fit(schema: Json, facts: Json, name: str) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"].replace("$", r"\Z"), fullmatch=True)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("type") == "array":
        return _fit(schema["items"], facts, name)
    by_format = {
        "phone-number": st.just(facts["phone_number"])
        if name == "From"
        else st.integers(1_202_555_0000, 1_202_555_9999).map(lambda digits: f"+{digits}"),
        "uri": st.sampled_from(["http://127.0.0.1:9/x", "https://a.test/?b=c#ik=d"]),
        "date": st.dates().map(str),
        "date-time": st.datetimes().map(lambda moment: moment.isoformat()),
    }
    by_type = {
        "integer": st.integers(schema.get("minimum", -(2**70)), schema.get("maximum", 2**70)),
        "number": st.decimals(-10, 10, places=2),
        "boolean": st.sampled_from(["true", "false", "True"]),
    }
    return by_format.get(
        schema.get("format", ""), by_type.get(schema.get("type", ""), _STRANGE)
    ).map(str)
