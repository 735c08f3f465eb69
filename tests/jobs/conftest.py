"""A root of its own for each test, and a payload that is quick: a Python that is a shell script."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "root with 'odd' name"
    monkeypatch.setenv("JOBCTL_ROOT", str(path))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def job(root: Path, tmp_path: Path) -> Callable[..., JobSpec]:
    """``job(body, run=…)``: a local smoke job whose Python runs ``body`` as a shell script."""
    numbers = itertools.count()

    def make(body: str, sets: tuple[str, ...] = (), **choices: object) -> JobSpec:
        # A file for each job: an earlier one may be running, and Linux refuses to write what runs.
        python = tmp_path / f"python-{next(numbers)}"
        python.write_text(f"#!/bin/bash\n{body}\n")
        python.chmod(0o755)
        options = {"model": "qwen3_smoke", "run": "r", "sets": (f"python={python}", *sets), **choices}
        return resolve(Choices(**options), version="0.0.0", root=str(root)).spec  # type: ignore[arg-type]

    return make
