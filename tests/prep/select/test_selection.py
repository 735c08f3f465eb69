from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from jobctl.jobs.catalog.data import DatasetEntry, PrepConfig
from jobctl.prep.encode.encoder import PART
from jobctl.prep.select.selection import Selection
from jobctl.prep.shards.format import open_dataset
from jobctl.prep.sources.batches import Batch
from jobctl.prep.verify import verify
from tests.prep.conftest import MakeUnit, lines
from tests.prep.work.test_unit import finish

ENTRY = DatasetEntry(summary="", license="", validation_share=0.5)


def splits_of(texts: list[str]) -> list[str]:
    """Return the split of each text, in their order."""
    selection = Selection(ENTRY, PrepConfig())
    return [document.split for text in texts for document in selection.kept(Batch([text], [], []))]


@pytest.mark.parametrize("change", ["NFC and NFD", "SentencePiece's space"])
def test_texts_that_a_model_cannot_tell_apart_are_in_one_split(change: str) -> None:
    texts = [f"caf\u00e9 number {number} \u0439" for number in range(400)]
    if change == "NFC and NFD":
        others = [unicodedata.normalize("NFD", text) for text in texts]
    else:
        others = [text.replace(" ", "\u2581") for text in texts]
    assert splits_of(texts) == splits_of(others)
    assert len(set(splits_of(texts))) == 2


@pytest.mark.parametrize("duplicates", ["keep", "exact", "near"])
def test_what_prep_calls_finished_its_verifier_calls_right(
    tmp_path: Path, unit_job: MakeUnit, duplicates: str
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    composed = [f"caf\u00e9 number {number}" for number in range(100)]
    decomposed = [unicodedata.normalize("NFD", text) for text in composed]
    (folder / "a.jsonl").write_bytes(lines(composed + decomposed))
    work = unit_job(folder, validation_share=0.5, duplicates=duplicates)
    finish(work, folder)
    assert verify(work.output).problems == []
    documents = open_dataset(work.output).meta.documents
    assert documents == (200 if duplicates == "keep" else 100)


@pytest.mark.parametrize("letter", ["x", "ж", "ก", "国", "🙂"])
def test_a_long_document_without_a_space_is_kept_in_every_script(letter: str) -> None:
    selection = Selection(ENTRY, PrepConfig())
    [document] = selection.kept(Batch([letter * (PART + 1)], [], []))
    assert not selection.left_out
    assert document.size == len(letter.encode()) * (PART + 1)
