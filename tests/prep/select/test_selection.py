from __future__ import annotations

import unicodedata
from pathlib import Path

import msgspec
import numpy as np
import pytest
import xxhash

from jobctl.jobs.catalog.data import DatasetEntry, PrepConfig
from jobctl.prep.encode.encoder import PART
from jobctl.prep.select.selection import MOST_NAMES, Evidence, Selection, copies, is_validation
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


def selection(repeated: object = None, held_out: object = None, **changes: object) -> Selection:
    """Return the filters of a job without a validation split, with options changed."""
    config = PrepConfig(weights=changes.pop("weights", {}))  # type: ignore[arg-type]
    entry = msgspec.structs.replace(ENTRY, **{"validation_share": 0.0, **changes})
    halves = np.empty(0, np.uint64) if held_out is None else held_out
    return Selection(entry, config, repeated, halves)  # type: ignore[arg-type]


def kept(
    made: Selection, *texts: str, labels: tuple[str, ...] = (), languages: tuple[str, ...] = ()
) -> list[str]:
    documents = made.kept(Batch(list(texts), list(labels), list(languages)))
    return [document.text for document in documents]


def test_the_bounds_of_the_length_are_kept_themselves_and_zero_is_no_bound() -> None:
    texts = ["x" * length for length in range(1, 7)]
    made = selection(min_characters=2, max_characters=4)
    assert kept(made, *texts) == ["xx", "xxx", "xxxx"]
    assert made.left_out == {"short": 1, "long": 2}
    assert kept(selection(max_characters=0), *texts) == texts


def test_a_named_language_is_believed_and_an_unnamed_one_is_told_by_the_text() -> None:
    english = "the people of the union and their congress were at peace with all of the world this year"
    german = "das Volk und sein Kongress lebten in diesem Jahr in Frieden mit der ganzen Welt und sich selbst"
    named = selection(languages=["en"], language_field="lang")
    assert kept(named, german, english, languages=("en", "de")) == [german]
    assert named.left_out == {"language": 1}
    assert kept(selection(languages=["en"]), german, english) == [english]


@pytest.mark.parametrize(("weight", "times"), [(0.0, 0), (1.0, 1), (2.0, 2), (3.25, 3)])
def test_a_document_is_written_as_often_as_its_weight_says(weight: float, times: int) -> None:
    """The hash of the text decides about the rest: its lower half is above a quarter of 2^64."""
    digest = xxhash.xxh3_128_intdigest(b"a text")
    assert digest % 2**64 > 2**62
    made = selection(weights={"books": weight}, source_field="source")
    documents = made.kept(Batch(["a text"], ["books"], []))
    assert [document.times for document in documents] == ([times] if times else [])
    assert made.left_out == ({} if times else {"weight": 1})


def test_a_source_without_a_weight_is_written_once() -> None:
    made = selection(weights={"books": 5.0}, source_field="source")
    documents = made.kept(Batch(["a text", "other"], ["web", ""], []))
    assert [document.times for document in documents] == [1, 1]


@pytest.mark.parametrize(
    ("lower", "weight", "times"),
    [
        (0, 0.5, 1),
        (2**63 - 1, 0.5, 1),
        (2**63, 0.5, 0),
        (2**64 - 1, 1.999, 1),
        (0, 1.001, 2),
        (2**64 - 1, 2.0, 2),
    ],
)
def test_a_fraction_is_the_chance_of_the_lower_half(lower: int, weight: float, times: int) -> None:
    upper = 0xFFFF << 64
    assert copies(upper | lower, weight) == times


@pytest.mark.parametrize(
    ("upper", "is_val"), [(0, True), (2**62 - 1, True), (2**62, False), (2**64 - 1, False)]
)
def test_the_upper_half_decides_about_the_split(upper: int, is_val: bool) -> None:
    assert is_validation(upper << 64 | (2**64 - 1), 0.25) == is_val
    assert not is_validation(upper << 64, 0.0)
    assert is_validation(upper << 64, 1.0)


def test_validation_has_each_document_once_whatever_its_weight() -> None:
    made = selection(validation_share=1.0, weights={"": 7.0})
    (document,) = made.kept(Batch(["a text"], [], []))
    assert (document.split, document.times) == ("val", 1)


def test_the_sources_own_validation_files_are_the_split_instead_of_a_share() -> None:
    made = selection(validation_share=1.0, validation_files=["valid/*"])
    (training,) = made.kept(Batch(["a text"], [], []))
    (validation,) = made.kept(Batch(["a text"], [], []), is_from_validation=True)
    assert (training.split, validation.split) == ("train", "val")


def test_a_training_document_that_is_in_the_validation_split_is_left_out() -> None:
    texts = [f"text {number}" for number in range(5)]
    halves = {text: xxhash.xxh3_128_intdigest(text.encode()) >> 64 for text in texts}
    # The smallest and the largest: their places are the ends of what is searched.
    ordered = sorted(texts, key=halves.__getitem__)
    held_out = np.array(sorted([halves[ordered[0]], halves[ordered[-1]]]), np.uint64)
    made = selection(held_out=held_out, validation_files=["valid/*"])
    assert sorted(kept(made, *texts)) == sorted(ordered[1:-1])
    assert made.left_out == {"in validation": 2}
    assert len(made.kept(Batch(texts, [], []), is_from_validation=True)) == 5


class Repeats:
    """Calls every document with an odd number a duplicate, and notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def reasons(self, first: int, count: int) -> dict[int, str]:
        self.asked.append((first, count))
        return {number: "exact duplicate" for number in range(first, first + count) if number % 2}


def test_duplicates_are_numbered_among_what_the_filters_keep_over_all_batches() -> None:
    repeats = Repeats()
    made = selection(repeated=repeats, min_characters=2)
    chosen = []
    for texts in (["aa", "x", "bb", "cc"], ["x"], ["dd", "ee"]):
        chosen += [text for part in made.choose(Batch(texts, [], [])) for text in part.texts]

    assert repeats.asked == [(0, 3), (3, 0), (3, 2)]
    assert chosen == ["aa", "cc", "ee"]
    assert made.left_out == {"short": 2, "exact duplicate": 2}


def test_each_split_has_its_documents_in_their_order_and_an_empty_one_is_left_out() -> None:
    texts = [f"text {number}" for number in range(40)]
    chosen = selection(validation_share=0.5).choose(Batch(texts, [], []))
    assert [part.split for part in chosen] == ["train", "val"]
    assert sorted(chosen[0].texts + chosen[1].texts) == sorted(texts)
    assert all(part.texts == sorted(part.texts, key=texts.index) for part in chosen)
    assert [part.split for part in selection().choose(Batch(["a"], [], []))] == ["train"]
    assert selection().choose(Batch([], [], [])) == []


def test_evidence_counts_before_the_filters_and_remembers_a_bounded_number_of_names() -> None:
    made = selection(min_characters=100)
    made.kept(Batch(["a", "b", "c"], ["books", "", "web"], ["", "", "en"]))
    assert made.evidence == Evidence(
        documents=3, labelled=2, with_language=1, labels={"books", "web"}, languages={"en"}
    )
    more = Evidence(documents=2, labelled=2, labels={"news"}, languages={"de"}, with_language=2)
    more.add(made.evidence)
    assert (more.documents, more.labelled, more.with_language) == (5, 4, 3)
    assert (more.labels, more.languages) == ({"news", "books", "web"}, {"de", "en"})

    many = Evidence(labels={str(number) for number in range(MOST_NAMES)})
    many.add(made.evidence)
    assert "books" not in many.labels
    assert many.languages == {"en"}
