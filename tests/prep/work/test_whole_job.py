from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources.listing import Source, listed_files
from jobctl.prep.work import job as jobs
from jobctl.prep.work import whole_job
from jobctl.prep.work.claims import Claims
from jobctl.prep.work.origin import Origin
from jobctl.prep.work.progress import Tally
from jobctl.prep.work.stages import stages
from jobctl.prep.work.unit import UnitJob
from jobctl.prep.work.whole_job import beside, manifest_of, run, show_on, status_of, work_of, work_through
from tests.prep.conftest import MakeUnit, lines, some_texts


def test_what_is_done_beside_is_done_by_another_process_when_the_block_ends(tmp_path: Path) -> None:
    with beside(lambda: (tmp_path / "by").write_text(str(os.getpid()))):
        pass
    assert int((tmp_path / "by").read_text()) != os.getpid()


def test_what_fails_beside_is_left_to_who_asks_for_it(capfd: pytest.CaptureFixture[str]) -> None:
    with beside(lambda: 1 // 0):
        pass
    assert capfd.readouterr().err == ""


class Shown:
    """Notes the lines of progress."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, bool]] = []

    def __call__(self, line: str, final: bool) -> None:
        self.lines.append((line, final))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jsonl").write_bytes(lines(some_texts(20, number)))
    return folder


@pytest.fixture
def work(unit_job: MakeUnit, folder: Path) -> UnitJob:
    return unit_job(folder, shard_bytes=2000, workers=1)


def sources_of(folder: Path) -> list[Source]:
    return listed_files([folder], []).sources


def test_the_manifest_is_made_by_one_node_and_read_by_the_next(work: UnitJob, folder: Path) -> None:
    record = jobs.work_dir(work.output) / "manifest.json"
    record.unlink()
    first = Shown()
    made = manifest_of(work.output, work.job, sources_of(folder), 1, first)
    assert first.lines[-1] == (f"manifest: 3 files, {made.size / 1e6:,.1f} MB", True)
    written = record.stat().st_mtime_ns

    second = Shown()
    assert manifest_of(work.output, work.job, sources_of(folder), 1, second) == made
    assert (second.lines, record.stat().st_mtime_ns) == ([], written)


def test_a_node_that_sees_other_files_than_the_manifest_says_so(work: UnitJob, folder: Path) -> None:
    (folder / "3.jsonl").write_bytes(lines(["late"]))
    with pytest.raises(UserError, match=r"are not those of the manifest: 3\.jsonl was added"):
        manifest_of(work.output, work.job, sources_of(folder), 1, Shown())


def test_a_worker_does_every_task_of_every_stage_that_is_left(work: UnitJob) -> None:
    for stage in stages(work):
        stage.do(1, lambda size, tokens: None)

    work_through(work, rank=0, ranks=1, slot=0)
    for stage in stages(work):
        assert stage.undone(range(stage.count)) == []
    assert list((jobs.work_dir(work.output) / "claims").glob("tokenizing-*")) == []


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_workers_of_all_nodes_begin_at_different_tasks(
    work: UnitJob, monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    """Two that begin at one task would both look for another."""
    firsts: list[int] = []

    def begin(stage: object, claims: Claims, first: int, do: object) -> bool:
        firsts.append(first)
        return False

    monkeypatch.setattr(whole_job, "work_off", begin)
    many = dataclasses.replace(work, units=work.units * 20)
    for rank in range(ranks):
        for slot in range(4):
            work_through(many, rank, ranks, slot)
    assert len(set(firsts)) == 4 * ranks
    assert max(firsts) < len(many.units)


def test_the_status_is_that_of_the_first_stage_that_is_not_done(work: UnitJob) -> None:
    tally = Tally(work.output)
    now = status_of(work, tally)
    assert (now.state, now.tasks_done, now.tasks) == ("tokenizing", 0, len(work.units))
    (stage,) = stages(work)
    stage.do(0, lambda size, tokens: None)
    assert status_of(work, tally).tasks_done == 1


def test_a_job_whose_manifest_is_being_made_is_at_its_manifest(work: UnitJob) -> None:
    (jobs.work_dir(work.output) / "manifest.json").unlink()
    now = whole_job.status(work.output)
    assert (now.state, now.tasks, now.share) == ("manifest", 0, 0.0)


def done(work: UnitJob, folder: Path, shown: Shown, checksums: bool = False) -> str:
    """Run the job to its end and return the fingerprint of what it made."""
    origin = Origin(root=str(folder.parent / "root"), sources=(str(folder),))
    sources = sources_of(folder)
    meta = run(
        work.output,
        work.job,
        sources,
        lambda: sources,
        work.encoders,
        shown,
        origin=origin,
        checksums=checksums,
    )
    return meta.fingerprint


def test_a_finished_job_is_not_done_again_and_its_lists_are_cleared(work: UnitJob, folder: Path) -> None:
    shown = Shown()
    first = done(work, folder, shown)
    assert shown.lines[-1][1]
    assert shown.lines[-1][0].startswith("finished [")
    shard = min(work.output.glob("*.bin"))
    before = shard.stat().st_mtime_ns

    # An attempt that was killed after its meta leaves its lists.
    (jobs.work_dir(work.output) / "keys").mkdir()
    again = Shown()
    assert done(work, folder, again) == first
    assert shard.stat().st_mtime_ns == before
    assert not (jobs.work_dir(work.output) / "keys").exists()
    assert [line for line, _ in again.lines if "tokenizing" in line] == []


def test_only_a_check_of_the_bytes_finds_a_shard_of_the_right_size_and_repairs_it(
    work: UnitJob, folder: Path
) -> None:
    first = done(work, folder, Shown())
    shard = max(work.output.glob("train*.bin"))
    right = shard.read_bytes()
    shard.write_bytes(bytes(len(right)))

    shown = Shown()
    done(work, folder, shown)
    assert shard.read_bytes() != right
    assert done(work, folder, shown, checksums=True) == first
    assert shard.read_bytes() == right
    assert ("1 task must be done again: shards are missing or damaged", True) in shown.lines


def test_the_work_is_the_same_on_every_node(work: UnitJob, folder: Path) -> None:
    manifest = manifest_of(work.output, work.job, sources_of(folder), 1, Shown())
    again = work_of(work.output, work.job, manifest, sources_of(folder)[::-1], work.encoders)
    assert again.units == work.units
    assert again.files.keys() == {"0.jsonl", "1.jsonl", "2.jsonl"}


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_rewrites_a_line_of_a_terminal_and_is_rare_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    now = 1000.0
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.setattr("jobctl.prep.work.whole_job.time.monotonic", lambda: now)
    show = show_on()
    for line in ("one", "two"):
        show(line, False)
    now += 11
    show("three", False)
    show("four", True)
    clear = "\r\x1b[K"
    expected = f"{clear}one{clear}two{clear}three{clear}four\n" if terminal else "one\nthree\nfour\n"
    assert capsys.readouterr().err == expected
