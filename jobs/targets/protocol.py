"""The interfaces of a target: its scheduler, and the store of the records of its runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from jobctl.jobs.catalog.schema import Resources, Site
from jobctl.jobs.runs.edits import Edit
from jobctl.jobs.runs.store import Run, Started, State, Status
from jobctl.jobs.spec.job_spec import JobSpec


class Target(Protocol):
    """Render a spec, and talk to one scheduler about the runs that were submitted to it."""

    def render(self, spec: JobSpec) -> str:
        """Return the text to submit. This method is pure."""
        ...

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        """Start a new attempt of ``run`` with the file ``script``. Return the scheduler's job id.

        If the scheduler has dependencies, the job waits for the runs ``after``. Raises UserError if it is
        refused.
        """
        ...

    def statuses(self, runs: Sequence[Run]) -> list[Status]:
        """Return the statuses of ``runs`` in their order, with as few calls to the scheduler as possible."""
        ...

    def cancel(self, run: Run) -> None:
        """End the run's job now. Do nothing if it is not running."""
        ...

    def logs(self, run: Run, *, rank: int | None, attempt: int | None, follow: bool) -> Iterator[str]:
        """Yield the lines of one rank's log over all attempts, oldest first.

        If ``rank`` is None, yield those of the batch script.
        """
        ...


class RunStore(Protocol):
    """Keep the records of runs and reach their files, in a root on this host or in a cluster."""

    def find(self, name: str) -> Run | None:
        """Return the run called ``name``, or the job on a checkpoint.

        Return None if it has no record here.
        """
        ...

    def find_all(self) -> list[Run]:
        """Return all runs, the newest last."""
        ...

    def state(self, spec: JobSpec) -> State | None:
        """Return the state of the job with exactly this ``spec``, or None if it was not submitted."""
        ...

    def location(self, run: Run) -> str:
        """Return the place of the run's files, for people."""
        ...

    def start(self, spec: JobSpec) -> Started:
        """Submit ``spec``, whose run has a name. Raises UserError if the run exists with other settings."""
        ...

    def resume(self, run: Run, trusted: Sequence[str] = (), edit: Edit | None = None) -> str:
        """Start another attempt of an ended run, with all its edits. Return the job id.

        ``trusted`` are owners whose files the job may execute and write to. ``edit`` is recorded first.
        """
        ...

    def await_change(self, run: Run, seconds: float) -> None:
        """Wait until the run's job may have changed, at most ``seconds``. Never return at once."""
        ...

    def request_stop(self, run: Run) -> None:
        """Create STOP in the run directory."""
        ...

    def all_logs(self, run: Run, *, attempt: int | None, follow: bool) -> Iterator[str]:
        """Yield the lines of all ranks as they come, each with its rank in front."""
        ...

    def collect(self, run: Run, into: Path) -> Mapping[str, int]:
        """Copy the run directory to ``into``, and continue an earlier copy. Return counts of files."""
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
    """A target whose scheduler waits for a silent node until a person confirms that the node is off."""

    def cancel(self, run: Run) -> None:
        """End the run's job now."""
        ...

    def remove_dead(self, run: Run) -> list[str]:
        """Remove the objects of a run on dead nodes. Return their names, each with its node."""
        ...


@runtime_checkable
class Reaches(Protocol):
    """A target whose jobs this host can reach only through the scheduler."""

    def enter(self, run: Run, index: int, command: Sequence[str]) -> int:
        """Run ``command`` beside the job on its node ``index``, or a shell for none. Return the exit code."""
        ...

    def forward(self, run: Run, local_port: int, port: int | None) -> None:
        """Serve a port of the job's first node on this host.

        If the port is None, serve TensorBoard with the run's figures. Return when the other side ends.
        Raises UserError if nothing can be reached.
        """
        ...


class Removing(Protocol):
    """Access to runs that are being removed."""

    def size(self, run: Run, checkpoints: bool) -> int:
        """Return the bytes that the removal of a run, or of its checkpoints alone, frees."""
        ...

    def remove(self, run: Run, checkpoints: bool) -> None:
        """Remove a run's files and then its record, or its checkpoints alone. No link is followed."""
        ...


class Remover(Protocol):
    """The actions of ``jobctl delete`` and ``prune`` on the ended runs of one target."""

    def check(self, run: Run, trusted: Sequence[str]) -> None:
        """Raise UserError if a job of it is running, or if its owner is another user and not ``trusted``."""
        ...

    def state(self, run: Run, status: Status) -> State:
        """Return the state to show for a run that has ended with ``status``."""
        ...

    def last_sign(self, run: Run, status: Status) -> float:
        """Return the time of the run's end, or of the last write to it, in seconds since 1970."""
        ...

    def removing(self, chosen: Sequence[Run]) -> AbstractContextManager[Removing]:
        """Return access to the files of ``chosen``. Raises UserError if they cannot be reached."""
        ...


@runtime_checkable
class RemovesRuns(Protocol):
    """A target whose files of runs this host can reach only through the cluster."""

    def check_removable(self, run: Run, trusted: Sequence[str]) -> None:
        """Raise UserError if a job of it is running, or if its owner is another user and not ``trusted``."""
        ...

    def removing(self, runs: Sequence[Run]) -> AbstractContextManager[Removing]:
        """Return access to the files of ``runs``. Raises UserError if they cannot be reached."""
        ...


class NodeCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """One node and its GPUs."""

    name: str
    product: str
    gpus: int
    free: int
    state: str
    """``ready``, ``drained`` (it gets no new jobs), or ``silent`` (it does not answer)."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes with GPUs. ``sees_all`` says whether all jobs on them were visible."""

    nodes: tuple[NodeCapacity, ...]
    sees_all: bool
    """If False, jobs of other users may hold GPUs that are shown as free."""

    @property
    def free(self) -> int:
        """Return the number of GPUs that a new job may get."""
        return sum(node.free for node in self.nodes if node.state == "ready")


@runtime_checkable
class ShowsNodes(Protocol):
    """A target that can be asked for the free GPUs of its cluster."""

    def capacity(self, site: Site) -> Capacity:
        """Return the nodes with GPUs. Raises UserError if the user may not see them."""
        ...


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """One problem of a cluster, in sentences."""

    check: str
    """The name of the check. It is stable, for machines."""
    cause: str
    evidence: str
    remedy: str
    page: str


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """The number of checks, and the problems that they found."""

    checks: int
    troubles: tuple[Trouble, ...]
    notes: tuple[str, ...] = ()
    """Useful facts that stop no job."""


@runtime_checkable
class Examines(Protocol):
    """A target that can look at its cluster before a job is made."""

    def examine(self, site: Site, resources: Resources) -> Examination:
        """Return the problems of the cluster of ``site`` for jobs with ``resources``. Raises UserError."""
        ...


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """The values that a cluster offers for one key of a site."""

    key: str
    values: tuple[str, ...]
    """All values that the user may see."""
    chosen: str = ""
    """The value for a new site file. Empty: the user has to choose."""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """The names of a cluster that belong in a site file."""

    offers: tuple[Offer, ...] = ()
    notes: tuple[str, ...] = ()
    """Questions that got no answer, each with the reason."""


@runtime_checkable
class Surveys(Protocol):
    """A target whose cluster can tell the values for a site file."""

    def survey(self, site: Site) -> Survey:
        """Return the names that the cluster of ``site`` has. Raises UserError if it does not answer."""
        ...
