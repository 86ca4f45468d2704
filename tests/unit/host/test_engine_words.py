"""What the engine complains of in its own log reaches ours, once."""

from pathlib import Path

import pytest

from trunkline.host.engine_words import EngineWords, Refusal, is_of_recovery, refusal_in

LINE = "[7] 2026/01/01 00:00:00.000000 [{}] {}\n"


def test_only_new_and_grave_lines_are_passed_on_once(tmp_path: Path) -> None:
    file = tmp_path / "nats.log"
    file.write_text(LINE.format("ERR", "of an earlier run"))
    words = EngineWords(file)

    with file.open("a") as log:
        log.write(LINE.format("INF", "all is well"))
        log.write(LINE.format("WRN", "slow disk"))
        log.write(LINE.format("ERR", "Filestore [EV_5] Critical write error"))

    assert list(words.new()) == [
        ("WRN", "slow disk"),
        ("ERR", "Filestore [EV_5] Critical write error"),
    ]
    assert list(words.new()) == []


def test_a_file_that_was_rolled_over_is_read_from_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "nats.log"
    file.write_text(LINE.format("WRN", "a long first line of the old file"))
    words = EngineWords(file)

    file.write_text(LINE.format("WRN", "new"))

    assert list(words.new()) == [("WRN", "new")]


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert list(EngineWords(tmp_path / "nats.log").new()) == []


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ('10.0.0.9:6044 - rid:243 - authentication error - User "trunkline"', Refusal("10.0.0.9", is_host=True)),
        ('10.0.0.9:5297 - cid:245 - authentication error - Token "[REDACTED]"', Refusal("10.0.0.9", is_host=False)),
        ("10.0.0.9:6222 - rid:246 - Route Error 'Authorization Violation'", Refusal("10.0.0.9", is_host=True)),
        ("JetStream cluster new metadata leader: host-a", None),
    ],
)  # fmt: skip
def test_who_has_another_secret_is_known_by_address(text: str, refusal: Refusal | None) -> None:
    assert refusal_in(text) == refusal


def test_what_belongs_to_a_start_after_a_crash_is_no_complaint() -> None:
    assert is_of_recovery("Filestore [EV_5] Stream state outdated, last block has additional")
    assert is_of_recovery("Error trying to connect to route (attempt 1): dial tcp 10.0.0.9:6222")
    assert not is_of_recovery("Filestore [EV_5] Critical write error")
