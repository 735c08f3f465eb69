from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.encode.encoder import Encoder
from jobctl.prep.select.selection import copies, document_hash, is_validation
from jobctl.prep.shards import output
from jobctl.prep.shards.format import Ids, open_dataset
from jobctl.prep.sources import manifest as manifests
from jobctl.prep.sources.listing import listed_files
from jobctl.prep.work.job import work_dir
from jobctl.prep.work.merge import merge
from jobctl.prep.work.stages import guarded, stages
from jobctl.prep.work.unit import UnitJob, prepare
from tests.prep.conftest import MakeUnit, lines, some_texts

TEXTS = some_texts(300)


def finish(work: UnitJob, folder: Path) -> None:
    for stage in stages(work):
        for index in range(stage.count):
            guarded(stage, index, lambda size, tokens: None)
    merged(work, folder)


def merged(work: UnitJob, folder: Path) -> None:
    manifest = manifests.load(work_dir(work.output))
    assert manifest
    merge(work, manifest, listed_files([folder], []).sources)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines(TEXTS))
    return folder


def documents_of(output: Path, split: str, reference: Encoder) -> list[str]:
    data = open_dataset(output, split)
    ids = data.read(0, data.num_tokens)
    ends = np.flatnonzero(ids == data.meta.eos_id) + 1
    return [reference.decode(part[:-1].tolist()) for part in np.split(ids, ends)[:-1]]  # type: ignore[attr-defined]


def test_what_is_written_is_what_was_read(folder: Path, unit_job: MakeUnit) -> None:
    work = unit_job(folder)
    finish(work, folder)
    validation = [text for text in TEXTS if is_validation(document_hash(text.encode()), 0.1)]
    training = [text for text in TEXTS if text not in validation]
    reference = work.encoders.reference._encoder  # type: ignore[attr-defined]
    assert documents_of(work.output, "val", reference) == validation
    assert documents_of(work.output, "train", reference) == training
    assert 10 < len(validation) < 60
    assert sorted(path.name for path in work.output.glob("*.bin")) == ["train.bin", "val.bin"]


def test_statistics_add_up(folder: Path, unit_job: MakeUnit) -> None:
    work = unit_job(folder, min_characters=20, max_characters=200)
    finish(work, folder)
    said = json.loads((work.output / "statistics.json").read_text())
    meta = open_dataset(work.output).meta
    kept = [text for text in TEXTS if 20 <= len(text) <= 200]
    assert sum(split["documents"] for split in said["splits"].values()) == meta.documents == len(kept)
    assert sum(split["tokens"] for split in said["splits"].values()) == meta.tokens
    assert meta.text_bytes == sum(len(text.encode()) for text in kept)
    assert sum(said["total"]["lengths"]) == meta.documents
    assert said["by_source"][""] == said["total"]
    assert said["left_out"] == {
        "short": sum(len(text) < 20 for text in TEXTS),
        "long": sum(len(text) > 200 for text in TEXTS),
    }


def test_weights_copy_and_thin_out_training_documents_by_their_source(
    tmp_path: Path, unit_job: MakeUnit
) -> None:
    folder = tmp_path / "weighted"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines(TEXTS[:150], set="books") + lines(TEXTS[150:], set="web"))
    work = unit_job(folder, source_field="set", weights={"books": 2.0, "web": 0.5}, validation_share=0.0)
    finish(work, folder)
    by_source = json.loads((work.output / "statistics.json").read_text())["by_source"]
    assert by_source["books"]["documents"] == 300
    assert 40 < by_source["web"]["documents"] < 110


def test_the_toss_of_a_fraction_is_the_documents_own() -> None:
    digests = [document_hash(str(number).encode()) for number in range(2000)]
    assert 1100 < sum(copies(digest, 0.6) for digest in digests) < 1300
    assert {copies(digest, 3.0) for digest in digests} == {3}
    assert {copies(digest, 0.0) for digest in digests} == {0}


def test_the_validation_hash_is_the_documented_one() -> None:
    """A change of it would move documents between splits of data sets that exist."""
    assert document_hash(b"") == 0x99AA06D3014798D86001C324468D497F
    assert document_hash(b"The Union") >> 64 == document_hash(b"The Union") >> 64
    share = sum(is_validation(document_hash(str(number).encode()), 0.05) for number in range(10_000)) / 10_000
    assert 0.04 < share < 0.06


def test_bos_goes_before_every_document_when_asked(folder: Path, unit_job: MakeUnit) -> None:
    import msgspec

    work = unit_job(folder, add_bos=True)
    tokens = msgspec.structs.replace(work.job.tokens, bos_id=1)
    work = UnitJob(**{**work.__dict__, "job": msgspec.structs.replace(work.job, tokens=tokens)})
    record = prepare(work, 0, lambda size, tokens: None)
    ids = np.fromfile(work.output / "train.bin", "<u2")
    ends = np.flatnonzero(ids == 50256)
    assert ids[0] == 1
    assert (ids[ends[:-1] + 1] == 1).all()
    assert len(ends) == record.shards[0].documents


