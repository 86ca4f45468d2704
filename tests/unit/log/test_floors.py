"""The file of floors: what is noted is read again, and what is damaged is no note at all."""

from pathlib import Path

import pytest

from trunkline.host.layout import Layout
from trunkline.log.engines.jetstream import floors
from trunkline.log.engines.jetstream.floors import Key, Note

DISPATCH = Key("EV_3", "dispatch", ("ev.3.message.>",))
INTAKE = Key("EV_3", "intake", ("ev.3.message.>", "ev.3.call.>"))
NOTES = {
    key: Note(key, floor, "2026-01-02T03:04:05.678901234Z")
    for key, floor in ((DISPATCH, 7), (INTAKE, 9_000_000_000))
}


def test_what_was_noted_is_read_again_and_a_later_note_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "floors.json"

    floors.write(path, NOTES)
    assert floors.read(path) == NOTES

    later = {DISPATCH: Note(DISPATCH, 8, "2026-01-02T03:04:06Z")}
    floors.write(path, later)
    assert floors.read(path) == later
    assert [entry.name for entry in tmp_path.iterdir()] == ["floors.json"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"format":1}',
        b'{"format":2,"notes":[]}',
        b'{"format":1,"notes":[{"key":{"stream":"","service":""},"floor":7,"at":"x"}]}',
        b'{"format":1,"notes":[{"key":{"stream":"","service":"","filters":[]},"floor":"7","at":"x"}]}',
        b'{"format":1,"notes":[{"key":{"stream":"","service":"","filters":[]},"floor":0,"at":""}]}',
    ],
)
def test_a_file_that_says_nothing_sensible_is_no_note(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "floors.json"
    path.write_bytes(content)

    assert floors.read(path) == {}


def test_a_file_cut_short_or_too_large_or_missing_is_no_note(tmp_path: Path) -> None:
    path = tmp_path / "floors.json"
    assert floors.read(path) == {}

    floors.write(path, NOTES)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert floors.read(path) == {}

    path.write_bytes(whole + b" " * (floors.FILE_BYTES_MAX - len(whole)))
    assert floors.read(path) == NOTES
    path.write_bytes(whole + b" " * (floors.FILE_BYTES_MAX + 1 - len(whole)))
    assert floors.read(path) == {}


def test_no_more_notes_are_kept_than_fit(tmp_path: Path) -> None:
    path = tmp_path / "floors.json"
    keys = [Key("EV_0", f"service-{number}", ()) for number in range(floors.NOTES_MAX + 5)]

    floors.write(path, {key: Note(key, 1, "2026-01-02T03:04:05Z") for key in keys})

    assert list(floors.read(path)) == keys[5:]


def test_the_notes_stand_in_the_folder_of_the_log_they_are_of(tmp_path: Path) -> None:
    layout = Layout(tmp_path)

    assert layout.floors.parent == layout.log
