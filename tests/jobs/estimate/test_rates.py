"""Rates: measured, carried over by a probe, or extrapolated and called so."""

from __future__ import annotations

import msgspec
import pytest

from jobctl.jobs.catalog.entries import Probe
from jobctl.jobs.catalog.loader import load_hardware, names
from jobctl.jobs.estimate.rates import EXTRAPOLATED_RANGE, rates_of


def probe(factor: float = 1.0, **changes: object) -> Probe:
    """Return a probe of a GPU that is ``factor`` times as fast as one with round figures."""
    made = Probe(
        device="NVIDIA H200",
        torch="2.13",
        cpus=8,
        product_tflops={"a": 600 * factor, "b": 800 * factor},
        float8_tflops={"a": 1200 * factor},
        attention_tflops=400 * factor,
        copy_tb_s={"1024": 9.0, "1073741824": 4.0 * factor},
    )
    return msgspec.structs.replace(made, **changes)


def test_the_reference_is_measured() -> None:
    known = rates_of(load_hardware("h200"))
    assert known is not None
    assert known.basis == "measured"
    assert known.rates.range <= 0.05


@pytest.mark.parametrize("name", [name for name in names("hardware") if name not in ("h200", "cpu")])
def test_every_other_gpu_is_extrapolated_with_its_wider_range(name: str) -> None:
    known = rates_of(load_hardware(name))
    assert known is not None
    assert known.basis == "extrapolated"
    assert known.rates.range == EXTRAPOLATED_RANGE


def test_extrapolation_keeps_the_shares_of_the_peaks() -> None:
    h200 = rates_of(load_hardware("h200"))
    b200 = rates_of(load_hardware("b200"))
    assert h200 is not None
    assert b200 is not None
    assert b200.rates.product_tflops / 2250 == pytest.approx(h200.rates.product_tflops / 989)
    assert b200.rates.memory_tb_s / 8.0 == pytest.approx(h200.rates.memory_tb_s / 4.8)
    assert b200.rates.float8_tflops / 4500 == pytest.approx(h200.rates.float8_tflops / 1979)


def test_a_gpu_without_a_peak_or_a_bandwidth_has_no_rates() -> None:
    machine = msgspec.structs.replace(load_hardware("a100"), bandwidth_tb_s=0.0)
    assert rates_of(machine) is None


def test_a_probe_carries_the_references_rates_over() -> None:
    own = load_hardware("h200").probe
    assert own is not None
    halved = msgspec.structs.replace(
        own,
        product_tflops={size: rate / 2 for size, rate in own.product_tflops.items()},
        float8_tflops={size: rate / 2 for size, rate in own.float8_tflops.items()},
        attention_tflops=own.attention_tflops / 2,
        copy_tb_s={size: rate / 2 for size, rate in own.copy_tb_s.items()},
    )
    half = rates_of(load_hardware("h100"), halved)
    reference = load_hardware("h200").rates
    assert half is not None
    assert reference is not None
    assert half.basis == "probed"
    for name in ("product_tflops", "float8_tflops", "attention_tflops", "memory_tb_s", "update_tb_s"):
        assert getattr(half.rates, name) == pytest.approx(getattr(reference, name) / 2)


def test_a_cpus_probe_stands_as_it_is() -> None:
    known = rates_of(load_hardware("cpu"), probe(1e-3, float8_tflops={}))
    assert known is not None
    assert known.basis == "probed"
    assert known.rates.product_tflops == pytest.approx((0.6 * 0.8) ** 0.5)
    assert known.rates.memory_tb_s == pytest.approx(4e-3)


def test_an_unprobed_cpu_is_not_called_measured() -> None:
    known = rates_of(load_hardware("cpu"))
    assert known is not None
    assert known.basis == "extrapolated"
    assert known.rates.range >= 0.5
