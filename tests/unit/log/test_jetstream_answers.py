"""What is believed of the log server's answers about a stream."""

import msgspec
import pytest

from trunkline.log.engines.jetstream.api import StreamAnswer

STATE = b'"state": {"first_seq": 7, "last_seq": 9, "bytes": 30, "num_subjects": 2}'


def answer(cluster: bytes) -> StreamAnswer:
    return msgspec.json.decode(b'{"config": {}, ' + STATE + cluster + b"}", type=StreamAnswer)


@pytest.mark.parametrize("cluster", [b"", b', "cluster": null', b', "cluster": {"leader": "a"}'])
def test_a_leader_and_a_server_alone_are_believed(cluster: bytes) -> None:
    state = answer(cluster).state

    assert state is not None
    assert (state.first_seq, state.last_seq) == (7, 9)


@pytest.mark.parametrize("cluster", [b"{}", b'{"name": "c", "leader": ""}'])
def test_nobody_is_believed_who_answers_for_a_stream_without_a_leader(cluster: bytes) -> None:
    assert answer(b', "cluster": ' + cluster).state is None
