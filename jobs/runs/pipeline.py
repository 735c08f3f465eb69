"""Pipelines from text to an exported model: the steps, their order, and the record of each pipeline.

This module knows no scheduler. A target whose jobs can wait for each other (``TargetEntry.chains``) gets all
jobs at once. With any other target, jobctl itself waits and submits one job after the other.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.core import layout
from jobctl.jobs.core.durable import make_shared, write_whole
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.names import shown
from jobctl.jobs.core.reading import decode_json, read_regular

STEPS = tuple(kind.name for kind in kinds.PIPELINE)


class Step(msgspec.Struct, frozen=True):
    """One job: its ``run`` (``RUN:eval`` for a job on a checkpoint), and the runs that it waits for."""

    name: str
    run: str
    after: tuple[str, ...] = ()


class Pipeline(msgspec.Struct, frozen=True):
    """The steps in their order. Each step comes after the one before it."""

    name: str
    steps: tuple[Step, ...]

    def without(self, done: Collection[str]) -> Pipeline:
        """Return the pipeline without the steps ``done``.

        Each step waits for the remaining step before it.
        """
        rest: list[Step] = []
        for step in (step for step in self.steps if step.name not in done):
            rest.append(msgspec.structs.replace(step, after=(rest[-1].run,) if rest else ()))
        return Pipeline(self.name, tuple(rest))


def plan(name: str, skip: Collection[str] = ()) -> Pipeline:
    """Return the pipeline ``name`` without the steps ``skip``. Raises UserError for an unknown step."""
    for step in skip:
        if step not in STEPS:
            raise UserError(f"no step '{step}'; {nearest(step, STEPS)}")
    return Pipeline(name, tuple(Step(step, _run_of(name, step)) for step in STEPS)).without(skip)


def _run_of(name: str, step: str) -> str:
    if step in kinds.ON_A_CHECKPOINT:
        return kinds.job_name(f"{name}-{kinds.TRAIN.name}", step)
    return f"{name}-{step}"


def write(root: Path, pipeline: Pipeline) -> None:
    """Record ``pipeline``, so that a user can ask for its status or cancel it by its name."""
    path = layout.pipeline_file(root, pipeline.name)
    make_shared(path.parent)
    text = json.dumps(msgspec.to_builtins(pipeline), indent=1) + "\n"
    write_whole(path, text.encode())


def read(root: Path, name: str) -> Pipeline | None:
    """Return the recorded pipeline ``name``, or None if it does not exist."""
    path = layout.pipeline_file(root, name)
    # Check before the file is opened: the word may be a path, or name a job on a checkpoint.
    if not layout.RUN_NAME.fullmatch(name):
        return None

    try:
        pipeline = decode_json(read_regular(path), Pipeline)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", code=1) from None
    except msgspec.MsgspecError as error:
        raise UserError(f"{path}: not a pipeline's record: {error}", code=1) from None

    # Check the names, because they become paths, and another user may have written the record.
    for run in (run for step in pipeline.steps for run in (step.run, *step.after)):
        if not layout.RUN_NAME.fullmatch(kinds.split_name(run)[0]):
            raise UserError(f"{path}: {shown(run)} is not a run's name", code=1)

    return pipeline
