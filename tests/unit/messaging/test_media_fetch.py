"""Which addresses media may come from. Nothing here connects to any."""

import socket

import pytest

from trunkline.messaging.media_fetch import guarded_socket


@pytest.mark.parametrize(
    ("family", "host"),
    [
        (socket.AF_INET, "169.254.169.254"),
        (socket.AF_INET, "100.100.100.200"),
        (socket.AF_INET6, "fe80::1%1"),
        (socket.AF_INET6, "fd00:ec2::254"),
        (socket.AF_INET6, "::ffff:169.254.169.254"),
    ],
)
def test_what_a_cloud_tells_its_machines_is_out_of_reach(family: int, host: str) -> None:
    with pytest.raises(OSError, match="no media come from there"):
        guarded_socket((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, 80)))


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.7", "203.0.113.9"])
def test_other_addresses_may_be_asked(host: str) -> None:
    kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, 80))
    with guarded_socket(kind) as made:
        assert made.family is socket.AF_INET
