"""``jobctl shell`` and ``jobctl forward``: connect this host to the place where a run works."""

from __future__ import annotations

import sys
from typing import Any

import click

from jobctl.jobs.cli.finding import Place, find_run, place_options
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.store import Run
from jobctl.jobs.targets.protocol import Reaches
from jobctl.jobs.targets.registry import load_target

TENSORBOARD_PORT = 6006


@click.command("shell")
@click.argument("run")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]")
@place_options
@click.option("--node", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the node.")
def shell_command(run: str, command: tuple[str, ...], node: int, **place: Any) -> None:
    """Open a shell in a pod of a running job, in the run's directory, or run COMMAND in that pod.

    The exit code is that of the shell or of COMMAND. COMMAND has no input unless this is a terminal.
    """
    chosen = find_run(run, Place(**place))
    target = load_target(chosen.target)
    if not isinstance(target, Reaches):
        raise UserError(
            f"shell: a job on {chosen.target} is not in a pod",
            hint="on a login node of Slurm: srun --jobid=JOB --overlap --pty bash; "
            "in a container: docker exec -it NAME bash",
        )

    sys.exit(target.enter(chosen, node, command))


@click.command("forward")
@click.argument("run")
@place_options
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=TENSORBOARD_PORT,
    show_default=True,
    help="Port on this host; 0: any free port.",
)
@click.option(
    "--to", type=click.IntRange(1, 65535), help="Port of the run's first pod, instead of TensorBoard's."
)
def forward_command(run: str, port: int, to: int | None, **place: Any) -> None:
    """Show TensorBoard of a run that a cluster keeps, at a port of this host, until Ctrl-C.

    A pod of the job's image reads the volume. The run may still be running. The pod is removed when this command ends.
    """
    chosen = find_run(run, Place(**place))
    target = load_target(chosen.target)
    if not isinstance(target, Reaches):
        raise UserError(f"forward: the files of run '{run}' are on this host", hint=_by_hand(chosen))

    try:
        target.forward(chosen, port, to)
    except KeyboardInterrupt:
        # A user ends it by Ctrl-C.
        return


def _by_hand(run: Run) -> str:
    return f"tensorboard --logdir {layout.tensorboard_dir(run.path)}"
