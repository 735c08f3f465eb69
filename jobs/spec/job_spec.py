"""A job spec: everything about a job, resolved from a user's choices, validated and immutable."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.catalog.schema import (
    READ_BY_NO_JOB,
    SCHEDULERS,
    SITE_SECTIONS,
    HardwareFacts,
    Inputs,
    ModelConfig,
    Resources,
    Site,
    TrainConfig,
)
from jobctl.jobs.catalog.schema.keys import hash_name
from jobctl.jobs.kinds import JobKind
from jobctl.jobs.spec.patch import Patch
from jobctl.jobs.spec.tokenizer_folder import TokenizerFolder
from jobctl.jobs.sweeping.plan import Plan, fixed_sizes
from jobctl.jobs.targets.registry import target_entry

RECORD_FORMAT = 3
"""The format of ``run.json`` that this version writes. ``jobctl.jobs.runs.record`` reads older formats."""

ADDED_LATER = frozenset(
    {
        "activation_checkpointing",
        "bias",
        "rope_type",
        "rope_factor",
        "rope_low_freq_factor",
        "rope_high_freq_factor",
        "rope_original_positions",
        "verify_replay",
        "save_checkpoints",
    }
)
"""Keys of a model or a training that were added after the first release.

A key with its default is not in a run's hash. So an upgrade does not change the identity of a run.
"""

_NOT_RECORDED = ("trusted", "recorded_hash", "edited")
"""Fields that belong to one submission or resumption, and not to the run."""


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a job, resolved from a user's choices, validated and immutable. Pure data."""

    version: str
    kind: str
    hardware: str
    target: str
    site_name: str
    run: str | None
    after: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    """The words after ``--`` for a job that is not a training, unchanged."""
    resources: Resources
    inputs: Inputs
    site: Site
    facts: HardwareFacts
    patch: Patch | msgspec.UnsetType = msgspec.UNSET
    """The source tree that runs instead of the image's code."""
    tokenizer_folder: TokenizerFolder | msgspec.UnsetType = msgspec.UNSET
    """The folder of a tokenizer that the catalogue does not know, if the user gave one."""
    trusted: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """Owners whose files the job may execute and write to. The user who submits or resumes names them."""
    recorded_hash: str | msgspec.UnsetType = msgspec.UNSET
    """The hash in the run's record, if the spec was read from a record."""
    edited: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """Settings that the user has edited since the submission. They differ from those of the checkpoint."""

    @property
    def job_kind(self) -> JobKind:
        """Return the row of the table of kinds."""
        return kinds.job_kind(self.kind)

    @property
    def step(self) -> str:
        """Return the name of the job's kind, as the record of an attempt stores it."""
        return self.job_kind.name

    @property
    def run_prefix(self) -> str:
        """Return the start of the name of a run without a chosen name. A unique part follows it."""
        return f"{self.kind}-{self._subject('-')}"

    @property
    def title(self) -> str:
        """Return a title of one line for people."""
        nodes = f"{self.resources.nodes} × " if self.job_kind.about == "hardware" else ""
        return f"{self.kind} of {nodes}{self._subject(' with ')}"

    def _subject(self, separator: str) -> str:
        subjects = {
            "data set": f"{self.inputs.dataset}{separator}{self.inputs.tokenizer}",
            "text": self.inputs.dataset,
            "tokenizer": self.inputs.tokenizer,
            "hardware": self.hardware,
        }

        return subjects[self.job_kind.about]

    @property
    def on_a_checkpoint(self) -> bool:
        """Return whether the job reads the checkpoint of a run, in the run's directory."""
        return self.job_kind.reads_checkpoint

    @property
    def checkpoints(self) -> bool:
        """Return whether the job reads STOP, saves a checkpoint and exits with 200.

        A signal ends any other job.
        """
        return self.job_kind.checkpoints

    @property
    def name(self) -> str | None:
        """Return the name of the job: the run, or for example ``RUN:eval``."""
        return kinds.job_name(self.run, self.step) if self.run else None

    @property
    def processes_per_node(self) -> int:
        # A job without GPUs still needs one process.
        return self.resources.processes_per_node or max(1, self.resources.gpus_per_node)

    @property
    def checked(self) -> bool:
        """Return whether a scheduler's job checks its nodes before it begins."""
        return self.job_kind.checked and self.site.preflight != "off"

    @property
    def retries(self) -> int:
        """Return the number of failures after which the job restarts by itself. A sweep's tasks may fail."""
        return 0 if self.job_kind.may_fail_in_part else self.resources.retries

    @property
    def image(self) -> str:
        return self.inputs.image or f"jobctl:{self.version}-{self.inputs.image_variant}"

    def json(self) -> bytes:
        """Return canonical JSON on one line, with sorted keys and ASCII only.

        Keys that only another target reads are left out if they have their defaults.
        """
        settings = msgspec.to_builtins(self)
        for key in _NOT_RECORDED:
            settings.pop(key, None)

        # Leave out a scheduler's section that this job's target does not read, if nobody has set it.
        site = settings["site"]
        for name in foreign_sections(self.target):
            site[name] = _without_defaults(getattr(self.site, name))
            if not site[name]:
                del site[name]

        return _ascii(msgspec.json.encode(settings, order="sorted"))

    def meaning(self) -> dict[str, Any]:
        """Return what makes two submissions the same job.

        That is the work, its inputs, its resources and the settings that its target reads. The name of the
        run, its place in a queue, the version of jobctl and the code of a patch do not belong to it.
        Resources and site settings appear without their defaults, so that a key that a later version adds
        changes nothing.
        """
        site = self._site_that_the_target_reads()
        if self.patch:
            # The folder contains the name of the run, which does not belong to the meaning either.
            site.pop("project_dir", None)

        # The place of the folder does not matter.
        tokenizer = {"tokenizer_sha256": self.tokenizer_folder.sha256} if self.tokenizer_folder else {}
        return tokenizer | {
            "kind": self.step,
            "hardware": self.hardware,
            "target": self.target,
            "arguments": self.arguments,
            "inputs": msgspec.to_builtins(self.inputs),
            "resources": _without_defaults(self.resources),
            "site": site,
        }

    def _site_that_the_target_reads(self) -> dict[str, Any]:
        """Return the site's settings that differ from their defaults, each by its name in a hash."""
        site = {key: value for key, value in _without_defaults(self.site).items() if key not in SITE_SECTIONS}
        foreign = foreign_sections(self.target)

        for name in SITE_SECTIONS:
            if name not in foreign:
                settings = _without_defaults(getattr(self.site, name))
                site.update((hash_name(f"{name}.{key}"), value) for key, value in settings.items())

        return site

    def fingerprint(self) -> str:
        """Return the hash of ``meaning``, 16 hexadecimal digits. A resumed run has the hash of its record."""
        # An older version may have computed it by other rules. The script compares with the record, so use
        # the record's hash.
        if self.recorded_hash:
            return self.recorded_hash
        # Sorted, so that the order of fields in a later version does not change the hash.
        return hashlib.sha256(msgspec.json.encode(self.meaning(), order="sorted")).hexdigest()[:16]

    def record(self) -> str:
        """Return ``run.json`` on one line of ASCII, safe in a shell's here-document."""
        return (
            f'{{"format": {RECORD_FORMAT}, "spec_hash": "{self.fingerprint()}", '
            f'"spec": {self.json().decode()}}}'
        )


