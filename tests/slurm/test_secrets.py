"""Secrets reach a job on a real Slurm, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clusters.machine import process_ids
from tests.slurm.conftest import Submitter
from tests.slurm.test_attempts import ENDED

SECRET = "hf_$(touch pwned)`touch pwned`'\" x"


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    file = tmp_path / "secrets"
    file.write_text(f"# mine\nHF_TOKEN={SECRET}\nPATH=/nowhere\n")
    file.chmod(0o600)
    return file


def command_lines() -> str:
    """What ``ps`` shows of every process of the machine."""
    found = []
    for pid in process_ids():
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def submit(runs: Submitter, file: Path) -> None:
    body = 'printf "%s" "$HF_TOKEN" >"$RUN_DIR/seen"; until [ -e "$RUN_DIR/go" ]; do sleep 0.1; done'
    runs.submit("alpha", body, pass_env="[HF_TOKEN]", secrets_file=file)


def test_a_file_of_the_users_own_is_read_as_data_and_shown_nowhere(
    slurm_runs: Submitter, secrets: Path
) -> None:
    submit(slurm_runs, secrets)
    run = slurm_runs.root / "runs/alpha"
    slurm_runs.until(lambda: (run / "seen").exists() and (run / "seen").read_text() != "", "the token", 60)
    shown = command_lines()
    (run / "go").touch()
    assert slurm_runs.wait("alpha", *ENDED).state == "finished"
    assert (run / "seen").read_text() == SECRET
    assert "touch pwned" not in shown
    (run / "seen").unlink()
    kept = "".join(p.read_text(errors="replace") for p in run.rglob("*") if p.is_file())
    assert "touch pwned" not in kept
    assert not list(slurm_runs.root.parent.rglob("pwned"))


def test_the_users_environment_comes_before_the_file(
    slurm_runs: Submitter, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "mine")
    submit(slurm_runs, secrets)
    run = slurm_runs.root / "runs/alpha"
    slurm_runs.until(
        lambda: (run / "seen").exists() and (run / "seen").read_text() == "mine", "the token", 60
    )


def test_a_file_that_others_may_read_is_refused(slurm_runs: Submitter, secrets: Path) -> None:
    secrets.chmod(0o640)
    submit(slurm_runs, secrets)
    status = slurm_runs.wait("alpha", *ENDED)
    assert status.state == "failed"
    assert "slurm.out" in status.detail
    said = (slurm_runs.root / "runs/alpha/logs/slurm.out").read_text()
    assert f"{secrets} can be read by others: chmod 600 {secrets}" in said
