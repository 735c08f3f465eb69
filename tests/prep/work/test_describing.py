from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources import manifest as manifests
from jobctl.prep.sources.listing import Source, listed_files
from jobctl.prep.work import describing
from jobctl.prep.work.claims import Claims
from jobctl.prep.work.job import work_dir
from jobctl.prep.work.plan import cuts
from tests.prep.conftest import MakeUnit, lines, some_texts

SHARD = 2000


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jsonl").write_bytes(lines(some_texts(50, number)))

    return listed_files([folder], []).sources


def stage_of(unit_job: MakeUnit, sources: list[Source]) -> tuple[describing.Stage, Claims]:
    work = unit_job(sources[0].path.parent, shard_bytes=SHARD)
    stage = describing.describing(work.output, work.job, sources)
    return stage, Claims(work_dir(work.output) / "claims", stale=60)


def test_several_nodes_share_the_reading_and_agree(
    unit_job: MakeUnit, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describing, "TASK_BYTES", 5000)
    stage, claims = stage_of(unit_job, sources)
    assert stage.count > 3

    fork = multiprocessing.get_context("fork")
    nodes = [
        fork.Process(target=describing.describe, args=(stage, claims, 2, lambda size: None)) for _ in range(3)
    ]
    for node in nodes:
        node.start()
    for node in nodes:
        node.join()

    assert [node.exitcode for node in nodes] == [0, 0, 0]
    made = manifests.combined(sources, describing.all_described(stage, sources))
    alone = manifests.make(sources, 1, cut=lambda source, size: cuts(source.name, size, SHARD))
    assert made == alone
    assert all(len(digests) > 1 for digests in made.pieces.values())


def test_progress_counts_every_byte_once(unit_job: MakeUnit, sources: list[Source]) -> None:
    stage, claims = stage_of(unit_job, sources)
    told: list[int] = []
    describing.describe(stage, claims, 1, told.append)
    assert told[-1] == stage.size == sum(source.path.stat().st_size for source in sources)
    assert told == sorted(told)


def test_a_file_that_comes_while_the_manifest_is_made_is_an_error(
    unit_job: MakeUnit, sources: list[Source], tmp_path: Path
) -> None:
    stage, claims = stage_of(unit_job, sources)
    describing.describe(stage, claims, 1, lambda size: None)
    late = Source("late.jsonl", tmp_path / "late.jsonl")
    for listed, name in (([*sources, late], "late.jsonl"), (sources[1:], "0.jsonl")):
        with pytest.raises(UserError, match=f"source {name} came or went"):
            describing.all_described(stage, listed)


def test_small_files_share_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing, "TASK_BYTES", 25)
    monkeypatch.setattr(describing, "TASK_FILES", 4)
    parts = []
    for number, size in enumerate([10, 10, 10, 30, 1, 1, 1, 1, 1]):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(b"x" * size)
        parts.append(manifests.Part(Source(path.name, path)))

    assert [len(task) for task in describing.tasks_of(parts)] == [3, 1, 4, 1]


def test_without_a_file_to_read_there_is_no_task(unit_job: MakeUnit, sources: list[Source]) -> None:
    work = unit_job(sources[0].path.parent)
    known = [source._replace(sha256="ab" * 32) for source in sources]
    stage = describing.describing(work.output, work.job, known)
    describing.describe(stage, Claims(work_dir(work.output) / "claims", stale=60), 2, print)
    assert stage.count == 0
    assert [file.sha256 for file in manifests.combined(known, []).files] == ["ab" * 32] * 3
