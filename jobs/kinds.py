"""The kinds of jobs: one frozen table that all other code asks.

A kind is the word after ``jobctl submit``, the ``step`` of an attempt's record, and the name of a step in a
pipeline. An evaluation and a sweep are trainings with a separate stage. So a record stores them as kind
``train`` with that stage, and ``recorded_kind`` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from jobctl.jobs.core.errors import UserError, nearest


class JobKind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of job. Other code asks its fields, and never compares names."""

    name: str
    module: str
    """The module that runs in the image, as ``python -m MODULE``."""

    package: str = ""
    """A Python package that the module needs, and that not every installation of jobctl has."""
    stage: str = ""
    """The only stage of the catalogue that this kind has. Empty: the user chooses."""
    has_model: bool = False
    """True if the job has a model, a tier and a stage. Such a job also reads a data set."""
    about: Literal["model", "data set", "text", "tokenizer", "hardware"] = "data set"
    """The subject of its title and of the default name of its run."""

    distributed: bool = False
    """True if its processes are ranks of one program, on all nodes. Otherwise each node works alone."""
    needs_gpu: bool = False
    """True if it computes on GPUs. Otherwise it runs on CPUs, on one node unless the user asks for more."""
    network: bool = False
    """True if it reads from the internet."""
    checkpoints: bool = False
    """True if it reads STOP, checkpoints and exits with 200. A signal ends any other job."""
    at_warning: Literal["terminate", "checkpoint", "continue"] = "terminate"
    """The job's answer to the warning of its end: end now, checkpoint, or use the remaining time."""
    reads_checkpoint: bool = False
    """True if it works on the checkpoint of a finished run, in the directory of that run."""
    checked: bool = False
    """True if its nodes may be checked before it begins."""
    checks_nodes: bool = False
    """True if the job itself is the check of its nodes."""
    may_fail_in_part: bool = False
    """True if it has finished when one task has finished: a sweep looks for the size that fails."""
    array: Literal["", "nodes", "arms"] = ""
    """Tasks of a scheduler's job array: one for each node, or one for each combination of settings."""
    makes: Literal["", "data set", "text", "tokenizer"] = ""
    """Its product in the shared root. If the product is complete, the job need not run."""
    in_pipeline: bool = False
    """True if ``jobctl pipeline`` contains it. The order there is the order of this table."""


TOKENIZER = JobKind(
    name="tokenizer",
    module="jobctl.prep.fetch",
    about="tokenizer",
    network=True,
    makes="tokenizer",
    in_pipeline=True,
)
MIRROR = JobKind(
    name="mirror",
    module="jobctl.prep.mirror",
    about="text",
    network=True,
    makes="text",
    in_pipeline=True,
)
PREP = JobKind(
    name="prep",
    module="jobctl.prep",
    package="tokenizers",
    network=True,
    array="nodes",
    makes="data set",
    in_pipeline=True,
)
PREFLIGHT = JobKind(
    name="preflight",
    module="jobctl.trainer.preflight",
    package="torch",
    about="hardware",
    distributed=True,
    needs_gpu=True,
    checks_nodes=True,
    in_pipeline=True,
)
TRAIN = JobKind(
    name="train",
    module="jobctl.trainer.launch",
    package="torch",
    has_model=True,
    about="model",
    distributed=True,
    needs_gpu=True,
    checkpoints=True,
    at_warning="checkpoint",
    checked=True,
    in_pipeline=True,
)
EVAL = JobKind(
    name="eval",
    module="jobctl.trainer.launch",
    package="torch",
    stage="eval",
    # It cannot save anything, but the evaluation may still end in time.
    at_warning="continue",
    has_model=True,
    about="model",
    distributed=True,
    needs_gpu=True,
    reads_checkpoint=True,
    in_pipeline=True,
)
EXPORT = JobKind(
    name="export",
    module="jobctl.trainer.export",
    package="torch",
    reads_checkpoint=True,
    in_pipeline=True,
)
SWEEP = JobKind(
    name="sweep",
    module="jobctl.trainer.sweep",
    package="torch",
    stage="sweep",
    # Finished trials are kept, so the sweep uses the remaining time.
    at_warning="continue",
    has_model=True,
    about="model",
    distributed=True,
    needs_gpu=True,
    may_fail_in_part=True,
    array="arms",
)

KINDS = (TOKENIZER, MIRROR, PREP, PREFLIGHT, TRAIN, EVAL, EXPORT, SWEEP)
PIPELINE = tuple(kind for kind in KINDS if kind.in_pipeline)
ON_A_CHECKPOINT = tuple(kind.name for kind in KINDS if kind.reads_checkpoint)
"""Names of the kinds that share the directory of a run, each as a job called ``RUN:KIND``."""
_BY_STAGE = {kind.stage: kind for kind in KINDS if kind.stage}


def job_kind(name: str, known: Iterable[JobKind] = KINDS) -> JobKind:
    """Return the kind called ``name`` among ``known``. Raises UserError with the nearest name."""
    names = {kind.name: kind for kind in known}
    if name not in names:
        raise UserError(f"unknown kind of job '{name}'; {nearest(name, names)}")
    return names[name]


def recorded_kind(kind: str, stage: str) -> JobKind:
    """Return the kind of a spec or of a record. A record stores an evaluation as ``train``, stage ``eval``.

    Raises UserError for a kind that this version does not know.
    """
    row = job_kind(kind)
    return _BY_STAGE.get(stage, row) if row.has_model else row


def job_name(run: str, kind: str) -> str:
    """Return the name of a job: the run, or ``RUN:KIND`` if it works on the run's checkpoint."""
    return f"{run}:{kind}" if kind in ON_A_CHECKPOINT else run


def split_name(name: str) -> tuple[str, str]:
    """Return the run of ``job_name``, and the kind if it works on the run's checkpoint.

    Otherwise the kind is empty.
    """
    run, _, kind = name.partition(":")
    return run, kind
