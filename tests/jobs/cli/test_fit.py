"""``jobctl fit`` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.cli import fit as verb
from jobctl.jobs.core import layout
from jobctl.jobs.monitoring.logfile import RunLog
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec
from jobctl.jobs.submission import store_for
from tests.jobs.cli.test_cli import Invoke, jobctl
from tests.jobs.monitoring.runs import start_line, training_lines, write_log
from tests.jobs.scaling.synthetic import points

__all__ = ["jobctl"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "points.csv"
    rows = [f"{p.parameters},{p.tokens},{p.loss}" for p in points(50, 0.003, seed=1)]
    file.write_text("\n".join(["N,D,loss", *rows]))
    return file


def test_a_law_is_fitted_written_and_planned_with(jobctl: Invoke, table: Path, tmp_path: Path) -> None:
    law = tmp_path / "mine.yaml"
    code, out, err = jobctl("fit", str(table), "-o", str(law), "--resamples", "40")
    assert code == 0
    assert "alpha" in out
    assert "jobctl plan --fit ./mine.yaml" in err
    code, out, _ = jobctl("plan", "--fit", str(law), "--flops", "1e21", "--family", "llama3", "--json")
    assert code == 0
    assert json.loads(out)["law"] == "fit to 50 points"


def test_points_above_a_loss_are_not_used(jobctl: Invoke, table: Path) -> None:
    losses = sorted(point.loss for point in points(50, 0.003, seed=1))
    code, out, err = jobctl("fit", str(table), "--max-loss", str(losses[39]), "--resamples", "20", "--json")
    assert code == 0
    assert json.loads(out)["points"] == 40
    assert "10 of 50 points have a loss above" in err


def test_json_has_values_and_intervals(jobctl: Invoke, table: Path) -> None:
    facts = json.loads(jobctl("fit", str(table), "--json", "--resamples", "20")[1])
    for name, value in facts["values"].items():
        low, high = facts["intervals"][name]
        assert low < high
        assert low / 2 < value < 2 * high


def test_a_run_gives_its_size_its_tokens_and_its_last_validation(
    job: Callable[..., JobSpec], root: Path
) -> None:
    spec = job("true", run="r")
    assert isinstance(spec, TrainSpec)
    run = store_for(spec, root).start(spec).run
    metrics = layout.metrics_dir(run.path)
    metrics.mkdir(parents=True, exist_ok=True)
    document = {
        "training_iterations": [{"iter": 10, "loss": 3.5}, {"iter": 40, "loss": 3.2}],
        "eval_steps": [{"iter": 40, "val_loss": 3.3}],
    }
    (metrics / "run_20260101-000000.json").write_text(json.dumps(document))
    point = verb._point_of_run("r")
    assert point.parameters == arithmetic.parameters(spec.model)
    assert point.tokens == 40 * spec.tokens_per_step
    assert point.loss == 3.3


def test_the_tokens_of_a_run_are_those_that_its_log_counts(job: Callable[..., JobSpec], root: Path) -> None:
    """An edit on the way changes the batch, and then steps times batch is no count."""
    spec = job("true", run="r")
    assert isinstance(spec, TrainSpec)
    run = store_for(spec, root).start(spec).run
    steps = dict.fromkeys(range(1, 41), 3.0)
    write_log(run.path, [start_line("r", block_size=64), *training_lines(steps)])
    history = RunLog(run.path).read()
    assert history.tokens != 40 * spec.tokens_per_step
    assert verb._point_of_run("r").tokens == history.tokens


def test_a_file_that_is_not_there_and_a_run_that_is_not_there_are_named(jobctl: Invoke) -> None:
    code, _, err = jobctl("fit", "none.csv")
    assert code == 2
    assert "none.csv: cannot be read" in err
    assert jobctl("fit", "none")[0] != 0


def test_too_few_points_are_refused(jobctl: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "few.csv"
    file.write_text("N,D,loss\n1e9,1e10,2.5\n")
    code, _, err = jobctl("fit", str(file))
    assert code == 2
    assert "1 points cannot fit five numbers" in err
