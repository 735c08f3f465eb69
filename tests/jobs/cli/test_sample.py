"""``jobctl sample`` takes checkpoint and tokenizer from the run's record."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.cli import sample as module
from jobctl.jobs.spec.job_spec import JobSpec
from tests.jobs.cli.recorded import recorded
from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]

Job = Callable[..., JobSpec]


def test_a_run_writes_text_by_its_own_tokenizer(
    jobctl: Invoke, root: Path, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = recorded(root, job("true"))
    (run.path / "checkpoints").mkdir()
    (root / "tokenizers/gpt2").mkdir(parents=True)
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\nprintf "%s\\n" "$@" >words\nexit 3\n')
    python.chmod(0o755)
    monkeypatch.setenv("JOBCTL_PYTHON", str(python))
    assert jobctl("sample", "r", "--prompt", "It is", "--best", "--length", "5")[0] == 3
    assert (tmp_path / "words").read_text().splitlines() == [
        "-m", "jobctl.trainer.sample", str(run.path), f"--tokenizer={root}/tokenizers/gpt2",
        "--prompt=It is", "--max_new_tokens=5", "--temperature=0.8", "--seed=1337", "--best",
    ]  # fmt: skip


def test_a_tokenizer_that_is_gone_is_left_to_the_sampler(
    root: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOBCTL_PYTHON", raising=False)
    run = recorded(root, job("true"))
    (run.path / "checkpoints").mkdir()
    assert module.sample_words(run) == [sys.executable, "-m", "jobctl.trainer.sample", str(run.path)]


def test_a_run_without_a_checkpoint_says_so(jobctl: Invoke, root: Path, job: Job) -> None:
    recorded(root, job("true"))
    code, _, err = jobctl("sample", "r")
    assert code == 2
    assert "run 'r' has no checkpoint" in err
    recorded(root, job("true", run="p", kind="prep", model=None, named={"dataset": "sotu"}))
    assert "run 'p' is a prep and trains no model" in jobctl("sample", "p")[2]
