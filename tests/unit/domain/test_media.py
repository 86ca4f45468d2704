"""Media by their names and types, as pure rules."""

from trunkline.domain.media import bare_type, is_sendable, media_sid
from trunkline.domain.sid import is_sid


def test_a_piece_has_one_sid_on_every_host_and_another_than_its_neighbour() -> None:
    assert media_sid("event", 0) == media_sid("event", 0)
    assert is_sid(media_sid("event", 0), "ME")
    assert len({media_sid("event", 0), media_sid("event", 1), media_sid("other", 0)}) == 3


def test_a_type_counts_without_its_parameters_and_case() -> None:
    assert is_sendable(bare_type("Image/PNG; charset=binary"))
    assert is_sendable(bare_type("text/plain;charset=utf-8"))


def test_what_a_browser_would_run_is_not_sendable() -> None:
    for kind in ("text/html", "image/svg+xml", "application/javascript", "text/xml", ""):
        assert not is_sendable(bare_type(kind))
