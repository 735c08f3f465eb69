"""What every scheduler must be able to do; the verbs of ``jobctl`` know no more of it than this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.runs.store import Run, Started, State, Status
from jobctl.jobs.spec.job_spec import JobSpec


class Target(Protocol):
    """Renders a spec, and talks to one scheduler about runs that were submitted to it."""

    def render(self, spec: JobSpec) -> str:
        """The text that is submitted. Pure."""
        ...

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        """Start a new attempt of ``run`` by the file ``script``; the scheduler's job id. UserError when refused.

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
        """Lines of one rank's log, or of the batch script's own when ``rank`` is None; all attempts, oldest first."""
        ...


@runtime_checkable
class Remote(Protocol):
    """What a target does besides, whose run directories this host does not see: it keeps their record itself."""

    def start(self, spec: JobSpec) -> Started:
        """Submit ``spec`` once, however often it is asked. UserError when the run exists with other settings."""
        ...

    def state(self, spec: JobSpec) -> State | None:
        """How far the job of just this ``spec`` is; None where it was not submitted, or another one was."""
        ...

    def find(self, site: Site, name: str) -> Run | None:
        """The run called ``name``, by the record that the cluster of ``site`` keeps."""
        ...

    def find_all(self, site: Site) -> list[Run]:
        """All runs that the cluster of ``site`` knows, the newest last."""
        ...

    def await_change(self, run: Run, seconds: float) -> None:
        """Return when the run's job may have changed, at the latest after ``seconds``; never at once."""
        ...

    def request_stop(self, run: Run) -> None:
        """Create STOP in the run directory."""
        ...

    def resume(self, run: Run) -> str:
        """Start another attempt of an ended run as it was submitted; the job id."""
        ...

    def all_logs(self, run: Run, *, follow: bool) -> Iterator[str]:
        """Lines of all ranks as they come, each with its place before it."""
        ...

    def collect(self, run: Run, into: Path) -> Mapping[str, int]:
        """Copy the run directory to ``into``, going on where an earlier copy broke off; counts of files."""
        ...
