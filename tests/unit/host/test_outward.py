"""Who may be reached from a host, by where it listens, who has an account, and what is set."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.api.api_copy import Copy

from trunkline.domain.account import AccountStatus
from trunkline.domain.events import AccountOpened, Kind, Type
from trunkline.host import config
from trunkline.host.layout import Layout
from trunkline.host.outward import is_local, policy_of
from trunkline.kernel import FakeClock
from trunkline.webhooks.guard import Guard

MAIN = "AC" + "1" * 32
SHOP = "AC" + "2" * 32
CLUSTER = {"cluster.token_file": "/token", "host.name": "a"}


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    with closing(Copy(tmp_path / "copy.db", FakeClock())) as made:
        put(made, MAIN)
        yield made


def put(copy: Copy, sid: str, status: AccountStatus = AccountStatus.ACTIVE) -> None:
    owner = "" if sid == MAIN else MAIN
    opened = AccountOpened(
        sid=sid, friendly_name="x", auth_token="made-up", owner=owner, status=status
    )
    copy.put(Kind.ACCOUNT, Type.ORIGINAL, MAIN, sid, opened)
    copy.catch_up()


def guard(copy: Copy, folder: Path, flags: Mapping[str, object] | None = None) -> Guard:
    settings = config.load(None, flags or {}, {})
    return Guard(policy_of(settings, Layout(folder), copy.replica), FakeClock())


@pytest.mark.parametrize(
    ("http", "members", "local"),
    [
        ("127.0.0.1:8009", [], True),
        ("127.0.0.3:0", [], True),
        ("localhost:8009", [], True),
        ("[::1]:8009", [], True),
        ("0.0.0.0:8009", [], False),
        ("[::]:8009", [], False),
        ("10.0.0.1:8009", [], False),
        ("host.example:8009", [], False),
        ("127.0.0.1:8009", ["a@127.0.0.2", "b@127.0.0.3", "c@127.0.0.4"], True),
        ("127.0.0.1:8009", ["a@10.0.0.2", "b@10.0.0.3", "c@10.0.0.4"], False),
        ("127.0.0.1:8009", ["a@a.example", "b@b.example", "c@c.example"], False),
    ],
)
def test_a_host_is_local_where_only_this_machine_reaches_it(
    http: str, members: list[str], local: bool
) -> None:
    flags: dict[str, object] = {"host.http": http, "cluster.hosts": members}

    assert is_local(config.load(None, flags | (CLUSTER if members else {}), {})) is local


def test_a_subaccount_tightens_the_rule_and_its_end_loosens_it(copy: Copy, tmp_path: Path) -> None:
    judge = guard(copy, tmp_path)
    assert judge.refusal("127.0.0.1", 80) is None

    put(copy, SHOP)
    assert judge.refusal("127.0.0.1", 80) is not None

    put(copy, SHOP, AccountStatus.SUSPENDED)
    assert judge.refusal("127.0.0.1", 80) is not None

    put(copy, SHOP, AccountStatus.CLOSED)
    assert judge.refusal("127.0.0.1", 80) is None


def test_what_is_set_counts_whoever_has_an_account(copy: Copy, tmp_path: Path) -> None:
    put(copy, SHOP)
    allowing = guard(copy, tmp_path, {"webhooks.private_addresses": "allow"})
    partly = guard(copy, tmp_path, {"webhooks.allowed_networks": "10.1.0.0/16, fd12::/16"})
    refusing = guard(copy, tmp_path, {"webhooks.private_addresses": "refuse"})

    assert allowing.refusal("10.2.0.1", 80) is None
    assert allowing.refusal("169.254.169.254", 80) is not None
    assert partly.refusal("10.1.0.1", 80) is None
    assert partly.refusal("fd12::1", 80) is None
    assert partly.refusal("10.2.0.1", 80) is not None
    assert refusing.refusal("127.0.0.1", 80) is not None


def test_a_copy_that_cannot_be_read_is_a_failure_that_may_pass(copy: Copy, tmp_path: Path) -> None:
    judge = guard(copy, tmp_path)
    copy.replica.close()

    with pytest.raises(OSError, match="the read copy cannot be read"):
        judge.refusal("127.0.0.1", 80)
    assert judge.refusal("8.8.8.8", 80) is None


def test_the_log_engine_of_a_host_alone_is_out_of_reach(copy: Copy, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.engine_door.parent.mkdir(parents=True)
    layout.engine_door.write_text(json.dumps({"urls": ["nats://127.0.0.1:40123"]}))
    judge = guard(copy, tmp_path, {"log.monitor_http": "0.0.0.0:8222"})

    assert "log engine" in str(judge.refusal("127.0.0.1", 40123))
    assert "log engine" in str(judge.refusal("127.0.0.1", 8222))
    assert judge.refusal("127.0.0.1", 8009) is None


@pytest.mark.parametrize(
    ("members", "address"),
    [
        (["a@127.0.0.2", "b@127.0.0.3:5000:5001", "c@127.0.0.4"], "127.0.0.3"),
        (["a@[fd00::2]", "b@[FD00:0::3]:5000:5001", "c@[fd00::4]"], "fd00::3"),
        (["a@a.example", "b@b.example:5000:5001", "c@c.example"], "10.0.0.9"),
    ],
)
def test_no_log_engine_of_a_cluster_is_reached(
    copy: Copy, tmp_path: Path, members: list[str], address: str
) -> None:
    flags = {**CLUSTER, "cluster.hosts": members, "webhooks.private_addresses": "allow"}
    judge = guard(copy, tmp_path, flags)

    for port in (5000, 5001):
        assert "log engine" in str(judge.refusal(address, port))
    assert judge.refusal(address, 80) is None
