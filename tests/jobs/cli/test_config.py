"""``jobctl config init`` writes a project file that jobctl reads."""

from __future__ import annotations

import json
from pathlib import Path

from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]


def test_the_file_is_read_by_every_command(jobctl: Invoke, root: Path, tmp_path: Path) -> None:
    code, _, err = jobctl(
        "config", "init", "--model", "llama3_2.2b", "--target", "slurm", "--hardware", "h100"
    )
    assert code == 0, err
    assert "#SBATCH --job-name=" in jobctl("render")[1]
    steps = json.loads(jobctl("pipeline", "--dry-run", "--json")[1])
    assert steps["name"].startswith("llama3_2.2b-")
    settings = json.loads(jobctl("explain", "--json")[1])["settings"]
    assert settings["batch_size"]["from"].startswith("hardware h100")


def test_what_is_not_chosen_is_a_comment(jobctl: Invoke, root: Path, tmp_path: Path) -> None:
    jobctl("config", "init")
    lines = (tmp_path / "jobctl.yaml").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines[1:5]] == ["target", "# site", "# hardware", "# model"]


def test_a_file_that_is_there_stays(jobctl: Invoke, root: Path, tmp_path: Path) -> None:
    (tmp_path / "jobctl.yaml").write_text("target: slurm\n")
    code, _, err = jobctl("config", "init")
    assert (code, "exists already" in err) == (2, True)
    assert (tmp_path / "jobctl.yaml").read_text() == "target: slurm\n"


def test_a_wrong_name_is_refused_before_anything_is_written(
    jobctl: Invoke, root: Path, tmp_path: Path
) -> None:
    code, _, err = jobctl("config", "init", "--hardware", "h10")
    assert (code, "did you mean 'h100'" in err) == (2, True)
    assert not (tmp_path / "jobctl.yaml").exists()


def test_without_a_model_anywhere_a_pipeline_asks_for_one(jobctl: Invoke, root: Path) -> None:
    code, _, err = jobctl("pipeline", "--dry-run")
    assert (code, "no model chosen" in err) == (2, True)