class Wrong:
    """A fast encoder with a fault in one text."""

    name = "fastokens"

    def __init__(self, right: Encoder, fault: str) -> None:
        self.right, self.fault = right, fault

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        return [ids + (text == self.fault) for ids, text in zip(self.right.encode(texts), texts, strict=True)]


def test_an_encoder_that_is_caught_is_replaced_by_the_reference(folder: Path, unit_job: MakeUnit) -> None:
    work = unit_job(folder)
    right = prepare(work, 0, lambda size, tokens: None)
    encoders = SimpleNamespace(
        fast=Wrong(work.encoders.reference, TEXTS[0]),
        reference=work.encoders.reference,
        file=work.encoders.file,
        identity=work.encoders.identity,
    )
    faulty = UnitJob(**{**work.__dict__, "encoders": encoders})
    record = prepare(faulty, 0, lambda size, tokens: None)
    assert record.encoder == "tokenizers"
    assert record.shards == right.shards


def test_broken_lines_stand_in_the_reject_file_and_too_many_stop_the_job(
    tmp_path: Path, unit_job: MakeUnit
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines(TEXTS) + b'{"text": \n' * 3)
    work = unit_job(folder, max_reject_share=0.02)
    finish(work, folder)
    rejected = [json.loads(line) for line in (work.output / "rejects.jsonl").read_text().splitlines()]
    assert [item["line"] for item in rejected] == [301, 302, 303]
    assert json.loads((work.output / "statistics.json").read_text())["rejected"] == 3
    strict = unit_job_again(work, max_reject_share=0.001)
    with pytest.raises(UserError, match="3 of 303 source lines are broken"):
        finish(strict, folder)


def test_a_job_that_stops_in_the_middle_of_a_unit_leaves_its_broken_lines_to_look_at(
    tmp_path: Path, unit_job: MakeUnit
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines(TEXTS) + b'{"text": \n' * 3)
    (folder / "b.jsonl").write_bytes(b'{"text": \n' * 150 + lines(TEXTS))
    work = unit_job(folder, max_reject_share=0.02, shard_bytes=(folder / "a.jsonl").stat().st_size)
    assert len(work.units) > 1
    with pytest.raises(UserError, match=r"look at rejects\.jsonl"):
        finish(work, folder)
    rejected = [json.loads(line) for line in (work.output / "rejects.jsonl").read_text().splitlines()]
    assert [item["file"] for item in rejected] == ["a.jsonl"] * 3 + ["b.jsonl"] * 150
    finish(unit_job_again(work, max_reject_share=0.5), folder)
    assert len((work.output / "rejects.jsonl").read_text().splitlines()) == 153


def unit_job_again(work: UnitJob, **changes: object) -> UnitJob:
    import msgspec

    config = msgspec.structs.replace(work.job.config, **changes)
    return UnitJob(**{**work.__dict__, "job": msgspec.structs.replace(work.job, config=config)})


def test_a_full_disk_stops_cleanly_and_the_job_goes_on_later(
    folder: Path, unit_job: MakeUnit, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = unit_job(folder)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    stage = next(stages(work))
    with monkeypatch.context() as patch:
        patch.setattr(output.Series, "write", full)
        with pytest.raises(UserError, match=f"the disk of {work.output} is full"):
            guarded(stage, 0, lambda size, tokens: None)
    assert list(work.output.glob("*.bin")) == list(work.output.glob(".*partial")) == []
    finish(work, folder)
    assert open_dataset(work.output).num_tokens


def test_merging_what_is_not_done_says_so(folder: Path, unit_job: MakeUnit) -> None:
    work = unit_job(folder, shard_bytes=4000)
    prepare(work, 1, lambda size, tokens: None)
    from jobctl.prep.work.merge import records

    with pytest.raises(UserError, match=f"{len(work.units) - 1} of {len(work.units)} shards are not done"):
        records(work.output, len(work.units))


def test_two_nodes_may_merge_at_once(
    folder: Path, unit_job: MakeUnit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the files that one writes aside is about to get its name when the other does all of the merge."""
    work = unit_job(folder, shard_bytes=4000)
    finish(work, folder)
    right = {path.name: path.read_bytes() for path in work.output.iterdir() if path.is_file()}
    (work.output / "meta.json").unlink()
    replace = os.replace

    def late(aside: Path, path: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            merged(work, folder)
        replace(aside, path)

    monkeypatch.setattr(os, "replace", late)
    merged(work, folder)
    assert {path.name: path.read_bytes() for path in work.output.iterdir() if path.is_file()} == right


def test_the_shards_sizes_are_about_what_was_asked(folder: Path, unit_job: MakeUnit) -> None:
    work = unit_job(folder, shard_bytes=5000)
    size = (folder / "a.jsonl").stat().st_size
    assert len(work.units) == -(-size // 5000)
    finish(work, folder)
    sizes = [shard.text_bytes for shard in open_dataset(work.output).meta.shards if shard.split == "train"]
    assert max(sizes) < 3 * min(sizes)
