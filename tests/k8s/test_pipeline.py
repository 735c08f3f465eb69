"""``jobctl pipeline --wait``: who waits submits each step, and called again goes on where it ended."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobctl.jobs.cli import jobctl
from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import SMOKE, jobctl_says, until

WITHOUT = [word for step in ("tokenizer", "preflight", "eval") for word in ("--skip", step)]
SHORT = ["pipeline", *SMOKE, "--run", "pipe", *WITHOUT, "--wait"]


def test_a_pipeline_is_driven_by_who_waits(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster('echo "$*" >>"$JOBCTL_ROOT/said"; exit 0')
    words = ["pipeline", *SMOKE, "--run", "pipe", "--wait"]
    code, _, err = jobctl_says(capfd, *words)
    assert code == 0, err
    modules = [line.split()[1] for line in (server.volume / "said").read_text().splitlines()]
    assert modules == [
        "jobctl.prep.fetch", "jobctl.prep", "jobctl.trainer.preflight",
        "jobctl.trainer.launch", "jobctl.trainer.launch", "jobctl.trainer.export",
    ]  # fmt: skip
    assert jobctl_says(capfd, "status", "pipe")[1].count("finished") == 6
    assert jobctl_says(capfd, *words)[0] == 0
    assert len((server.volume / "said").read_text().splitlines()) == len(modules), (
        "what is done is not done again"
    )


@pytest.mark.parametrize("module", ["jobctl.trainer.launch", "jobctl.trainer.export"])
def test_a_pipeline_that_failed_goes_on_where_it_ended(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], module: str
) -> None:
    cluster(
        f'echo "$2" >>"$JOBCTL_ROOT/said"; [ "$2" != {module} ] || [ -e "$JOBCTL_ROOT/mended" ] || exit 2; exit 0'
    )
    assert jobctl_says(capfd, *SHORT)[0] == 2
    (server.volume / "mended").touch()
    code, _, err = jobctl_says(capfd, *SHORT)
    assert code == 0, err
    whole = ["jobctl.prep", "jobctl.trainer.launch", "jobctl.trainer.export"]
    at = whole.index(module)
    assert (server.volume / "said").read_text().split() == [*whole[: at + 1], *whole[at:]]


def test_a_pipeline_that_was_cancelled_goes_on_where_it_ended(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wait = 'touch "$JOBCTL_ROOT/up"; until [ -e "$run_dir/STOP" ]; do sleep 0.05; done; exit 200'
    cluster(f'[ "$2" != jobctl.trainer.launch ] || [ -e "$JOBCTL_ROOT/up" ] || {{ {wait}; }}; exit 0')
    codes: list[int] = []
    waiting = threading.Thread(target=lambda: codes.append(CliRunner().invoke(jobctl, SHORT).exit_code))
    waiting.start()
    until((server.volume / "up").exists, seconds=60)
    until((tmp_path / "home/runs/pipe-train/run.json").exists)  # the pod was faster than who waits
    assert CliRunner().invoke(jobctl, ["cancel", "pipe"]).exit_code == 0
    waiting.join(120)
    assert (codes, jobctl_says(capfd, *SHORT)[0]) == ([1], 0)
