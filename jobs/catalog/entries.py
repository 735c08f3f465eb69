"""The types of the catalogue's files: models, families, hardware, tiers, stages and sites."""

import statistics
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from jobctl.jobs.catalog.schema import HardwareFacts

Basis = Literal["guide", "arithmetic", "measured"]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings for one model on one hardware. ``tiers`` and ``stages`` restrict them. Empty means all."""

    basis: Basis
    settings: dict[str, object]
    tiers: tuple[int, ...] = ()
    stages: tuple[str, ...] = ()
    note: str = ""

    def applies(self, tier: int, stage: str) -> bool:
        return (not self.tiers or tier in self.tiers) and (not self.stages or stage in self.stages)


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The type of ``models/NAME.yaml``."""

    summary: str
    settings: dict[str, object]
    note: str = ""
    optimal_tokens: float = 0.0


class FamilyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The type of ``families/NAME.yaml``: facts about a model family that need no torch.

    NAME is its architecture. ``trainer/models/NAME`` builds its models, and a test compares their size with
    these facts.
    """

    summary: str
    gated_feed_forward: Annotated[bool, Meta(description="the feed-forward layer has a gate: three matrices")]
    qk_norm: Annotated[bool, Meta(description="a norm on the queries and keys of each head")] = False
    learned_positions: Annotated[bool, Meta(description="one learned row for each position")] = False
    rotary_positions: Annotated[bool, Meta(description="queries and keys are rotated (RoPE)")] = True
    biases: Annotated[bool, Meta(description="linear layers and norms may have biases")] = False
    grouped_queries: Annotated[bool, Meta(description="several query heads may share a key head")] = True
    norms_per_block: Annotated[int, Meta(ge=0, description="norms of the residual stream in a block")] = 2
    fused_block: Annotated[bool, Meta(description="the trainer has fused kernels for its block")] = False


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rates of one device in a step of training, measured by trainings on it."""

    product_tflops: Annotated[float, Meta(gt=0, description="matrix products in the training's dtype")]
    float8_tflops: Annotated[float, Meta(ge=0, description="matrix products in float8; 0: it has none")] = 0.0
    attention_tflops: Annotated[float, Meta(gt=0, description="causal attention, forward and backward")]
    memory_tb_s: Annotated[float, Meta(gt=0, description="kernels that only move memory")]
    update_tb_s: Annotated[float, Meta(gt=0, description="the optimiser's update")]
    range: Annotated[
        float, Meta(gt=0, lt=1, description="share by which a step may differ from the estimate")
    ]
    source: Annotated[str, Meta(description="which trainings they come from")]


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The output of ``python -m jobctl.trainer.probe`` for a device."""

    device: str
    torch: str
    cpus: int
    product_tflops: dict[str, float]
    float8_tflops: dict[str, float]
    attention_tflops: float
    copy_tb_s: dict[str, float]
    on_gpu: bool = False
    """True if ``device`` is a GPU. Earlier versions did not write it."""

    @property
    def product(self) -> float:
        """Return the geometric mean over the sizes, in TFLOP/s."""
        return statistics.geometric_mean(self.product_tflops.values())

    @property
    def float8(self) -> float:
        """Return the same for float8; 0 if the device has no float8."""
        return statistics.geometric_mean(self.float8_tflops.values()) if self.float8_tflops else 0.0

    @property
    def copy(self) -> float:
        """Return the rate of the largest copy in TB/s. Smaller copies may stay in a cache."""
        # The sizes are keys of JSON, so they are texts. As texts, 9 would be above 10.
        return self.copy_tb_s[max(self.copy_tb_s, key=int)]


class HardwareEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The type of ``hardware/NAME.yaml``.

    ``limits`` are settings that the hardware cannot exceed. They win over tier and stage, with a warning.
    """

    summary: str
    facts: HardwareFacts
    usable_gib: Annotated[
        float, Meta(ge=0, description="memory of a GPU that its driver reports, GiB; 0: not checked")
    ] = 0.0
    bandwidth_tb_s: Annotated[float, Meta(ge=0, description="memory bandwidth of its data sheet")] = 0.0
    watts: Annotated[float, Meta(ge=0, description="power limit of one GPU, W; 0: unknown")] = 0.0
    rates: Rates | None = None
    """None if nothing was measured. Then the rates are extrapolated from those of another GPU."""
    probe: Probe | None = None
    """The probe of the device on which ``rates`` were measured."""
    source: Annotated[str, Meta(description="where the facts come from; empty: the data sheet")] = ""
    settings: dict[str, object] = {}
    limits: dict[str, object] = {}
    models: dict[str, list[Rule]] = {}


class LayerEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The type of ``tiers/N.yaml``, ``stages/NAME.yaml`` and ``sites/NAME.yaml``: a summary and settings."""

    summary: str
    settings: dict[str, object] = {}
