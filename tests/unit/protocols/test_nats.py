"""The NATS client protocol: octets in, events out, however the network cuts them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.protocols import nats

GREETING = b'INFO {"server_id":"x","headers":true,"max_payload":1048576}\r\n'
HEADERS = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n"
STREAM = (
    GREETING
    + b"+OK\r\nPING\r\n"
    + b"MSG inbox.1 7 $JS.ACK.EV_0.d.1.5.5.1700000000000000000.2 5\r\nhello\r\n"
    + b"MSG inbox.1 7 0\r\n\r\n"
    + b"HMSG inbox.1 8 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    + b"HMSG inbox.1 8 reply %d %d\r\n%shello\r\n" % (len(HEADERS), len(HEADERS) + 5, HEADERS)
    + b"-ERR 'Stale Connection'\r\nPONG\r\n"
)
EVENTS = [
    nats.Info(headers=True, max_payload=1_048_576),
    nats.Ping(),
    nats.Message("inbox.1", 7, "$JS.ACK.EV_0.d.1.5.5.1700000000000000000.2", b"hello"),
    nats.Message("inbox.1", 7, "", b""),
    nats.Message("inbox.1", 8, "", b"", status=503),
    nats.Message("inbox.1", 8, "reply", b"hello"),
    nats.ServerError("Stale Connection"),
    nats.Pong(),
]


def test_what_a_server_says_is_read_as_it_is_meant() -> None:
    assert nats.Parser().receive(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_it_does_not_matter_where_the_network_cuts(cuts: list[int]) -> None:
    parser = nats.Parser()
    places = [0, *sorted(cuts), len(STREAM)]

    parts = [STREAM[start:end] for start, end in itertools.pairwise(places)]

    assert [event for part in parts for event in parser.receive(part)] == EVENTS


def test_a_status_comes_with_its_description() -> None:
    block = b"NATS/1.0 409 Consumer Deleted\r\n\r\n"
    line = f"HMSG inbox.1 3 {len(block)} {len(block)}\r\n".encode()

    (event,) = nats.Parser().receive(line + block + b"\r\n")

    assert isinstance(event, nats.Message)
    assert (event.status, event.description) == (409, "Consumer Deleted")


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"MSG inbox\r\n",
        b"MSG inbox 1 many\r\n",
        b"MSG inbox 1 99999999999\r\n",
        b"HMSG inbox 1 9 5\r\nhello\r\n",
        b"HMSG inbox 1 12 12\r\nTUNA/1.0 503\r\n",
        b"INFO no document\r\n",
        b"x" * (nats.LINE_BYTES_MAX + 1),
    ],
)
def test_a_peer_that_speaks_otherwise_is_told_so(words: bytes) -> None:
    with pytest.raises(nats.NatsProtocolError):
        nats.Parser().receive(words)


@given(st.binary(max_size=400))
def test_no_octets_break_the_parser_in_another_way(octets: bytes) -> None:
    try:
        events = nats.Parser().receive(octets)
    except nats.NatsProtocolError:
        return
    assert all(isinstance(event, nats.Event) for event in events)


def test_a_publish_says_how_long_its_parts_are() -> None:
    block = nats.headers("Nats-Expected-Last-Subject-Sequence", "0")

    said = nats.publish("ev.1.x", b"hello", reply="inbox.9", header_block=block)

    assert said == b"HPUB ev.1.x inbox.9 %d %d\r\n%shello\r\n" % (len(block), len(block) + 5, block)
    assert nats.publish("ack", b"+ACK") == b"PUB ack  4\r\n+ACK\r\n"


def test_a_block_of_several_headers_has_a_line_for_each() -> None:
    block = nats.header_block(("Nats-Schedule", "@at 2027-01-01T00:00:00Z"), ("Nats-TTL", "5m"))

    assert block == b"NATS/1.0\r\nNats-Schedule: @at 2027-01-01T00:00:00Z\r\nNats-TTL: 5m\r\n\r\n"
    assert nats.header_block(("A", "b")) == nats.headers("A", "b")
