from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import read_meta
from jobctl.prep.sources.documents import field_names
from jobctl.prep.sources.listing import listed_files
from jobctl.prep.work import merge as merging
from jobctl.prep.work.stages import stages
from jobctl.prep.work.unit import record_file
from tests.prep.conftest import MakeUnit, lines, some_texts
from tests.prep.work.test_unit import finish, merged


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    records = lines(some_texts(20), meta={"set": "books", "lang": "en"}, id=1)
    (folder / "a.jsonl").write_bytes(records)
    return folder


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source_field": "meta.sett"}, r"--source-field: .* 'meta.sett'\n.*did you mean 'meta.set'"),
        ({"language_field": "meta.lng", "languages": ["en"]}, r"--language-field: .*\n.*'meta.lang'"),
        (
            {"source_field": "meta.set", "weights": {"boks": 2.0}},
            r"--weights: no document's source is 'boks'\n.*did you mean 'books'",
        ),
        (
            {"language_field": "meta.lang", "languages": ["en", "english"]},
            r"--languages: no document's language is 'english'",
        ),
        ({"min_characters": 10_000}, "no document was kept; left out: short 20"),
    ],
)
def test_a_name_or_a_filter_that_matches_nothing_is_an_error(
    folder: Path, unit_job: MakeUnit, options: dict[str, object], said: str
) -> None:
    work = unit_job(folder, **options)
    with pytest.raises(UserError, match=said):
        finish(work, folder)
    assert not (work.output / "meta.json").exists()


def test_sources_without_a_document_are_an_error(tmp_path: Path, unit_job: MakeUnit) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.jsonl").write_bytes(b"")
    with pytest.raises(UserError, match="no document was kept: the sources have none"):
        finish(unit_job(tmp_path / "empty"), tmp_path / "empty")


def test_names_that_match_before_the_filters_are_right(folder: Path, unit_job: MakeUnit) -> None:
    work = unit_job(folder, source_field="meta.set", weights={"books": 2.0}, validation_share=0.0)
    finish(work, folder)
    assert (work.output / "meta.json").exists()


def test_the_message_says_why_lines_were_rejected(folder: Path, unit_job: MakeUnit) -> None:
    work = unit_job(folder, text_field="content")
    with pytest.raises(
        UserError, match=r"first: a.jsonl line 1: it has no field 'content'; its fields: text"
    ):
        finish(work, folder)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Sources of four units."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jsonl").write_bytes(lines(some_texts(20, number)))
    return folder


def test_units_that_are_missing_are_counted_and_nothing_is_called_finished(
    parts: Path, unit_job: MakeUnit
) -> None:
    work = unit_job(parts, shard_bytes=5000)
    finish(work, parts)
    (work.output / "meta.json").unlink()
    for index in (1, 2):
        record_file(work.output, "tokenizing", index).unlink()
    with pytest.raises(UserError, match=r"2 of 4 shards are not done; the first: 1") as refused:
        merged(work, parts)
    assert "finished work is kept" in refused.value.hint
    assert not (work.output / "meta.json").exists()


def test_a_damaged_record_is_named_with_what_to_delete(parts: Path, unit_job: MakeUnit) -> None:
    work = unit_job(parts, shard_bytes=5000)
    finish(work, parts)
    path = record_file(work.output, "tokenizing", 1)
    path.write_text("{")
    with pytest.raises(UserError, match=r"00001\.json is damaged") as refused:
        merged(work, parts)
    assert refused.value.hint == f"delete {path} and run the job again"


@pytest.mark.parametrize("damage", ["gone", "short", "long"])
def test_a_shard_that_a_disk_lost_after_its_record_is_not_called_finished(
    parts: Path, unit_job: MakeUnit, damage: str
) -> None:
    work = unit_job(parts, shard_bytes=5000)
    finish(work, parts)
    (work.output / "meta.json").unlink()
    shard = max(work.output.glob("train*.bin"))
    data = shard.read_bytes()
    shard.unlink()
    if damage != "gone":
        shard.write_bytes(data[:-2] if damage == "short" else data + b"  ")
    with pytest.raises(UserError, match=rf"shard .*{shard.name}"):
        merged(work, parts)
    assert not (work.output / "meta.json").exists()


def test_a_source_that_changed_during_the_job_is_found_at_its_end(parts: Path, unit_job: MakeUnit) -> None:
    work = unit_job(parts, shard_bytes=5000)
    for stage in stages(work):
        for index in range(stage.count):
            stage.do(index, lambda size, tokens: None)
    with open(parts / "1.jsonl", "ab") as file:
        file.write(b"{}\n")
    with pytest.raises(UserError, match=r"1\.jsonl changed: "):
        merged(work, parts)


def test_what_killed_workers_left_is_removed_at_the_end_and_shards_are_not(
    parts: Path, unit_job: MakeUnit
) -> None:
    work = unit_job(parts, shard_bytes=5000)
    leftover = work.output / ".train-00001-of-00004.bin.0123.partial"
    leftover.write_bytes(b"half")
    (work.output / ".notes").write_text("the user's")
    finish(work, parts)
    assert not leftover.exists()
    assert (work.output / ".notes").exists()
    assert {shard.file for shard in read_meta(work.output).shards} == {
        path.name for path in work.output.glob("*.bin")
    }


@pytest.mark.parametrize(("share", "refused"), [(0.25, False), (0.24, True)])
def test_broken_lines_are_a_share_of_all_lines(
    tmp_path: Path, unit_job: MakeUnit, share: float, refused: bool
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines(["one", "two", "three"]) + b"{\n")
    work = unit_job(folder, max_reject_share=share, validation_share=0.0)
    if not refused:
        finish(work, folder)
        assert read_meta(work.output).documents == 3
        return

    with pytest.raises(UserError, match=r"1 of 4 source lines are broken, more than the share of 0\.24"):
        finish(work, folder)
    assert (work.output / "rejects.jsonl").read_bytes().count(b"\n") == 1, "the message says to look at it"


def test_the_meta_is_the_last_file_that_is_written(
    parts: Path, unit_job: MakeUnit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers take the data set as whole as soon as it exists."""
    work = unit_job(parts, shard_bytes=5000)
    present: list[set[str]] = []
    write_meta = merging.write_meta

    def noted(output: Path, meta: object) -> object:
        present.append({path.name for path in output.iterdir()})
        return write_meta(output, meta)  # type: ignore[arg-type]

    monkeypatch.setattr(merging, "write_meta", noted)
    finish(work, parts)
    (before,) = present
    after = {path.name for path in work.output.iterdir()}
    assert after - before == {"meta.json", "meta.pkl"}
    assert {"statistics.json", "litdata"} <= before


def test_the_names_for_a_wrong_field_are_those_of_the_sources(folder: Path) -> None:
    assert {"text", "meta.set", "meta.lang", "id"} <= set(field_names(listed_files([folder], []).sources))
