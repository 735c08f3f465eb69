"""TensorBoard, Weights & Biases and MLflow: they get the run's values, and none of them can stop a run."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jobctl.jobs.core.layout import metrics_dir
from jobctl.trainer.reporting.trackers import (
    MLflow,
    Series,
    TensorBoard,
    Trackers,
    WeightsAndBiases,
    logged_in_to_wandb,
)
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import PROJECT, records, train


class Recording:
    """A tracker that works."""

    seen: list[Any] = []  # noqa: RUF012

    def __init__(self, series: Series) -> None:
        self.seen.append(series.name)

    def log(self, step: int, values: dict[str, float]) -> None:
        self.seen.append((step, values))

    def close(self) -> None:
        self.seen.append("closed")


class Broken(Recording):
    def log(self, step: int, values: dict[str, float]) -> None:
        raise SystemExit("quota")


def never_connects(series: Series) -> Recording:
    time.sleep(60)
    return Recording(series)


def test_no_tracker_can_stop_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trackers, "CLOSING_SECONDS", 0.2)
    trackers = Trackers(tmp_path, {"good": Recording, "broken": Broken, "stuck": never_connects})
    with caplog.at_level(logging.WARNING):
        trackers.begin("run", {})
        for step in range(2000):
            trackers.log(step, {"loss": 1.0})
            time.sleep(0 if step else 0.1)
        trackers.close()
    assert Recording.seen[0] == "run"
    assert (0, {"loss": 1.0}) in Recording.seen
    assert "broken is off for the rest of this attempt: SystemExit: quota" in caplog.text


FAULTS = {
    "at import": "raise ImportError('broken wheel')",
    "at the start": "def init(**_): raise SystemExit('no account')\nstart_run = set_tracking_uri = init",
    "in the middle": """
class Run:
    def log(self, values, step):
        if step > 2: raise OSError("connection lost")
run = Run()
def init(**_): return run
start_run = init
def set_tracking_uri(uri): pass
def log_params(config): pass
def log_metrics(values, step): run.log(values, step)
""",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_package_that_breaks_costs_a_warning_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    for package in ("wandb", "mlflow"):
        (tmp_path / f"{package}.py").write_text(FAULTS[fault])
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert train(arguments(write_corpus(tmp_path / "data"), tmp_path / "run")) == 0
    warnings = [
        r.getMessage()
        for r in caplog.records
        if r.name == "jobctl.trainer.reporting.trackers" and r.levelno > 20
    ]
    assert len(warnings) == 2
    for service in ("Weights & Biases", "MLflow"):
        assert any(text.startswith(f"{service} is off for the rest of this attempt") for text in warnings)


def test_tensorboard_gets_what_the_run_log_gets(tmp_path: Path) -> None:
    assert train(arguments(write_corpus(tmp_path / "data"), tmp_path / "run", eval_interval=3)) == 0
    events = EventAccumulator(str(metrics_dir(tmp_path / "run") / "tensorboard/run"))
    events.Reload()
    shown = {event.step: event.value for event in events.Scalars("loss")}
    logged = {r["iter"]: r["loss"] for r in records(tmp_path / "run")}
    assert shown == {step: pytest.approx(logged[step]) for step in (2, 3, 4, 6)}
    assert {"lr", "grad_norm", "tokens_per_sec", "dt_ms", "memory_peak_gb"} <= set(events.Tags()["scalars"])
    (validation,) = [name for name in events.Tags()["scalars"] if name.startswith("val_loss/")]
    assert [event.step for event in events.Scalars(validation)] == [3, 6]


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_hides_the_steps_that_were_rolled_back(tmp_path: Path) -> None:
    for resumed, steps in ((None, range(1, 11)), (6, range(7, 13))):
        board = TensorBoard(Series(tmp_path, "run", {}, resumed))
        for step in steps:
            board.log(step, {"loss": float(step)})
        board.close()
        time.sleep(1.1)  # the files are told apart, and put in order, by the second in their names
    shown = scalars(tmp_path / "tensorboard/run", "loss")
    assert [step for step, _ in shown] == list(range(1, 13))


def test_an_evaluation_writes_a_series_of_its_own(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "data")
    run = tmp_path / "run"
    assert train(arguments(data, run, eval_interval=3)) == 0
    assert train(arguments(data, run, eval_only=True)) == 0
    boards = sorted(path.name for path in (metrics_dir(run) / "tensorboard").iterdir())
    assert boards == ["run", "run-eval"]


def test_a_service_keeps_its_identity_over_attempts_and_a_new_run_has_another(tmp_path: Path) -> None:
    first = Series(tmp_path, "run", {})
    assert first.identity("wandb") is None
    first.remember("wandb", "abc")
    first.remember("mlflow", "7")
    assert Series(tmp_path, "run", {}, 5).identity("wandb") == "abc"
    assert Series(tmp_path, "run-eval", {}).identity("wandb") is None
    assert Series(tmp_path / "again", "run", {}).identity("wandb") is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"wandb run": 5}', b'{"wandb run": "\xff"}'])
def test_damaged_identities_begin_a_new_series(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "trackers.json").write_bytes(data)
    assert Series(tmp_path, "run", {}).identity("wandb") is None


def test_a_netrc_that_is_no_text_is_no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_bytes(b"machine \xff login a password b\n")
    assert not logged_in_to_wandb()


def test_starting_a_tracker_does_not_slow_the_command_down() -> None:
    """Its package is imported by the thread that feeds it."""
    code = "import sys, jobctl.trainer.training.loop; sys.exit('tensorboard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0


SERVICES = """
import pathlib, types
calls = []
class Run:
    info = types.SimpleNamespace(run_id="mlflow-7")
    def log(self, values, step): calls.append(("log", step, values))
    def finish(self): calls.append("finish")
