"""The guard: every way of writing an address ends as one, and that one is judged."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from trunkline.kernel import FakeClock
from trunkline.webhooks.guard import REFUSED, TOLD_EVERY_S, Guard, Policy, carried, refusal_in

NEVER = [
    "0.0.0.0",  # noqa: S104 - judged, never bound
    "0.1.2.3",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::",
    "::169.254.169.254",
]
PRIVATE = [
    "127.0.0.1",
    "127.8.9.10",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "2001:db8::1",
    "64:ff9b:1::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2002:c0a8:101::1",
    "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # Teredo: the client is 10.0.0.1
    "100::1",
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.32.0.1",
    "100.128.0.1",
    "198.20.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "2001:0:808:808:8000:63bf:f7f7:f7f7",
]


def guard(policy: Policy) -> Guard:
    return Guard(policy, FakeClock())


REFUSING = Policy(lambda: False)


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_refused_whatever_is_allowed(address: str) -> None:
    everything = tuple(map(ipaddress.ip_network, ("0.0.0.0/0", "::/0")))

    reason = guard(Policy(lambda: True, everything)).refusal(address, 80)

    assert reason is not None
    assert "nothing is fetched from there" in reason


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused_or_allowed_by_policy(address: str) -> None:
    reason = guard(REFUSING).refusal(address, 80)

    assert reason is not None
    assert "webhooks.private_addresses" in reason
    assert "webhooks.allowed_networks" in reason
    assert guard(Policy(lambda: True)).refusal(address, 80) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_open(address: str) -> None:
    assert guard(REFUSING).refusal(address, 80) is None


def test_a_network_that_is_allowed_is_open_and_its_neighbour_is_not() -> None:
    policy = Policy(lambda: False, (ipaddress.ip_network("10.1.0.0/16"),))

    assert guard(policy).refusal("10.1.2.3", 80) is None
    assert guard(policy).refusal("::ffff:10.1.2.3", 80) is None
    assert guard(policy).refusal("10.2.2.3", 80) is not None


def test_the_engine_is_never_reached() -> None:
    known = Policy(listeners=frozenset({("127.0.0.1", 4222), ("8.8.4.4", 6222)}))
    by_name = Policy(ports=frozenset({4222}))

    assert guard(known).refusal("127.0.0.1", 4222) is not None
    assert guard(known).refusal("::ffff:127.0.0.1", 4222) is not None
    assert guard(known).refusal("8.8.4.4", 6222) is not None
    assert guard(known).refusal("127.0.0.1", 4223) is None
    assert guard(by_name).refusal("10.0.0.1", 4222) is not None
    assert guard(by_name).refusal("8.8.8.8", 4222) is None


def test_the_policy_is_asked_each_time() -> None:
    answers = iter([True, False])
    judge = guard(Policy(lambda: next(answers)))

    assert judge.refusal("10.0.0.1", 80) is None
    assert judge.refusal("10.0.0.1", 80) is not None


def test_what_nobody_can_tell_is_a_failure_that_may_pass() -> None:
    def unreadable() -> bool:
        raise OSError("the read copy cannot be read")

    with pytest.raises(OSError, match="cannot be read") as caught:
        guard(Policy(unreadable)).refusal("10.0.0.1", 80)

    assert refusal_in(caught.value) is None


@pytest.mark.anyio
async def test_a_refusal_is_known_by_its_number_and_told_once_a_minute() -> None:
    clock = FakeClock()
    judge = Guard(REFUSING, clock)
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))

    with capture_logs() as logs:
        with pytest.raises(OSError, match="private") as caught:
            judge.socket(address)
        with pytest.raises(OSError, match="private"):
            judge.socket(address)
        await clock.advance(TOLD_EVERY_S)
        with pytest.raises(OSError, match="private"):
            judge.socket(address)

    assert caught.value.errno == REFUSED
    assert str(refusal_in(caught.value)).startswith("10.0.0.1 is private")
    assert [each["event"] for each in logs] == ["webhooks.address_refused"] * 2


def test_several_refusals_are_given_as_one() -> None:
    both = OSError(REFUSED, "Multiple exceptions: [Errno 70001] one, [Errno 70001] two")

    assert refusal_in(both) == "one, two"
    assert refusal_in(OSError(13, "no")) is None


@given(st.ip_addresses())
def test_every_address_can_be_judged(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    carried(address)
    guard(REFUSING).refusal(str(address), 80)


@given(st.ip_addresses(v=4))
def test_what_is_refused_stays_so_inside_of_another_address(address: ipaddress.IPv4Address) -> None:
    judge = guard(REFUSING)
    if judge.refusal(str(address), 80) is None:
        return
    number = int(address)

    for outer in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert judge.refusal(str(ipaddress.IPv6Address(outer)), 80) is not None
