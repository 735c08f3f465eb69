"""The interface of a scheduler, and of the place that keeps the records of its runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.runs.edits import Edit
from jobctl.jobs.runs.store import Run, Started, State, Status
from jobctl.jobs.spec.job_spec import JobSpec


class Target(Protocol):
    """Renders a spec, and talks to one scheduler about runs that were submitted to it."""

    def render(self, spec: JobSpec) -> str:
        """The text that is submitted. Pure."""
        ...

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        """Start a new attempt of ``run`` by the file ``script``; the scheduler's job id.

        UserError when refused.

        Where the scheduler has dependencies the job waits for the runs ``after``.
        """
        ...

    def statuses(self, runs: Sequence[Run]) -> list[Status]:
        """Where ``runs`` stand, in their order, with as few calls to the scheduler as it allows."""
        ...

    def cancel(self, run: Run) -> None:
        """End the run's job now. What is not running is left alone."""
        ...

    def logs(self, run: Run, *, rank: int | None, attempt: int | None, follow: bool) -> Iterator[str]:
        """Lines of one rank's log, or of the batch script's own when ``rank`` is None.

        All attempts, oldest first.
        """
        ...


class RunStore(Protocol):
    """Keeps the records of runs and reaches their files: a root on this host, or a cluster."""

    def find(self, name: str) -> Run | None:
        """Return the run called ``name``, or the job on a checkpoint; None where it has no record here."""
        ...

    def find_all(self) -> list[Run]:
        """Return all runs, the newest last."""
        ...

    def state(self, spec: JobSpec) -> State | None:
        """Return the state of the job of just this ``spec``; None where it was not submitted."""
        ...

    def location(self, run: Run) -> str:
        """Return the place of the run's files, for people."""
        ...

    def start(self, spec: JobSpec) -> Started:
        """Submit ``spec``, whose run is named. Raises UserError when the run exists with other settings."""
        ...

    def resume(self, run: Run, trusted: Sequence[str] = (), edit: Edit | None = None) -> str:
        """Start another attempt of an ended run, as it was submitted and edited since; the job id.

        ``trusted`` are owners whose files the job may execute and write into. ``edit`` is recorded first.
        """
        ...

    def await_change(self, run: Run, seconds: float) -> None:
        """Return when the run's job may have changed, at the latest after ``seconds``; never at once."""
        ...

    def request_stop(self, run: Run) -> None:
        """Create STOP in the run directory."""
        ...

    def all_logs(self, run: Run, *, attempt: int | None, follow: bool) -> Iterator[str]:
        """Yield the lines of all ranks as they come, each with its rank before it."""
        ...

    def collect(self, run: Run, into: Path) -> Mapping[str, int]:
        """Copy the run directory to ``into``, going on where an earlier copy broke off; counts of files."""
        ...


class RecordKeeper(Target, Protocol):
    """A target whose entry says ``keeps_records``."""

    def store(self, site: Site, home: Path) -> RunStore:
        """Return the runs that the cluster of ``site`` keeps.

        ``home`` is the root of this host, for notes.
        """
        ...


@runtime_checkable
class RemovesDead(Protocol):
    """A target whose scheduler waits for a node that does not answer, until somebody says that it is off."""

    def cancel(self, run: Run) -> None:
        """End the run's job now."""
        ...

    def remove_dead(self, run: Run) -> list[str]:
        """Remove what dead nodes keep of a run; names of what was removed, each with its node."""
        ...


class NodeCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """One node, as far as GPUs go."""

    name: str
    product: str
    gpus: int
    free: int
    state: str
    """``ready``; ``drained`` where no new job is put there; ``silent`` where it does not answer."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes with GPUs, and whether all jobs on them were seen."""

    nodes: tuple[NodeCapacity, ...]
    sees_all: bool
    """Else jobs of others may hold GPUs that are shown as free."""

    @property
    def free(self) -> int:
        """GPUs that a new job may get."""
        return sum(node.free for node in self.nodes if node.state == "ready")


@runtime_checkable
class ShowsNodes(Protocol):
    """A target that can be asked for the free GPUs of its cluster."""

    def capacity(self, site: Site) -> Capacity:
        """Return the nodes with GPUs. Raises UserError where the user may not see them."""
        ...


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a cluster, in sentences."""

    check: str
    """The name of the check; stable, for machines."""
    cause: str
    evidence: str
    remedy: str
    page: str


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and what is wrong."""

    checks: int
    troubles: tuple[Trouble, ...]


@runtime_checkable
class Examines(Protocol):
    """A target that can look at its cluster before a job is made."""

    def examine(self, site: Site, nodes: int) -> Examination:
        """Return what is wrong with the cluster of ``site`` for jobs of ``nodes`` nodes. Raises UserError."""
        ...
