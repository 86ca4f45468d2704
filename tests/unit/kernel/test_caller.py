"""Who waits at the other end of a connection, on loopback sockets."""

import socket
import sys
from collections.abc import Iterator

import pytest

from trunkline.kernel.caller import WAITING, Seen, TcpCaller

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no other system says it")

LIMIT_S = 10.0


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end and the server's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), timeout=LIMIT_S) as client,
    ):
        accepted, _ = listener.accept()
        accepted.settimeout(LIMIT_S)
        with accepted:
            yield client, accepted


def until_it_has_come(server: socket.socket) -> None:
    assert server.recv(1, socket.MSG_PEEK) in (b"?", b"")


def test_a_client_that_waits_is_seen_to_wait(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    client.sendall(b"?")
    until_it_has_come(server)

    seen = TcpCaller(server).look()

    assert not seen.has_gone
    assert 0.0 <= seen.waited_s < LIMIT_S


def test_a_client_that_has_left_is_seen_though_what_it_asked_is_still_to_be_read(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    client, server = ends
    client.sendall(b"?")
    client.close()
    server.recv(1)
    until_it_has_come(server)

    assert TcpCaller(server).look().has_gone


def test_how_long_a_request_has_lain_unread_is_known(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    client, server = ends
    client.sendall(b"?")
    caller = TcpCaller(server)
    looks = 1_000_000

    seen = next(each for each in (caller.look() for _ in range(looks)) if each.waited_s >= 0.05)

    assert not seen.has_gone
    client.sendall(b"?")
    server.recv(2, socket.MSG_WAITALL)
    assert caller.look().waited_s < seen.waited_s


def test_behind_a_connection_that_was_closed_here_is_nobody(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    server = ends[1]
    caller = TcpCaller(server)
    server.close()

    assert caller.look() == Seen(has_gone=True)


def test_where_nothing_can_be_told_somebody_waits() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert TcpCaller(one).look() == WAITING
    assert TcpCaller(None).look() == WAITING
