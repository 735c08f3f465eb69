"""TensorBoard always, Weights & Biases and MLflow where they are installed. None of them can stop or slow a run."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import netrc
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from jobctl.jobs.core.layout import metrics_dir

log = logging.getLogger(__name__)
FLUSH_SECONDS = 10
"""What a kill may take from TensorBoard; the run log loses nothing."""


class Tracker(Protocol):
    """One of the services, connected."""

    def log(self, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in the run's metrics folder."""

    def __init__(self, run: Path, name: str, config: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(metrics_dir(run) / "tensorboard"), flush_secs=FLUSH_SECONDS)

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A W&B run of the same name, resumed by each attempt; kept for ``wandb sync`` where nobody has logged in."""

    def __init__(self, run: Path, name: str, config: dict[str, Any]) -> None:
        self.run = importlib.import_module("wandb").init(
            project=os.environ.get("WANDB_PROJECT", "jobctl"), id=name, name=name, resume="allow",
            config=config, dir=str(metrics_dir(run)), mode=None if logged_in_to_wandb() else "offline",
        )  # fmt: skip

    def log(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()


def logged_in_to_wandb() -> bool:
    """Whether W&B has been told who asks, or how to do without."""
    if {"WANDB_API_KEY", "WANDB_MODE"} & os.environ.keys():
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


class MLflow:
    """An MLflow run of the same name for each attempt; in the run's own folder where no server is named."""

    def __init__(self, run: Path, name: str, config: dict[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a training job tells nobody that it runs
        self.client = importlib.import_module("mlflow")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            self.client.set_tracking_uri(f"sqlite:///{metrics_dir(run).resolve()}/mlflow.db")
        self.client.start_run(run_name=name)
        self.client.log_params(config)

    def log(self, step: int, values: dict[str, float]) -> None:
        self.client.log_metrics(values, step=step)

    def close(self) -> None:
        self.client.end_run()


Connect = Callable[[Path, str, dict[str, Any]], Tracker]


def wanted() -> dict[str, Connect]:
    """The services whose packages are installed."""
    packages: dict[str, tuple[str, Connect]] = {
        "TensorBoard": ("tensorboard", TensorBoard),
        "Weights & Biases": ("wandb", WeightsAndBiases),
        "MLflow": ("mlflow", MLflow),
    }
    return {
        service: connect
        for service, (package, connect) in packages.items()
        if importlib.util.find_spec(package)
    }


class Trackers:
    """Feeds each service from a thread of its own, through a queue that drops values rather than grow."""

    CLOSING_SECONDS = 10.0

    def __init__(self, run: Path, services: dict[str, Connect] | None = None) -> None:
        self.run = run
        self.services = wanted() if services is None else services
        self._queues: list[queue.Queue[tuple[int, dict[str, float]] | None]] = []
        self._threads: list[threading.Thread] = []

    def begin(self, name: str, config: dict[str, Any]) -> None:
        """Connect, in the background."""
        for service, connect in self.services.items():
            lines: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(1000)
            thread = threading.Thread(
                target=self._feed, args=(service, connect, name, config, lines), daemon=True
            )
            self._queues.append(lines)
            self._threads.append(thread)
            thread.start()

    def _feed(
        self,
        service: str,
        connect: Connect,
        name: str,
        config: dict[str, Any],
        lines: queue.Queue[tuple[int, dict[str, float]] | None],
    ) -> None:
        try:
            tracker = connect(self.run, name, config)
            log.info("logging to %s", service)
            while (item := lines.get()) is not None:
                tracker.log(*item)
            tracker.close()
        except BaseException as error:
            log.warning(
                "%s is off for the rest of this attempt: %s: %s", service, type(error).__name__, error
            )

    def log(self, step: int, values: dict[str, float]) -> None:
        for lines in self._queues:
            with contextlib.suppress(queue.Full):
                lines.put_nowait((step, values))

    def close(self) -> None:
        """Give each service a moment to send its last values."""
        for lines, thread in zip(self._queues, self._threads, strict=True):
            try:
                lines.put_nowait(None)
            except queue.Full:
                continue
            thread.join(self.CLOSING_SECONDS)
