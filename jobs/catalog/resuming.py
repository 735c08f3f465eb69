"""Classes of settings: the effect of a changed value on a run that resumes from its checkpoint.

Every setting of a training is in exactly one class. A test checks this. The trainer compares the settings of
the checkpoint with those of the new attempt. ``jobctl resume --set`` uses the same table before it records an
edit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig

# The range is used only once, when the weights are made. A checkpoint already has weights.
FIXED = frozenset(ModelConfig.__struct_fields__) - {"initializer_range"}
"""The checkpoint's weights have this architecture. Another architecture is another run."""

TRAINING = frozenset(
    {
        "block_size",
        "seed",
        "optimizer",
        "learning_rate",
        "min_lr",
        "warmup_iters",
        "weight_decay",
        "beta1",
        "beta2",
        "adam_eps",
        "grad_clip",
        "dtype",
        "use_fp8",
        "document_masking",
        "skip_loss_spikes",
    }
)
"""Another value changes the objective, the rate or the arithmetic. The loss curve changes at this step."""

DERIVED = frozenset({"max_iters", "lr_decay_iters", "batch_size", "gradient_accumulation_steps"})
"""Only their combination matters: the end of the decay, and the batch over all ranks."""

EQUIVALENT = frozenset(
    {
        "attention_backend",
        "compile",
        "kernels",
        "deterministic",
        "use_cuda_graphs",
        "activation_checkpointing",
        "use_zero1",
        "use_fsdp",
        "eval_iters",
    }
)
"""Another value gives the same training up to rounding. One line of the log names it."""

WITHOUT_COST = frozenset(
    {
        "eval_only",
        "log_interval",
        "gradient_log_interval",
        "keep_last_checkpoints",
        "keep_every_checkpoint",
        "init_from",
        "hang_timeout",
        "verify_replay",
        "profile",
    }
)
"""They change neither a weight nor the speed. Runs that differ only in these are repeats."""

WITHOUT_EFFECT = WITHOUT_COST | {
    "initializer_range",
    "use_dataloader",
    "dataloader_num_workers",
    "eval_interval",
    "checkpoint_interval",
    "save_checkpoints",
    "always_save_checkpoint",
    "checkpoint_when_busy",
    "max_bad_steps",
}
"""No weight depends on them after a training has begun. They decide what is written, and when."""

DATA = "dataset"
"""The name with which a user may allow a change of the data."""

MAY_BE_ALLOWED = TRAINING | DERIVED | {DATA}
"""The names that ``--allow_changes`` accepts."""


@dataclass(frozen=True)
class Settings:
    """The settings and the data that decide how a training continues."""

    model: ModelConfig
    train: TrainConfig
    global_batch_size: int
    """The sequences of a step, over all ranks; 0 if an old checkpoint does not know the number."""
    fingerprint: str
    """The fingerprint of the data, including the weights of a mixture."""


@dataclass(frozen=True)
class Change:
    """One setting that differs between a checkpoint and the attempt that resumes from it."""

    field: str
    before: object
    now: object
    settings: frozenset[str] = frozenset()
    """The settings that cause it.

    If the user allows one of them, the change is allowed. Empty: the change is never allowed.
    """
    matters: bool = True
    """True if the change makes the training a different one."""

    def __str__(self) -> str:
        return f"{self.field}: {self.before} -> {self.now}"

    def is_allowed(self, allowed: Collection[str]) -> bool:
        """Return whether the change may happen if the user allows changes of ``allowed``."""
        return not self.matters or bool(self.settings & set(allowed))


def changes(before: Settings, now: Settings) -> list[Change]:
    """Return the differences that deserve a line, in the order of the schema. This function is pure."""
    lines = []
    for field in ModelConfig.__struct_fields__:
        if field in FIXED:
            lines += _compared(field, before.model, now.model, frozenset())

    for field in TrainConfig.__struct_fields__:
        if field in TRAINING:
            lines += _compared(field, before.train, now.train, frozenset({field}))
        elif field in EQUIVALENT:
            lines += _compared(field, before.train, now.train, frozenset({field}), matters=False)

    return lines + _length(before, now) + _batch(before, now) + _data(before, now)


def _compared(
    field: str, before: object, now: object, settings: frozenset[str], matters: bool = True
) -> list[Change]:
    old: Any = getattr(before, field)
    new: Any = getattr(now, field)
    return [] if old == new else [Change(field, old, new, settings, matters)]


def _length(before: Settings, now: Settings) -> list[Change]:
    """Compare the lengths. A longer run is the same training if its decay ends at the same step."""
    old_end = before.train.lr_decay_iters or before.train.max_iters
    new_end = now.train.lr_decay_iters or now.train.max_iters
    lines = []
    if before.train.max_iters != now.train.max_iters:
        names = frozenset({"max_iters"})
        lines.append(Change("max_iters", before.train.max_iters, now.train.max_iters, names, matters=False))

    if old_end != new_end:
        names = frozenset({"max_iters", "lr_decay_iters"})
        lines.append(Change("end of the learning rate's decay", old_end, new_end, names))

    return lines


def _batch(before: Settings, now: Settings) -> list[Change]:
    """Compare the batches. The same global batch, split differently, is the same training up to rounding."""
    names = frozenset({"batch_size", "gradient_accumulation_steps"})
    if before.global_batch_size and before.global_batch_size != now.global_batch_size:
        field = "global batch (batch_size × gradient_accumulation_steps × ranks)"
        return [Change(field, before.global_batch_size, now.global_batch_size, names)]

    return [
        change
        for field in sorted(names)
        for change in _compared(field, before.train, now.train, names, matters=False)
    ]


def _data(before: Settings, now: Settings) -> list[Change]:
    if before.fingerprint == now.fingerprint:
        return []

    field = "data (fingerprint)"
    # Twelve digits are enough to see that two fingerprints differ, and they keep the line short.
    return [Change(field, before.fingerprint[:12], now.fingerprint[:12], frozenset({DATA}))]
