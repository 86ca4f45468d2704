"""Clearing up behind a drill that was killed, and behind no other."""

import shutil
from pathlib import Path

import pytest

from trunkline.drills import abandoned
from trunkline.drills.abandoned import Note, clear_up, noted


class Killed(BaseException):
    """Stands for the end of a process that could do nothing more."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "drill"
    made.mkdir()
    (made / "client.jsonl").write_bytes(b"{}\n")
    return made


def killed(folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch, *, is_kept: bool) -> None:
    """Its note stays, and nobody holds it."""
    note = Note(str(folder), is_kept, 3, number=999_999)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(Killed), noted(note, place):
            raise Killed


def test_what_a_killed_drill_left_is_removed(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(folder, tmp_path, monkeypatch, is_kept=False)

    assert clear_up(tmp_path) == 1

    assert list(tmp_path.iterdir()) == []
    assert clear_up(tmp_path) == 0


def test_files_that_were_to_be_kept_are(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(folder, tmp_path, monkeypatch, is_kept=True)

    assert clear_up(tmp_path) == 1

    assert list(tmp_path.iterdir()) == [folder]
    assert (folder / "client.jsonl").exists()


def test_a_drill_that_runs_is_left_alone(tmp_path: Path, folder: Path) -> None:
    with noted(Note(str(folder), False, 3, number=999_999), tmp_path):
        assert clear_up(tmp_path) == 0
        assert (folder / "client.jsonl").exists()

    assert list(tmp_path.iterdir()) == [folder]


def test_what_is_mounted_below_is_unmounted_before_anything_is_removed(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(abandoned, "unmount_below", lambda place: done.append(f"unmount {place}"))
    monkeypatch.setattr(shutil, "rmtree", lambda place, **_: done.append(f"remove {place}"))
    killed(folder, tmp_path, monkeypatch, is_kept=False)

    clear_up(tmp_path)

    assert done == [f"unmount {folder}", f"remove {folder}"]