def init(**facts): calls.append(facts); return Run()
def set_tracking_uri(uri): calls.append(uri)
def start_run(run_id, run_name): calls.append((run_id, run_name)); return Run()
def log_params(config): calls.append(config)
def log_metrics(values, step): calls.append(("log", step, values))
def end_run(): calls.append("end")
"""


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages that keep what they are told, and a machine where nobody has logged in."""
    for package in ("wandb", "mlflow"):
        (tmp_path / f"{package}.py").write_text(SERVICES)
        monkeypatch.delitem(sys.modules, package, raising=False)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def told(package: str) -> list[Any]:
    calls: list[Any] = sys.modules[package].calls  # type: ignore[attr-defined]
    return calls


def test_each_attempt_goes_on_with_the_runs_wandb_run(services: Path) -> None:
    for resumed in (None, 5):
        WeightsAndBiases(Series(services, "run", {"seed": 1}, resumed)).close()
    first, finish, second, _ = told("wandb")
    assert finish == "finish"
    assert (first["id"], first["resume"], first["name"]) == (second["id"], "allow", "run")
    assert first["mode"] == "offline", "nobody has logged in"
    assert first["config"] == {"seed": 1}


def test_mlflow_gets_the_settings_once_and_its_run_again(services: Path) -> None:
    for resumed in (None, 5):
        MLflow(Series(services, "run", {"seed": 1}, resumed)).log(6, {"loss": 2.0})
    address, began, config, logged, _, again, *_ = told("mlflow")
    assert address == f"sqlite:///{services.resolve()}/mlflow.db"
    assert (began, config, logged) == ((None, "run"), {"seed": 1}, ("log", 6, {"loss": 2.0}))
    assert again == ("mlflow-7", "run")
    assert told("mlflow").count({"seed": 1}) == 1


def test_a_server_that_the_user_names_is_asked(services: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking")
    MLflow(Series(services, "run", {}))
    assert told("mlflow")[0] == (None, "run")
