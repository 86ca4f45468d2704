"""Which operations each test of an SDK exercises, as the hosts count it.

Before and after the body of a test every running host is asked for its metrics. An operation that was
answered with success in between is exercised by that test. What is written down in `exercised.json`
is held against that in every run, so that the page made of it cannot claim what is not so.

With `--hosts 3` every `trunkline up` of these tests is a cluster, and each test speaks to the next host.
"""

import itertools
import json
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sdk.customer import Application
from tests.system import running
from tests.system.running import LIVE, Running
from twilio.rest import Client

EXERCISED = Path(__file__).with_name("exercised.json")
OPTION = "--record-operations"
HOSTS = "--hosts"
MEND = "make compatibility"
ASK_MAX_S = 10.0
ANSWERED = re.compile(
    r'^trunkline_api_requests_total\{operation="(\w+)",status="([23]\d\d)"\} (\S+)', re.MULTILINE
)


class Recording:
    """What was seen in this run, by test."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = {}
        self.collected: set[str] = set()
        self.known: dict[str, list[str]] = json.loads(EXERCISED.read_text("utf-8"))

    def written(self) -> str:
        """What was seen, and what was known of tests that were skipped."""
        kept = {test: self.known[test] for test in self.collected & self.known.keys()}
        return json.dumps(dict(sorted({**kept, **self.seen}.items())), indent=2) + "\n"


RECORDING = pytest.StashKey[Recording]()
TURNS = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, action="store_true", help="write down what each test exercises")
    parser.addoption(HOSTS, type=int, default=1, help="how many hosts the SDKs speak to")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORDING] = Recording()
    running.HOSTS = config.getoption(HOSTS, 1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = [item for item in items if item.path.parent == EXERCISED.parent]
    recording = config.stash.setdefault(RECORDING, Recording())
    recording.collected = {_name(item) for item in here}


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """What the host is set to: a module that wants other settings has a fixture of this name. With a
    subaccount, this machine is a private address like any other, where no applications are called."""
    return {"TRUNKLINE_WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8"}


@pytest.fixture(scope="module")
def host(
    request: pytest.FixtureRequest,
    settings: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """The host, or with `--hosts 3` the cluster, that all tests of a module speak to."""
    data = tmp_path_factory.mktemp(request.path.stem.removeprefix("test_")) / "data"
    with running.up(data, settings=settings) as started:
        yield started


@pytest.fixture
def client(host: Running) -> Client:
    """The official client of the host's main account, unchanged but for where it points."""
    client = Client(host.facts["account_sid"], host.facts["auth_token"])
    client.api.base_url = host.facts["base_url"]
    return client


@pytest.fixture
def application(host: Running) -> Iterator[Application]:
    application = Application(host.facts["auth_token"])
    yield application
    application.close()


@pytest.fixture(autouse=True)
def next_host(host: Running) -> None:
    """Each test of a cluster is led to another host than the one before."""
    turn = next(TURNS)
    if hosts := host.facts.get("hosts"):
        host.facts["base_url"] = hosts[turn % len(hosts)]["base_url"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    before = _answered()
    yield
    seen = sorted((_answered() - before).keys())
    recording, name = item.config.stash[RECORDING], _name(item)
    if seen:
        recording.seen[name] = seen
    is_recording = item.config.getoption(OPTION, False)
    if not is_recording and seen != recording.known.get(name, []):
        pytest.fail(
            f"{name} exercises {seen}, and {EXERCISED.name} says {recording.known.get(name, [])}: "
            f"write it down with {MEND}"
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run in which a test failed has not seen all, and writes nothing."""
    if session.config.getoption(OPTION, False) and not session.testsfailed:
        EXERCISED.write_text(session.config.stash[RECORDING].written(), "utf-8")


def _name(item: pytest.Item) -> str:
    return f"{item.path.name}::{item.name}"


def _answered() -> Counter[str]:
    """How often each operation was answered with success, by all hosts that run."""
    found: Counter[str] = Counter()
    hosts = [host["base_url"] for each in LIVE for host in each.facts.get("hosts", ())]
    for base_url in hosts:
        with urllib.request.urlopen(f"{base_url}/metrics", timeout=ASK_MAX_S) as answer:  # noqa: S310 - our own server
            for operation, _, count in ANSWERED.findall(answer.read().decode()):
                found[operation] += int(float(count))
    return found
