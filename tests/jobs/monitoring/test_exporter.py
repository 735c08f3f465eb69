"""The metrics of an exporter, as Prometheus reads them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from jobctl.jobs.core import layout
from jobctl.jobs.monitoring.exporter import NAMES, STATES, Runs, collector
from jobctl.jobs.runs.cancelled import mark_cancelled
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from tests.jobs.cli.recorded import recorded
from tests.jobs.monitoring.runs import start_line, training_lines, write_attempt, write_log, write_run


def values(root: Path) -> dict[tuple[str, str], float]:
    """What a scrape gives, by metric and run; of states and parts the last label beside."""
    registry = CollectorRegistry()
    registry.register(collector(Runs(root)))
    text = generate_latest(registry).decode()
    return {
        (sample.name, " ".join([sample.labels["run"], *list(sample.labels.values())[2:]])): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_gives_every_run(tmp_path: Path) -> None:
    run = layout.run_dir(tmp_path, "a")
    write_log(run, [start_line(), *training_lines(range(1, 101))])
    write_attempt(run, 1)
    os.utime(next(layout.metrics_dir(run).iterdir()), (time.time() + 1,) * 2)
    write_run(layout.run_dir(tmp_path, "b"))
    seen = values(tmp_path)
    assert seen["jobctl_run_step", "a"] == 100
    assert seen["jobctl_run_mfu_ratio", "a"] == 0.6
    assert seen["jobctl_run_step_seconds", "a"] == 0.1
    assert seen["jobctl_run_tokens_per_second", "a"] == 10_240
    assert 0 < seen["jobctl_run_wall_tokens_per_second", "a"] < 10_240
    assert seen["jobctl_run_memory_peak_bytes", "b"] == 90e9
    assert seen["jobctl_run_remaining_seconds", "a"] == 10.0
    assert ("jobctl_run_remaining_seconds", "b") not in seen, "it has ended"
    states = {key[1]: value for key, value in seen.items() if key[0] == "jobctl_run_state"}
    assert sum(states.values()) == 2
    assert len(states) == 2 * len(STATES)


def test_every_metric_is_listed(tmp_path: Path) -> None:
    write_run(layout.run_dir(tmp_path, "b"))
    given = {name for name, _ in values(tmp_path)}
    assert given <= NAMES
    assert NAMES - given == {"jobctl_run_remaining_seconds", "jobctl_run_goodput_ratio"}


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    write_log(layout.run_dir(tmp_path, "a"), [start_line(), *training_lines([1], loss=lambda step: "nan")])
    assert ("jobctl_run_loss", "a") not in values(tmp_path)


def test_old_and_broken_runs_are_left_out(tmp_path: Path) -> None:
    old = write_run(layout.run_dir(tmp_path, "old"))
    os.utime(next(layout.metrics_dir(old).iterdir()), (1.0, 1.0))
    (layout.runs(tmp_path) / "file").write_text("x")
    layout.run_dir(tmp_path, "empty").mkdir()
    assert values(tmp_path) == {}
    assert values(tmp_path / "gone") == {}


def test_a_second_scrape_reads_what_was_added(tmp_path: Path) -> None:
    run = layout.run_dir(tmp_path, "a")
    log = write_log(run, [start_line(), *training_lines(range(1, 11))])
    runs = Runs(tmp_path)

    def step() -> float:
        return next(sample.value for sample in runs.samples() if sample.metric == "jobctl_run_step")

    assert step() == 10
    with log.open("a") as file:
        file.write('{"kind":"iteration","iter":11,"loss":1.0}\n')

    assert step() == 11


def test_a_run_that_is_too_old_is_forgotten_and_read_again_when_it_goes_on(tmp_path: Path) -> None:
    log = write_log(layout.run_dir(tmp_path, "a"), [start_line(), *training_lines(range(1, 11))])
    now = log.stat().st_mtime
    runs = Runs(tmp_path, max_age=100.0)

    assert list(runs.samples(now))
    assert runs._opened

    assert not list(runs.samples(now + 200))
    assert not runs._opened

    assert list(runs.samples(now))


def test_a_training_without_a_log_has_its_state(root: Path, job: Callable[..., JobSpec]) -> None:
    """Those who set an alarm want to hear of a job that died before its first step."""
    recorded(root, job("true", run="queued"))
    died = recorded(root, job("true", run="died")).path
    write_attempt(died, 1, end=1, exit_code=1, reason="failed")
    mark_cancelled(recorded(root, job("true", run="cancelled")).path)
    seen = values(root)
    assert seen["jobctl_run_state", "queued waiting"] == 1
    assert seen["jobctl_run_state", "cancelled cancelled"] == 1
    assert seen["jobctl_run_state", "cancelled waiting"] == 0
    assert seen["jobctl_run_state", "died failed"] == 1
    assert seen["jobctl_run_steps_planned", "died"] == 100
    old = time.time() - 8 * 86400
    for path in [layout.record_file(died), *(died / "attempts").iterdir()]:
        os.utime(path, (old, old))

    assert ("jobctl_run_state", "died failed") not in values(root), "it is older than a week"


def test_a_preparation_has_no_figures_of_a_training(root: Path) -> None:
    spec = resolve(
        Choices(kind="prep", named={"dataset": "sotu"}, run="p"), version="0.0.0", root=str(root)
    ).spec
    recorded(root, spec)
    assert values(root) == {}
