"""The head of an answer leaves with its body, and nothing is held for longer than its answer."""

import asyncio

import pytest

from trunkline.host.whole_answers import WholeAnswers

HEAD, BODY = b"HTTP/1.1 200 OK\r\n\r\n", b"hello"


class Wire(asyncio.Transport):
    """What was written, call by call; `None` for the end."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes | None] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.written.append(None)

    def is_closing(self) -> bool:
        return None in self.written


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def answers(wire: Wire) -> WholeAnswers:
    return WholeAnswers(wire)


def test_head_and_body_leave_at_once(wire: Wire, answers: WholeAnswers) -> None:
    for _ in range(2):
        answers.write(HEAD)
        answers.write(BODY)
        answers.end()

    assert wire.written == [HEAD + BODY, HEAD + BODY]


def test_what_comes_behind_them_is_not_kept(wire: Wire, answers: WholeAnswers) -> None:
    answers.write(HEAD)
    answers.write(b"one")
    answers.write(b"two")

    assert wire.written == [HEAD + b"one", b"two"]


def test_a_head_without_a_body_leaves_when_the_answer_ends(
    wire: Wire, answers: WholeAnswers
) -> None:
    answers.write(HEAD)
    assert wire.written == []
    answers.end()
    answers.end()

    assert wire.written == [HEAD]


def test_a_head_leaves_before_the_connection_is_closed(wire: Wire, answers: WholeAnswers) -> None:
    answers.write(HEAD)
    answers.close()

    assert wire.written == [HEAD, None]
    assert answers.is_closing()


def test_who_waits_to_send_its_body_is_told_at_once(wire: Wire, answers: WholeAnswers) -> None:
    answers.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert wire.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    answers.write(HEAD)
    answers.write(BODY)

    assert wire.written[1:] == [HEAD + BODY]
