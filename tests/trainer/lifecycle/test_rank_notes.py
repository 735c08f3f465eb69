"""What a rank was doing is known to its launcher when it is dead."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from jobctl.trainer.lifecycle.rank_notes import FOLDER, Note, NoteFolder, RankNotes


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[NoteFolder]:
    monkeypatch.setenv(FOLDER, "")
    made = NoteFolder()
    yield made
    made.close()


def test_the_launcher_reads_where_each_rank_was(folder: NoteFolder) -> None:
    first = RankNotes(0)
    second = RankNotes(1)
    first.at(17, 128, 8)
    second.at(17, 128, 8)
    second.failed(heals=True)
    notes = folder.take()
    assert str(notes[0]) == "in step 17, samples 128 to 135"
    assert (notes[0].heals, notes[1].heals) == (False, True)
    assert folder.take() == {}, "the next start begins anew"


def test_a_rank_that_took_no_step_says_so(folder: NoteFolder) -> None:
    RankNotes(3)
    assert str(folder.take()[3]) == "before its first step"


def test_a_note_that_is_not_whole_is_left_out(folder: NoteFolder) -> None:
    (folder.path / "5").write_bytes(b'{"step": ')
    assert folder.take() == {}


def test_a_rank_without_a_launcher_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    notes = RankNotes(0)
    notes.at(3, 0, 8)
    assert notes.note == Note(step=3, first_sample=0, samples=8)


def test_the_folder_goes_with_the_launcher(folder: NoteFolder) -> None:
    folder.close()
    assert not folder.path.exists()
    assert FOLDER not in os.environ
