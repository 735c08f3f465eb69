"""The run store of a root on this host. The run directory is the record, and a target works on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.core import layout
from jobctl.jobs.core.copying import copy_tree
from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.cancelled import forget_cancelled
from jobctl.jobs.runs.edits import Edit
from jobctl.jobs.runs.logs import read_all_ranks
from jobctl.jobs.runs.records import RunRecord
from jobctl.jobs.runs.store import Run, Started, State
from jobctl.jobs.spec import tokenizer_folder
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.patch import ship
from jobctl.jobs.targets.protocol import Target

POLL_SECONDS = 0.5
NAMED = 5
"""The largest number of omitted files that messages name one by one."""


class DirectoryStore:
    """The run store of ``root``, as ``jobctl.jobs.targets.protocol.RunStore`` describes it."""

    def __init__(self, root: Path, target: Target) -> None:
        self._root = root
        self._target = target

    # ---- reading

    def find(self, name: str) -> Run | None:
        """Return the run called ``name``, or None if it has no record under the root."""
        return runs.read(self._root, name) if runs.is_submitted(self._root, name) else None

    def find_all(self) -> list[Run]:
        """Return all runs under the root, the newest last."""
        return runs.read_all(self._root)

    def state(self, spec: JobSpec) -> State | None:
        """Return the recorded state of the job with the name of ``spec``, or None without a record."""
        run = self.find(spec.name) if spec.name else None
        if run is None:
            return None

        status = runs.recorded_status(run)
        # In an array the last attempt gives the state of its task only.
        if status.state == "finished" and runs.unfinished_tasks(run):
            return "failed"

        return status.state

    def location(self, run: Run) -> str:
        """Return the run directory."""
        return str(run.path)

    # ---- starting

    def start(self, spec: JobSpec) -> Started:
        """Start ``spec``, whose run has a name.

        If several submissions use one name at once, one wins. If the scheduler refuses, no file stays.
        """
        assert spec.run is not None
        if spec.on_a_checkpoint:
            return self._start_on(runs.read(self._root, spec.run).path, spec)

        # Render first: it can refuse the spec, and then no directory is claimed.
        script = self._target.render(spec)
        path = runs.claim(self._root, spec.run)

        try:
            _ship_code(spec)
            _ship_tokenizer(path, spec)
            # Write the record before the job: the job may begin at once, and must find it.
            runs.write_submission(path, spec, script)
            run = runs.read(self._root, spec.run)
            job_id = self._target.submit(run, layout.script_file(path), spec.after)
        # Also on Ctrl-C, because the name must be free for the next submission.
        except BaseException:
            runs.release(path)
            raise

        return Started(run=run, job_id=job_id)

    def _start_on(self, path: Path, spec: JobSpec) -> Started:
        """Start ``spec``, which reads the checkpoint of the run in ``path``."""
        # Check before anything is written there: another user may have prepared the folder as a trap.
        runs.check_ours(path, spec.trusted or ())
        script = self._target.render(spec)
        _ship_code(spec)
        file = layout.script_file(path, spec.step)
        new = not file.exists()
        write_whole(file, script.encode())
        # Before the job: it may begin at once, and must find its record.
        runs.write_record(path, spec, spec.step)

        try:
            run = runs.read(self._root, kinds.job_name(path.name, spec.step))
            job_id = self._target.submit(run, file, spec.after)
        except BaseException:
            if new:
                # An earlier submission of the step keeps its files.
                file.unlink()
                layout.record_file(path, spec.step).unlink()

            raise

        return Started(run=run, job_id=job_id)

    def resume(self, run: Run, trusted: Sequence[str] = (), edit: Edit | None = None) -> str:
        """Start another attempt with a new script, rendered from the run's record. Return the job id.

        The old script in the run directory is not executed, because another user may have written it. Raises
        UserError if another user resumes the run at this moment, or if it belongs to a user who is not
        ``trusted``.
        """
        runs.check_ours(run.path, trusted)
        _check_has_record(run)
        claim = run.path / "attempts" / ".resuming"
        busy = UserError(
            f"another process is resuming run '{run.name}'", hint=f"jobctl status {run.name}", code=1
        )

        # Making a folder is atomic on every file system, so of two users at once only one continues.
        try:
            claim.mkdir()
        except FileExistsError:
            raise busy from None

        try:
            # Another user may have resumed and ended it after the run was read and before the claim.
            now = runs.read_again(run)
            if len(now.attempts) != len(run.attempts):
                raise busy

            if self._target.statuses([now])[0].state not in runs.ENDED:
                raise busy

            # Render in memory first: a script that cannot be rendered must leave no edit in the record.
            spec = _record_with(now, edit).spec_to_resume(trusted)
            text = self._target.render(spec)

            # Write the record first: it must contain the settings of an attempt, whatever happens next.
            if edit is not None:
                runs.write_edit(run.path, edit, run.step)

            script = layout.script_file(run.path, run.step)
            write_whole(script, text.encode())

            job_id = self._target.submit(now, script, () if run.step else spec.after)
            if not run.step:
                forget_cancelled(run.path)

            return job_id
        finally:
            claim.rmdir()

    # ---- a running job

    def await_change(self, run: Run, seconds: float) -> None:
        """Return after a short time, because a file system announces no changes."""
        time.sleep(POLL_SECONDS)

    def request_stop(self, run: Run) -> None:
        """Create STOP in the run directory."""
        runs.request_stop(run.path, "cancel")

    def all_logs(self, run: Run, *, attempt: int | None, follow: bool) -> Iterator[str]:
        """Yield the lines of every rank's log as they come."""

        def ended() -> bool:
            return self._target.statuses([runs.read_again(run)])[0].state in runs.ENDED

        return read_all_ranks(run.path, attempt=attempt, follow=follow, ended=ended, step=run.step)

    def collect(self, run: Run, into: Path) -> Mapping[str, int]:
        """Copy the run directory, and name the files that were left out.

        Raises UserError if it cannot be copied.
        """
        # Otherwise the copy would grow while it is read, without end.
        if into.resolve().is_relative_to(run.path.resolve()):
            raise UserError(f"{into} is inside the run directory", hint="name another folder with -o")

        try:
            result = copy_tree(run.path, into)
        except OSError as error:
            raise UserError(f"{error.filename or into}: {error.strerror or error}", code=1) from None

        for reason in result.skipped[:NAMED]:
            _note(f"skipped: {reason}")

        if len(result.skipped) > NAMED:
            _note(f"skipped: {len(result.skipped) - NAMED} more")

        return {"files": result.files, "copied": result.copied, "skipped": len(result.skipped)}


def _note(text: str) -> None:
    print(f"jobctl: note: {text}", file=sys.stderr)


def _record_with(run: Run, edit: Edit | None) -> RunRecord:
    """Return the record of ``run`` with ``edit``, before it is written."""
    edits = run.record.edits if edit is None else (*run.record.edits, edit)
    return msgspec.structs.replace(run.record, edits=edits)


def _check_has_record(run: Run) -> None:
    """Raise UserError for a job on a checkpoint that has no separate record."""
    if run.step and not layout.record_file(run.path, run.step).is_file():
        raise UserError(
            f"{run.name} has no record to resume from: this jobctl did not submit it",
            hint=f"submit it again: jobctl submit {run.step} --run {run.path.name} …",
            code=1,
        )


def _ship_tokenizer(path: Path, spec: JobSpec) -> None:
    """For a job that makes ids, copy the tokenizer's folder into the run directory, which all nodes see."""
    if spec.tokenizer_folder and spec.job_kind.makes == "data set":
        tokenizer_folder.ship(spec.tokenizer_folder, layout.tokenizer_copy(path, spec.inputs.tokenizer))


def _ship_code(spec: JobSpec) -> None:
    if spec.patch:
        ship(Path(spec.patch.tree), Path(spec.site.project_dir))
