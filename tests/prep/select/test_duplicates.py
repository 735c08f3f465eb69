from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from jobctl.prep.select import duplicates
from jobctl.prep.select.duplicates import EXACT, NEAR, Repeated, band_keys, place, repeated, shingles
from jobctl.prep.shards.sorted_runs import write_run
from jobctl.prep.work.job import clear
from jobctl.prep.work.stages import guarded, stages
from tests.prep.conftest import MakeUnit, lines
from tests.prep.work.test_unit import documents_of, finish

VOCABULARY = [f"w{number}" for number in range(5000)]


def words(seed: int, count: int = 300) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=count)


def changed(text: list[str], share: float) -> list[str]:
    chance = random.Random(99)
    return [chance.choice(VOCABULARY) if chance.random() < share else word for word in text]


def shared(a: list[str], b: list[str]) -> int:
    return len(set(band_keys(" ".join(a))) & set(band_keys(" ".join(b))))


def test_texts_of_nearly_the_same_words_share_keys_and_others_do_not() -> None:
    pairs = [(words(seed), words(seed)) for seed in range(20)]
    assert sum(shared(a, changed(b, 0.01)) > 0 for a, b in pairs) >= 19
    assert sum(shared(a, changed(b, 0.5)) > 0 for a, b in pairs) == 0
    assert shared(words(1), words(2)) == 0


def test_case_and_punctuation_do_not_matter_and_a_text_without_words_has_no_keys() -> None:
    assert band_keys("The state of the Union, 1790!") == band_keys("the STATE of the union 1790")
    assert band_keys("... !!") == []
    assert band_keys("two words") == band_keys("Two words.")
    assert set(band_keys("日本語のテキストです")) & set(band_keys("日本語のテキストです。"))


@pytest.mark.parametrize("count", [1, 4, 5, 9, 10, 11, 40])
def test_shingles_of_a_long_text_come_in_parts(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    text = " ".join(f"w{number}" for number in range(count))
    (whole,) = shingles(text)
    assert len(whole) == max(count - 4, 1)
    monkeypatch.setattr(duplicates, "TAKEN", 5)
    assert [item for some in shingles(text) for item in some] == whole


def test_every_place_but_a_keys_first_is_a_repetition() -> None:
    columns = np.array([[1, 1, 1, 2, 2, 3], [5, 5, 6, 7, 7, 8], [40, 30, 20, 12, 10, 1]], np.uint64)
    assert repeated(columns).tolist() == [12, 40]


def test_a_unit_finds_its_own_and_the_same_text_is_said_to_be_so(tmp_path: Path) -> None:
    places = [place(2, 0, NEAR), place(3, 7, EXACT), place(3, 7, NEAR), place(3, 9, NEAR), place(4, 1, EXACT)]
    write_run(tmp_path / "0.npy", np.array([places[:3]], np.uint64))
    write_run(tmp_path / "1.npy", np.array([places[3:]], np.uint64))
    found = Repeated([tmp_path / "0.npy", tmp_path / "1.npy"], 3)
    assert found.reasons(0, 100) == {7: "duplicate", 9: "near-duplicate"}
    assert found.reasons(8, 2) == {9: "near-duplicate"}
    assert found.reasons(10, 5) == {}


@pytest.mark.parametrize("kind", ["keep", "exact", "near"])
def test_the_first_of_equal_documents_stays_wherever_the_others_are(
    tmp_path: Path, unit_job: MakeUnit, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "KEYS_A_PART", 300)
    monkeypatch.setattr(duplicates, "KEYS_A_RUN", 100)
    folder = tmp_path / "source"
    folder.mkdir()
    texts = [" ".join(words(seed)) for seed in range(60)]
    close = [" ".join(changed(words(seed), 0.01)) for seed in range(10)]
    (folder / "a.jsonl").write_bytes(lines(texts))
    (folder / "b.jsonl").write_bytes(lines([*texts[20:40], *close, texts[3]]))
    work = unit_job(folder, shard_bytes=20_000, duplicates=kind, validation_share=0.0)
    assert len(work.units) > 3
    finish(work, folder)
    found = documents_of(work.output, "train", work.encoders.reference._encoder)  # type: ignore[attr-defined]
    expected = {"keep": [*texts, *texts[20:40], *close, texts[3]], "exact": texts + close, "near": texts}[
        kind
    ]
    assert found == expected
    left_out = json.loads((work.output / "statistics.json").read_text())["left_out"]
    assert (
        left_out
        == {"keep": {}, "exact": {"duplicate": 21}, "near": {"duplicate": 21, "near-duplicate": 10}}[kind]
    )


def test_a_worker_that_wakes_when_the_job_is_over_changes_nothing(tmp_path: Path, unit_job: MakeUnit) -> None:
    """It was at the beginning of a task when it was suspended; the duplicates' list is gone by now."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines(["the same text"] * 50))
    work = unit_job(folder, duplicates="exact", validation_share=0.0)
    finish(work, folder)
    right = (work.output / "train.bin").read_bytes()
    clear(work.output)
    for stage in stages(work):
        guarded(stage, 0, lambda size, tokens: None)
    assert (work.output / "train.bin").read_bytes() == right
    assert not list(work.output.glob(".*.partial"))


def test_a_document_of_no_weight_does_not_hide_its_copy(tmp_path: Path, unit_job: MakeUnit) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(
        lines(["the same text"], set="web") + lines(["the same text"], set="books")
    )
    work = unit_job(
        folder, duplicates="exact", source_field="set", weights={"web": 0.0}, validation_share=0.0
    )
    finish(work, folder)
    said = json.loads((work.output / "statistics.json").read_text())
    assert {name: count["documents"] for name, count in said["by_source"].items()} == {"books": 1}
    assert said["left_out"] == {"weight": 1}
