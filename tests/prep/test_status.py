"""The progress of a job, asked for by its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep import status
from jobctl.prep.shards.format import open_dataset
from jobctl.prep.work import whole_job
from tests.prep.conftest import MakeUnit, lines, run_prep, some_texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.jsonl").write_bytes(lines(some_texts(150, number)))
    return folder


def test_a_finished_job_says_so_with_its_tokens(
    root: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--source", folder, "--shard-bytes", "20000"]
    run_prep("--dataset", "mine", "--tokenizer", "gpt2", "--root", root, *given)
    output = root / "datasets" / "mine-gpt2"
    assert status.main([str(output), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["state"] == "finished"
    assert said["share"] == 1.0
    assert said["tasks_done"] == said["tasks"] > 1
    assert said["tokens"] == open_dataset(output).meta.tokens

    assert status.main([str(output)]) == 0
    assert "100.0%" in capsys.readouterr().out


def test_a_job_that_has_begun_shows_its_stage_and_what_is_done(
    folder: Path, unit_job: MakeUnit, capsys: pytest.CaptureFixture[str]
) -> None:
    work = unit_job(folder, shard_bytes=20000)
    (first, *_) = whole_job.stages(work)
    first.do(0, lambda bytes_read, tokens: None)
    assert status.main([str(work.output), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["state"] == first.name
    assert (said["tasks_done"], said["tasks"]) == (1, first.count)
    assert 0 < said["share"] < 1


def test_a_folder_that_no_job_writes_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"was not prepared by python -m jobctl\.prep"):
        status.main([str(tmp_path)])
