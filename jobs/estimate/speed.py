"""Seconds of a step: each kind of work at its rate, and the hidden communication of the ranks."""

from __future__ import annotations

import msgspec

from jobctl.jobs.catalog.entries import Rates
from jobctl.jobs.estimate.rates import Known
from jobctl.jobs.estimate.situation import Situation
from jobctl.jobs.estimate.work import work_of_step

TERA = 1e12
PLAIN_PRODUCTS = 0.96
"""The share of our products' rate that PyTorch's own kernels reach on an H200 (docs/performance.md)."""
PLAIN_RANGE = 0.1
"""Share by which a plain step may differ. Its passes over memory are counted less exactly."""
RECOMPUTED_RANGE = 0.2
"""The same share if plain blocks are recomputed. It comes from three measured steps."""
NARROW_WIDTH = 2048
NARROW_RANGE = 0.12
"""Share for narrow models. Their products are slower than those behind the rates: 10% of a step at 1,024."""
DELAY = 2.0
"""Seconds that a step loses per second of communication. It is hidden, but takes processors and power."""
SEVERAL_RANGE = 0.04
"""Share that is added if ranks reduce. Links and networks differ more than GPUs do."""


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one step by cause, and the share by which they may be wrong."""

    products: float
    attention: float
    memory: float
    update: float
    communication: float
    range: float

    @property
    def seconds(self) -> float:
        """Return the sum of all parts."""
        return self.products + self.attention + self.memory + self.update + self.communication

    @property
    def least(self) -> float:
        """Return the short end of the range."""
        return self.seconds * (1 - self.range)

    @property
    def most(self) -> float:
        """Return the long end of the range."""
        return self.seconds * (1 + self.range)


def speed(situation: Situation, known: Known) -> Speed:
    """Return the seconds of one step of ``situation`` on a device of ``known`` rates."""
    rates = known.rates
    work = work_of_step(situation)
    fused = situation.path == "fused"
    products = work.product_flops / (rates.product_tflops * (1 if fused else PLAIN_PRODUCTS)) / TERA
    if work.float8_flops:
        products += work.float8_flops / rates.float8_tflops / TERA

    return Speed(
        products=products,
        attention=work.attention_flops / rates.attention_tflops / TERA,
        memory=work.moved_bytes / rates.memory_tb_s / TERA,
        update=work.update_bytes / rates.update_tb_s / TERA,
        communication=_communication(situation, work.sent_bytes),
        range=_range(situation, rates),
    )


def _communication(situation: Situation, sent: float) -> float:
    """Return the seconds on the slowest link. NCCL reaches on it the rate that the preflight requires."""
    facts = situation.facts
    rate = facts.allreduce_network_gb_s if situation.several_nodes else facts.allreduce_gb_s
    # If the link is unknown, no time is assumed.
    return DELAY * sent / (rate * 1e9) if rate else 0.0


def _range(situation: Situation, rates: Rates) -> float:
    plain = PLAIN_RANGE if situation.path != "fused" and situation.gpu else 0.0
    if plain and situation.train.activation_checkpointing != "none":
        plain = RECOMPUTED_RANGE

    narrow = NARROW_RANGE if situation.model.hidden_size < NARROW_WIDTH and situation.gpu else 0.0
    several = SEVERAL_RANGE if situation.ranks > 1 else 0.0
    # Errors about the same computation are not added. The links add a separate error.
    return min(0.9, max(rates.range, plain, narrow) + several)
