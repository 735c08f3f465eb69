"""Prometheus metrics of the runs below a root. Each scrape reads them from the runs' directories.

The names follow Prometheus' rules: base units, and ``_total`` for values that only grow. A metric is left
out if the run has no value of it, so a panel shows a gap and no zero.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.monitoring.glance import Glance, glance
from jobctl.jobs.monitoring.opening import Opened, open_run

STATES = ("waiting", "running", "silent", "stopped", "finished", "failed", "cancelled")
MAX_AGE_SECONDS = 7 * 86400.0
"""Seconds. Runs with an older log are left out: an exporter shows only active runs."""


class Metric(NamedTuple):
    """One metric of a run."""

    name: str
    help: str
    value: Callable[[Glance], float | None]


METRICS = (
    Metric("jobctl_run_step", "Steps done.", lambda look: look.step),
    Metric("jobctl_run_steps_planned", "Planned steps of the run.", lambda look: look.max_iters or None),
    Metric(
        "jobctl_run_remaining_seconds", "Remaining time at the present speed.", lambda look: look.seconds_left
    ),
    Metric("jobctl_run_loss", "Training loss of the last step, nats a token.", lambda look: look.loss),
    Metric(
        "jobctl_run_validation_loss", "Last validation loss, nats a token.", lambda look: look.validation_loss
    ),
    Metric("jobctl_run_learning_rate", "Learning rate of the last step.", lambda look: look.learning_rate),
    Metric(
        "jobctl_run_gradient_norm",
        "Gradient norm of the last step, before clipping.",
        lambda look: look.grad_norm,
    ),
    Metric(
        "jobctl_run_tokens_per_second",
        "Tokens a second while steps run, over all GPUs; now: in the newest intervals.",
        lambda look: look.tokens_per_second_now,
    ),
    Metric(
        "jobctl_run_wall_tokens_per_second",
        "Tokens a second over the whole time of the run.",
        lambda look: look.wall_tokens_per_second,
    ),
    Metric("jobctl_run_mfu_ratio", "Share of the GPUs' dense peak, 0 to 1; now.", lambda look: look.mfu_now),
    Metric(
        "jobctl_run_step_seconds",
        "Time of a step; now.",
        lambda look: look.ms_per_step_now / 1e3 if look.ms_per_step_now is not None else None,
    ),
    Metric(
        "jobctl_run_memory_peak_bytes",
        "Peak of the memory of one GPU.",
        lambda look: look.memory_gb * 1e9 if look.memory_gb is not None else None,
    ),
    Metric(
        "jobctl_run_goodput_ratio", "Share of wall-clock time in steps that count.", lambda look: look.goodput
    ),
    Metric("jobctl_run_attempts", "Attempts so far.", lambda look: look.attempt),
)
STATE_METRIC = "jobctl_run_state"
PART_METRIC = "jobctl_run_step_part_ratio"
LAST_WRITE_METRIC = "jobctl_run_last_write_timestamp_seconds"
NAMES = frozenset({*(metric.name for metric in METRICS), STATE_METRIC, PART_METRIC, LAST_WRITE_METRIC})
"""Every metric that an exporter gives."""


class Sample(NamedTuple):
    """One value, with its metric and its labels."""

    metric: str
    labels: dict[str, str]
    value: float


def samples(look: Glance, last_write: float | None) -> Iterator[Sample]:
    """Yield the values of one run."""
    labels = {"run": look.run, "model": look.model}
    for metric in METRICS:
        value = metric.value(look)
        if value is not None:
            yield Sample(metric.name, labels, float(value))

    # An enum in Prometheus has one series for each state, and all but one are 0.
    for state in STATES:
        yield Sample(STATE_METRIC, {**labels, "state": state}, float(state == look.state))

    for part, share in look.split_now.items():
        yield Sample(PART_METRIC, {**labels, "part": part}, share)

    if last_write is not None:
        yield Sample(LAST_WRITE_METRIC, labels, last_write)


class Runs:
    """The runs below a root. Each scrape reads only the new lines of their logs."""

    def __init__(self, root: Path, max_age: float = MAX_AGE_SECONDS) -> None:
        self.root = root
        self.max_age = max_age
        self._opened: dict[str, Opened] = {}

    def samples(self, now: float | None = None) -> Iterator[Sample]:
        """Yield the values of all runs to which a trainer wrote lately.

        A run that cannot be read is left out.
        """
        moment = time.time() if now is None else now
        names = list(self._names(moment))
        # An exporter runs for months, and a run that has ended is no longer read.
        self._opened = {name: opened for name, opened in self._opened.items() if name in names}
        for name in names:
            try:
                if name not in self._opened:
                    self._opened[name] = open_run(name, self.root)

                opened = self._opened[name]
                history = opened.history()
                # A preparation, for example, has no figures of a training.
                if not history.config and not history.steps:
                    continue

                goodput = opened.goodput()
            except (UserError, OSError):
                # One run that cannot be read must not end the scrape of the others.
                continue

            yield from samples(glance(history, opened.records(), moment, goodput=goodput), history.last_write)

    def _names(self, now: float) -> Iterable[str]:
        """Return the names of the trainings whose files were written lately."""
        try:
            folders = sorted(layout.runs(self.root).iterdir())
        except OSError:  # no run yet
            return []

        return [folder.name for folder in folders if self._is_recent(folder, now)]

    def _is_recent(self, run: Path, now: float) -> bool:
        if not layout.RUN_NAME.fullmatch(run.name):
            return False

        # Only the times are read: a root may hold thousands of old runs.
        try:
            times = [path.stat().st_mtime for path in _signs(run)]
        except OSError:
            return False

        return bool(times) and now - max(times) <= self.max_age


def _signs(run: Path) -> list[Path]:
    """Return the files whose times show the last change of a run.

    A training without a log waits in a queue, or failed before its first step: its record and its attempts
    say so.
    """
    record = layout.record_file(run)
    attempts = layout.attempt_file(run, 1).parent
    return [
        *([record] if record.exists() else []),
        *attempts.glob("*.json"),
        *layout.metrics_dir(run).glob("run_*.json*"),
    ]


def collector(runs: Runs) -> Any:
    """Return the object that ``prometheus_client`` asks for the metrics at each scrape."""
    # `prometheus_client` comes with an extra, and only the exporter needs it.
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

    helps = {metric.name: metric.help for metric in METRICS}
    helps |= {
        STATE_METRIC: "1 for the present state of the run.",
        PART_METRIC: "Share of a step's time by part, 0 to 1; now.",
        LAST_WRITE_METRIC: "Time of the last write to the run's log.",
    }

    class RunCollector(Collector):
        def collect(self) -> Iterator[Any]:
            # Prometheus wants all samples of one metric together.
            families: dict[str, Any] = {}
            for sample in runs.samples():
                names = list(sample.labels)
                family = families.get(sample.metric)
                if family is None:
                    family = GaugeMetricFamily(sample.metric, helps[sample.metric], labels=names)
                    families[sample.metric] = family

                family.add_metric([sample.labels[name] for name in names], sample.value)

            yield from families.values()

    return RunCollector()
