"""TensorBoard, Weights & Biases and MLflow, where they are installed. None of them can stop or slow a run."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from jobs.catalog.layout import metrics_dir

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """One of the services, connected."""

    def log(self, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in the run's metrics folder."""

    def __init__(self, run: Path, name: str, config: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(metrics_dir(run) / "tensorboard"))

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A W&B run of the same name, resumed by each attempt."""

    def __init__(self, run: Path, name: str, config: dict[str, Any]) -> None:
        self.run = importlib.import_module("wandb").init(
            project=os.environ.get("WANDB_PROJECT", "jobctl"), id=name, name=name, resume="allow",
            config=config, dir=str(metrics_dir(run)),
        )  # fmt: skip

    def log(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """An MLflow run of the same name."""

    def __init__(self, run: Path, name: str, config: dict[str, Any]) -> None:
        self.client = importlib.import_module("mlflow")
        self.client.start_run(run_name=name)
        self.client.log_params(config)

    def log(self, step: int, values: dict[str, float]) -> None:
        self.client.log_metrics(values, step=step)

    def close(self) -> None:
        self.client.end_run()


Connect = Callable[[Path, str, dict[str, Any]], Tracker]


def wanted() -> dict[str, Connect]:
    """Services that are installed and, where they need an account or a server, configured."""
    found: dict[str, Connect] = {}
    if importlib.util.find_spec("tensorboard"):
        found["TensorBoard"] = TensorBoard
    if importlib.util.find_spec("wandb") and {"WANDB_API_KEY", "WANDB_MODE"} & os.environ.keys():
        found["Weights & Biases"] = WeightsAndBiases
    if importlib.util.find_spec("mlflow") and "MLFLOW_TRACKING_URI" in os.environ:
        found["MLflow"] = MLflow
    return found


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