class TrainSpec(JobSpec, frozen=True, kw_only=True):
    """A job that trains or evaluates a model."""

    model_name: str
    tier: int
    stage: str
    model: ModelConfig
    train: TrainConfig
    sweep: Plan | msgspec.UnsetType = msgspec.UNSET
    """The plan of a sweep. Without a plan the sweep tries the batch sizes of the catalogue."""

    @property
    def run_prefix(self) -> str:
        return f"{self.model_name}-{self.stage}"

    @property
    def title(self) -> str:
        return f"{self.model_name} on {self.hardware}, tier {self.tier}, stage {self.stage}"

    @property
    def job_kind(self) -> JobKind:
        return kinds.recorded_kind(self.kind, self.stage)

    def meaning(self) -> dict[str, Any]:
        plan = {"sweep": msgspec.to_builtins(self.sweep)} if self.sweep else {}
        return (
            super().meaning()
            | plan
            | {
                "model_name": self.model_name,
                "stage": self.stage,
                "model": _known_to_the_hash(self.model),
                "train": _known_to_the_hash(self.train),
            }
        )

    @property
    def plan(self) -> Plan | None:
        """Return the plan of a sweep's trials, or None for another job."""
        if self.job_kind.array != "arms":
            return None

        return self.sweep or fixed_sizes(self.inputs.sweep_batch_sizes)

    @property
    def world_size(self) -> int:
        return self.resources.nodes * self.processes_per_node

    @property
    def global_batch_size(self) -> int:
        """Return the number of sequences in one optimiser step."""
        return self.train.batch_size * self.train.gradient_accumulation_steps * self.world_size

    @property
    def tokens_per_step(self) -> int:
        return self.global_batch_size * self.train.block_size


def foreign_sections(target: str) -> tuple[str, ...]:
    """Return the sections of ``Site`` that ``target`` does not read."""
    section = target_entry(target).section
    return (*(name for name in SCHEDULERS if name != section), *READ_BY_NO_JOB)


def _known_to_the_hash(section: msgspec.Struct) -> dict[str, Any]:
    """Return the settings of ``section`` for a hash.

    Leave out a key of ``ADDED_LATER`` that has its default.
    """
    defaults = _field_defaults(type(section))
    settings: dict[str, Any] = msgspec.to_builtins(section)

    return {key: value for key, value in settings.items() if key not in ADDED_LATER or value != defaults[key]}


@functools.cache  # msgspec evaluates the annotations of every field each time
def _field_defaults(section: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: field.default for field in msgspec.structs.fields(section)}


def _without_defaults(section: msgspec.Struct) -> dict[str, Any]:
    settings: dict[str, Any] = msgspec.to_builtins(section)
    defaults = _defaults(type(section))
    return {key: value for key, value in settings.items() if value != defaults[key]}


@functools.cache
def _defaults(section: type[msgspec.Struct]) -> dict[str, Any]:
    defaults: dict[str, Any] = msgspec.to_builtins(section())
    return defaults


def seconds(time_limit: str) -> int:
    """Return the seconds of a time limit in any of sbatch's spellings.

    They are ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours``,
    ``days-hours:minutes`` and ``days-hours:minutes:seconds`` (sbatch(1), --time).
    """
    # Without a dash, `rpartition` leaves the days empty.
    days, dash, clock = time_limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if dash:
        # With a dash the parts are, from the left, hours, minutes and seconds.
        parts += [0] * (3 - len(parts))
    elif len(parts) < 3:
        # Minutes, and seconds if they are given.
        parts = [0, *parts, 0][:3]

    return int(days or 0) * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]


def _ascii(encoded: bytes) -> bytes:
    text = encoded.decode()
    return encoded if text.isascii() else "".join(c if c.isascii() else _escape(c) for c in text).encode()


def _escape(character: str) -> str:
    # JSON has only escapes of 16 bits. A character beyond them is written as two halves.
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
