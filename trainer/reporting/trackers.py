"""Trackers: TensorBoard always, Weights & Biases and MLflow if they are installed.

A TrainJob gets its status where it asks for it.

None of them can stop or slow a run. A resumed attempt goes on in the same series: TensorBoard hides
the steps that were rolled back, and the other two are asked to go on with the run that they know.
An evaluation has a series of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import logging
import netrc
import os
import queue
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.layout import TENSORBOARD, metrics_dir
from jobctl.trainer.reporting.trainjob_status import TrainJobStatus, endpoint

log = logging.getLogger(__name__)
IDENTITIES = "trackers.json"
"""File in the metrics folder: the id by which each service knows a series."""
FLUSH_SECONDS = 10
"""Seconds of values that TensorBoard may lose by a kill. The run log loses nothing."""


@dataclasses.dataclass(frozen=True)
class Series:
    """The run and the attempt of tracked values."""

    folder: Path
    """The run's metrics folder."""
    name: str
    """The run's name; an evaluation adds ``-eval``."""
    config: dict[str, Any]
    resumed_step: int | None = None
    """The step that the attempt resumed from; None without a checkpoint."""

    def identity(self, service: str) -> str | None:
        """Return the id of the series at ``service``; None if it is new."""
        return self._identities().get(f"{service} {self.name}")

    def remember(self, service: str, identity: str) -> None:
        """Keep the id for the next attempt."""
        # Read anew, since another service's thread may have written its id meanwhile.
        known = self._identities() | {f"{service} {self.name}": identity}
        write_whole(self.folder / IDENTITIES, msgspec.json.encode(known))

    def _identities(self) -> dict[str, str]:
        try:
            return msgspec.json.decode((self.folder / IDENTITIES).read_bytes(), type=dict[str, str])
        except (
            OSError,
            msgspec.MsgspecError,
            UnicodeDecodeError,
        ):  # none yet, or damaged: a new series begins
            return {}


class Tracker(Protocol):
    """One of the services, connected."""

    def log(self, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in the run's metrics folder, one folder a series."""

    def __init__(self, series: Series) -> None:
        # Imported here, because it takes a second and may not be installed.
        from torch.utils.tensorboard import SummaryWriter

        # TensorBoard drops what earlier files say of this step and later ones.
        purge_step = None if series.resumed_step is None else series.resumed_step + 1
        folder = series.folder / TENSORBOARD / series.name
        self.writer = SummaryWriter(str(folder), flush_secs=FLUSH_SECONDS, purge_step=purge_step)

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A W&B run that each attempt resumes. Without a login it is kept for ``wandb sync``.

    The id is random and kept in the run directory: a new run of an old name is a new W&B run.
    """

    def __init__(self, series: Series) -> None:
        identity = series.identity("wandb") or uuid.uuid4().hex[:12]
        # Kept before the service answers: after a kill the next attempt must not begin a second run.
        series.remember("wandb", identity)
        self.run = importlib.import_module("wandb").init(
            project=os.environ.get("WANDB_PROJECT", "jobctl"),
            id=identity,
            name=series.name,
            resume="allow",
            config=series.config,
            dir=str(series.folder),
            mode=None if logged_in_to_wandb() else "offline",
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()


def logged_in_to_wandb() -> bool:
    """Return whether W&B has a login, or a setting that needs none."""
    if {"WANDB_API_KEY", "WANDB_MODE"} & os.environ.keys():
        return True

    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return False


class MLflow:
    """An MLflow run that each attempt resumes. Without a server it is in the run's folder."""

    def __init__(self, series: Series) -> None:
        # A training job tells nobody that it runs.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self.client = importlib.import_module("mlflow")
        # A file beside the run needs no server, and can be read by mlflow ui later.
        if "MLFLOW_TRACKING_URI" not in os.environ:
            self.client.set_tracking_uri(f"sqlite:///{series.folder.resolve()}/mlflow.db")

        known = series.identity("mlflow")
        run = self.client.start_run(run_id=known, run_name=series.name)
        if known is None:
            # Only once: MLflow refuses a parameter that changes, and a resumed attempt may change some.
            self.client.log_params(series.config)
            # The server makes this id, so it is known only now.
            series.remember("mlflow", str(run.info.run_id))

    def log(self, step: int, values: dict[str, float]) -> None:
        self.client.log_metrics(values, step=step)

    def close(self) -> None:
        self.client.end_run()


Connect = Callable[[Series], Tracker]


def wanted(*, evaluates: bool = False) -> dict[str, Connect]:
    """The services whose packages are installed, and the TrainJob's status of a training that is one."""
    packages: dict[str, tuple[str, Connect]] = {
        "TensorBoard": ("tensorboard", TensorBoard),
        "Weights & Biases": ("wandb", WeightsAndBiases),
        "MLflow": ("mlflow", MLflow),
    }

    services = {
        service: connect
        for service, (package, connect) in packages.items()
        # Only looked for and not imported: some of these packages take seconds to import.
        if importlib.util.find_spec(package)
    }
    # An evaluation has no progress of its own.
    if not evaluates and endpoint() is not None:
        services["the TrainJob's status"] = TrainJobStatus

    return services


class Trackers:
    """Feeds each service from a thread of its own, through a queue that drops values rather than grow."""

    CLOSING_SECONDS = 10.0

    def __init__(
        self, run: Path, services: dict[str, Connect] | None = None, *, evaluates: bool = False
    ) -> None:
        self.run = run
        self.evaluates = evaluates
        self.services = wanted(evaluates=evaluates) if services is None else services
        self._queues: list[queue.Queue[tuple[int, dict[str, float]] | None]] = []
        self._threads: list[threading.Thread] = []

    def begin(self, name: str, config: dict[str, Any], resumed_step: int | None = None) -> None:
        """Connect, in the background."""
        series = Series(
            folder=metrics_dir(self.run),
            name=f"{name}-eval" if self.evaluates else name,
            config=config,
            resumed_step=None if self.evaluates else resumed_step,
        )

        for service, connect in self.services.items():
            # The bound limits the memory if a service hangs for the rest of the run.
            lines: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(1000)
            # daemon: a service that hangs must not keep the process alive.
            thread = threading.Thread(target=self._feed, args=(service, connect, series, lines), daemon=True)
            self._queues.append(lines)
            self._threads.append(thread)
            thread.start()

    def _feed(
        self,
        service: str,
        connect: Connect,
        series: Series,
        lines: queue.Queue[tuple[int, dict[str, float]] | None],
    ) -> None:
        try:
            tracker = connect(series)
            log.info("logging to %s", service)
            while (item := lines.get()) is not None:
                tracker.log(*item)

            tracker.close()
        except BaseException as error:
            # Whatever a package does, only its own thread ends.
            log.warning(
                "%s is off for the rest of this attempt: %s: %s", service, type(error).__name__, error
            )

    def log(self, step: int, values: dict[str, float]) -> None:
        for lines in self._queues:
            # A full queue loses values and not time: the training must never wait for a service.
            with contextlib.suppress(queue.Full):
                lines.put_nowait((step, values))

    def close(self) -> None:
        """Give each service a moment to send its last values."""
        for lines, thread in zip(self._queues, self._threads, strict=True):
            try:
                lines.put_nowait(None)
            except queue.Full:
                # The service hangs, so waiting for it is no use.
                continue

            thread.join(self.CLOSING_SECONDS)
