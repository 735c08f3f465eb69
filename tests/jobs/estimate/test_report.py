"""The whole estimate: its keys, and the sums that have to agree."""

from __future__ import annotations

import msgspec
import pytest

from jobctl.jobs.catalog.schema import PricesSection, Site
from jobctl.jobs.estimate.report import available, estimate
from tests.jobs.estimate.questions import question
from tests.jobs.estimate.trainings import on_cpu, training

KEYS = {
    "parameters",
    "memory_gib",
    "fits",
    "largest_batch_size",
    "step_seconds",
    "tokens_per_second",
}


def test_the_json_has_the_keys_that_were_promised() -> None:
    facts = msgspec.to_builtins(estimate(question()))
    assert facts.keys() >= KEYS
    assert facts["memory_gib"]["total"] == pytest.approx(93.11, rel=0.005)
    assert facts["parameters"] == 1830395904
    assert facts["fits"] is True
    assert facts["largest_batch_size"] == 31


def test_rate_step_and_tokens_agree() -> None:
    made = estimate(question())
    assert made.step_seconds is not None
    assert made.tokens_per_second == pytest.approx(made.tokens_per_step / made.step_seconds)
    assert made.stage.tokens == 1000 * made.tokens_per_step
    assert made.stage.seconds == pytest.approx(1000 * made.step_seconds)
    assert made.stage.gpu_hours == pytest.approx(1000 * made.step_seconds * 8 / 3600)
    # docs/performance.md: 63% of the dense peak for this model on an H200.
    assert made.mfu == pytest.approx(0.63, abs=0.02)


def test_without_an_optimum_of_its_own_a_model_gets_twenty_tokens_a_parameter() -> None:
    made = estimate(question(optimal_tokens=0.0))
    assert made.optimal.tokens == 20 * made.parameters
    assert estimate(question()).optimal.tokens == 81727000000


def test_money_and_energy_come_from_the_site() -> None:
    free = estimate(question())
    assert free.stage.cost is None
    assert free.stage.kwh == pytest.approx(free.stage.gpu_hours * 0.7 * 1.2)

    site = Site(prices=PricesSection(gpu_hour=2.5, kwh=0.3, currency="EUR", pue=1.5))
    paid = estimate(question(site=site))
    assert paid.currency == "EUR"
    assert paid.stage.kwh == pytest.approx(paid.stage.gpu_hours * 0.7 * 1.5)
    assert paid.stage.cost == pytest.approx(paid.stage.gpu_hours * 2.5 + paid.stage.kwh * 0.3)


def test_goodput_lengthens_what_is_paid_for() -> None:
    steady = estimate(question())
    real = estimate(question(goodput=0.8, goodput_runs=3))
    assert real.stage.seconds == steady.stage.seconds
    assert real.stage.seconds_with_goodput == pytest.approx(steady.stage.seconds / 0.8)
    assert real.stage.gpu_hours == pytest.approx(steady.stage.gpu_hours / 0.8)


def test_a_save_takes_what_the_disk_takes() -> None:
    site = Site(prices=PricesSection(disk_gb_s=2.0))
    made = estimate(question(site=site)).checkpoint
    assert made.save_seconds == pytest.approx(21.96 / 2, rel=0.01)
    assert made.disk_gib == pytest.approx(made.gib * (2 + 1 + 1 / 3), abs=0.01)
    assert estimate(question()).checkpoint.save_seconds is None


def test_a_device_of_unknown_rate_has_memory_and_no_time() -> None:
    made = estimate(question(known=None))
    assert made.step_seconds is None
    assert made.tokens_per_second is None
    assert made.stage.seconds is None
    assert made.basis == "unknown"
    assert made.memory_gib["total"] > 90


def test_what_does_not_fit_is_said_to() -> None:
    made = estimate(question(batch=32))
    assert not made.fits
    assert made.needed_gib > made.available_gib


def test_a_machine_without_gpus_has_what_is_free_on_it() -> None:
    machine = question().machine
    assert available(training("qwen3_1.8b", 8), machine, host_gib_free=10.0) == 139.8
    assert available(on_cpu("qwen3_smoke", 4), machine, host_gib_free=10.0) == 10.0
    assert available(on_cpu("qwen3_smoke", 4), machine) == machine.facts.node_memory_gib
