"""A job spec: the resolved, validated, immutable answer to a user's choices."""

from __future__ import annotations

import hashlib

import msgspec

from jobctl.jobs.catalog.schema import HardwareFacts, Inputs, ModelConfig, Resources, Site, TrainConfig
from jobctl.jobs.core import layout
from jobctl.jobs.spec.patch import Patch


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The resolved, validated, immutable answer to a choice. Pure data."""

    version: str
    kind: str
    hardware: str
    target: str
    site_name: str
    run: str | None
    after: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    """Words after ``--`` for a job that is not a training, as they stand."""
    resources: Resources
    inputs: Inputs
    site: Site
    facts: HardwareFacts
    patch: Patch | msgspec.UnsetType = msgspec.UNSET
    """The source tree that runs in the place of the image's code."""
    trusted: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """Owners whose files the job may execute and write into, as whoever submits or resumes it says."""
    recorded_hash: str | msgspec.UnsetType = msgspec.UNSET
    """The fingerprint that the run's record has, of a spec that was read from it."""

    @property
    def run_prefix(self) -> str:
        """What a run without a name of its own is called, before the part that makes it unique."""
        about = {"tokenizer": self.inputs.tokenizer, "preflight": self.hardware}
        return f"{self.kind}-{about.get(self.kind, f'{self.inputs.dataset}-{self.inputs.tokenizer}')}"

    @property
    def title(self) -> str:
        about = {"tokenizer": self.inputs.tokenizer, "preflight": f"{self.resources.nodes} × {self.hardware}"}
        return f"{self.kind} of {about.get(self.kind, f'{self.inputs.dataset} with {self.inputs.tokenizer}')}"

    @property
    def step(self) -> str:
        """What the job does in a pipeline, as ``layout.step_of`` has it."""
        return self.kind

    @property
    def on_a_checkpoint(self) -> bool:
        """Whether it reads the checkpoint of a run, in the run's directory."""
        return self.step in layout.ON_A_CHECKPOINT

    @property
    def checkpoints(self) -> bool:
        """Whether it sees STOP, checkpoints and says 200; any other job is ended by a signal.

        A sweep's trainings have directories of their own, and nothing of them is worth keeping.
        """
        return self.step == "train"

    @property
    def name(self) -> str | None:
        """What ``jobctl`` calls the job: the run, or ``RUN:eval`` and the like."""
        return layout.job_name(self.run, self.step) if self.run else None

    @property
    def processes_per_node(self) -> int:
        return self.resources.processes_per_node or max(1, self.resources.gpus_per_node)

    @property
    def checked(self) -> bool:
        """Whether a scheduler's job looks at its nodes before it begins."""
        return self.step == "train" and self.site.preflight != "off"

    @property
    def retries(self) -> int:
        """Failures after which the job starts again by itself; of a sweep, some sizes are meant to fail."""
        return 0 if self.step == "sweep" else self.resources.retries

    @property
    def image(self) -> str:
        return self.inputs.image or f"jobctl:{self.version}-{self.inputs.image_variant}"

    def json(self) -> bytes:
        """Canonical JSON on one line: sorted keys, ASCII only."""
        return _ascii(msgspec.json.encode(self, order="sorted"))

    def fingerprint(self) -> str:
        """Hash of what makes two submissions the same job: not the run's name, its place in a queue, or its code."""
        if self.recorded_hash:  # this version of jobctl may know more settings than the one that wrote it
            return self.recorded_hash
        same = msgspec.structs.replace(self, run=None, after=(), patch=msgspec.UNSET, trusted=msgspec.UNSET)
        if self.patch:
            same = msgspec.structs.replace(same, site=msgspec.structs.replace(self.site, project_dir=""))
        return hashlib.sha256(same.json()).hexdigest()[:16]

    def record(self) -> str:
        """``run.json`` on one line of ASCII, safe in a shell's here-document."""
        bare = msgspec.structs.replace(self, trusted=msgspec.UNSET, recorded_hash=msgspec.UNSET)
        return f'{{"spec_hash": "{self.fingerprint()}", "spec": {bare.json().decode()}}}'


class TrainSpec(JobSpec, frozen=True, kw_only=True):
    """A job that trains or evaluates a model."""

    model_name: str
    tier: int
    stage: str
    model: ModelConfig
    train: TrainConfig

    @property
    def run_prefix(self) -> str:
        return f"{self.model_name}-{self.stage}"

    @property
    def title(self) -> str:
        return f"{self.model_name} on {self.hardware}, tier {self.tier}, stage {self.stage}"

    @property
    def step(self) -> str:
        return layout.step_of(self.kind, self.stage)

    @property
    def world_size(self) -> int:
        return self.resources.nodes * self.processes_per_node

    @property
    def global_batch_size(self) -> int:
        """Sequences of one optimiser step."""
        return self.train.batch_size * self.train.gradient_accumulation_steps * self.world_size

    @property
    def tokens_per_step(self) -> int:
        return self.global_batch_size * self.train.block_size


def seconds(time_limit: str) -> int:
    """``[days-]hours:minutes:seconds`` in seconds."""
    days, _, clock = time_limit.rpartition("-")
    hours, minutes, rest = (int(part) for part in clock.split(":"))
    return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + rest


def _ascii(encoded: bytes) -> bytes:
    text = encoded.decode()
    return encoded if text.isascii() else "".join(c if c.isascii() else _escape(c) for c in text).encode()


def _escape(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
