"""Run a job in a container on this machine, with Docker or Podman.

This is the local target with a container engine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.render import job_environment, payload_context, render_template
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.store import Run, Status, read_again
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.mounts import check_places
from jobctl.jobs.targets.local import LocalTarget, is_alive

NETWORK_VARIABLES = ("WANDB_", "MLFLOW_")
"""Variables with these prefixes configure loggers that send to a server."""
FROM_THE_SUBMITTER = ("CUDA_VISIBLE_DEVICES", "JOBCTL_ROOT", "RUN", "RUN_DIR", "ATTEMPT")


class DockerTarget(LocalTarget):
    """Run the script in the background on this host. The script starts the container and waits for it."""

    def render(self, spec: JobSpec) -> str:
        _check(spec)
        return render_template(
            "docker/script.sh.j2",
            payload_context(spec)
            | {
                "gpus": spec.resources.gpus_per_node > 0,
                "network": _needs_network(spec),
                "mounts": _mounts(spec),
                "variables": _variables(spec),
            },
        )

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        super().submit(run, script, after)
        last = read_again(run).last
        assert last is not None  # the local target has waited for it
        return last.job_id

    def _status(self, run: Run) -> Status:
        status = super()._status(run)
        # Ask the engine only in this case: it takes longer than a look at /proc.
        if status.state != "lost":
            return status

        try:
            alive = _container_is_alive(status.job_id)
        except EngineSilent as error:
            return msgspec.structs.replace(status, state="unknown", detail=error.message)

        if alive:
            name = status.job_id.partition(":")[2]
            return msgspec.structs.replace(
                status, state="running", detail=f"its script has ended, but the container {name} still runs"
            )

        return status

    def cancel(self, run: Run) -> None:
        """Stop the container with SIGTERM, and with SIGKILL after ``stop_grace_seconds``.

        Its script then ends.
        """
        if (last := self._to_cancel(run)) is None:
            return

        # First, so that the script records "cancelled", whichever signal below ends it.
        runs.request_stop(run.path, "cancel", run.step)
        # Repeat this: the container may not exist yet. It may also exist after its script has ended.
        while _stop(last.job_id) or is_alive(last.pid, run.path):
            # A stopped script sees the end of the container only when it continues.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(last.pid, signal.SIGCONT)

            time.sleep(0.1)


def _check(spec: JobSpec) -> None:
    for path in (spec.site.root, spec.site.project_dir):
        # The engine splits a mount at each colon.
        if ":" in path:
            raise UserError(f"{path}: a container engine cannot mount a path with ':' in it")

    check_places([f"{spec.site.root}:{spec.site.root}", *_mounts(spec)])


def _needs_network(spec: JobSpec) -> bool:
    """Return whether the job reads from the internet or reports to a logger.

    Ranks on one machine need no network. Variables of ``pass_env`` are secrets, and mostly for a server.
    """
    reports = any(name.startswith(NETWORK_VARIABLES) for name in spec.site.env)
    return spec.job_kind.network or reports or bool(spec.site.pass_env)


def _mounts(spec: JobSpec) -> list[str]:
    """Return the mounts ``source:target[:ro]`` besides the shared root."""
    source = spec.site.project_dir
    return [*spec.site.container.mounts, *([f"{source}:{source}:ro"] if source else [])]


def _variables(spec: JobSpec) -> list[str]:
    """Return the job's variables as ``NAME=value``.

    A variable whose value is in the submitter's environment is only ``NAME``.
    """
    variables = [f"{name}={value}" for name, value in job_environment(spec).items()]
    if spec.site.project_dir:
        variables.append(f"PYTHONPATH={spec.site.project_dir}/src")
    return [*variables, *FROM_THE_SUBMITTER, *spec.site.pass_env]


def _container_is_alive(job_id: str) -> bool:
    """Return whether the container exists. Raises EngineSilent."""
    engine, _, name = job_id.partition(":")
    # The filter finds parts of names as well, so both ends are marked.
    return bool(_ask(engine, "ps", "--quiet", "--filter", f"name=^{name}$"))


def _stop(job_id: str) -> bool:
    """Stop the container and wait for its end. Return False if none exists. Raises EngineSilent."""
    engine, _, name = job_id.partition(":")
    if not _container_is_alive(job_id):
        return False

    try:
        _ask(engine, "stop", name)
    except EngineSilent:
        # A container that ended by itself in the meantime is not an error.
        if _container_is_alive(job_id):
            raise

    return True


class EngineSilent(UserError):
    """The container engine does not answer, so nobody knows whether a container exists."""


def _ask(engine: str, *arguments: str) -> str:
    """Return the output of the engine. Raises EngineSilent."""
    # The name comes from a record, and another user may have written it. It must not start any other program.
    if engine not in ("docker", "podman", os.environ.get("JOBCTL_ENGINE")):
        raise EngineSilent(
            f"{engine!r} is not a container engine",
            hint="if it is one, set JOBCTL_ENGINE to this name",
            code=1,
        )

    try:
        done = subprocess.run([engine, *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise EngineSilent(f"{engine} cannot be run: {error.strerror}", code=1) from None

    if done.returncode != 0:
        # Lines before the last one are warnings.
        said = done.stderr.strip().rpartition("\n")[2]
        raise EngineSilent(f"{engine} {arguments[0]} failed with exit code {done.returncode}: {said}", code=1)

    return done.stdout.strip()


TARGET = DockerTarget()
