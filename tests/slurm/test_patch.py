"""``--patch`` on a real Slurm: a job runs the copy that was made at submission, whatever becomes of the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs import submission
from jobctl.jobs.spec.patch import describe
from tests.checkout import checkout, patched
from tests.slurm.conftest import Submitter


def test_a_patched_job_and_its_resumption_run_the_copy_even_if_submitted_in_the_checkout(
    slurm_runs: Submitter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = checkout(tmp_path / "tree", "import sys\nprint('first version')\nsys.exit(3)\n")
    monkeypatch.chdir(tree)
    patch = describe(tree)
    submission.submit(patched(slurm_runs.spec("patched", None), tree))
    assert slurm_runs.wait("patched", "failed", "finished").exit_code == 3, slurm_runs.log("patched")
    (tree / "trainer/launch.py").write_text("print('second version')\n")
    submission.resume(slurm_runs.root, "patched")
    slurm_runs.until(lambda: slurm_runs.status("patched").attempt == 2, "a second attempt", 60)
    assert slurm_runs.wait("patched", "failed", "finished").exit_code == 3, slurm_runs.log("patched")
    versions = [line for line in slurm_runs.log("patched") if "version" in line]
    assert versions == ["first version"] * 2
    assert slurm_runs.read("patched").record.spec.patch == patch
