"""The speed of a device in training: measured, scaled by a probe, or extrapolated from its data sheet.

The reference is one H200, whose rates are fitted to trainings of five models (``hardware/h200.yaml``).
Another GPU's rates are the reference's, times a ratio. The ratio comes from the same probe on both, or
else from the data sheets.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from jobctl.jobs.catalog.entries import HardwareEntry, Probe, Rates
from jobctl.jobs.catalog.loader import load_hardware

REFERENCE = "h200"
PROBED_RANGE = 0.08
EXTRAPOLATED_RANGE = 0.25
"""Share by which a step may differ if no training has run on the device."""
Basis = Literal["measured", "probed", "extrapolated", "unknown"]


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Rates, and the source of them."""

    rates: Rates
    basis: Basis


def rates_of(machine: HardwareEntry, probe: Probe | None = None) -> Known | None:
    """Return the best known rates of a device; None if none are known.

    ``probe`` is of this device. The reference's own is in its entry.
    """
    if probe is not None and not machine.facts.device:
        return Known(rates=_of_a_cpu(probe), basis="probed")
    if probe is not None:
        reference_probe = load_hardware(REFERENCE).probe
        assert reference_probe is not None
        return Known(rates=_carried(probe, reference_probe), basis="probed")

    if machine.rates is not None:
        # A CPU's entry stands for any machine, so its rates are no measurement of this one.
        return Known(rates=machine.rates, basis="measured" if machine.facts.device else "extrapolated")

    rates = _extrapolated(machine)
    return Known(rates=rates, basis="extrapolated") if rates else None


def _reference() -> Rates:
    rates = load_hardware(REFERENCE).rates
    assert rates is not None
    return rates


def _of_a_cpu(probe: Probe) -> Rates:
    """Return a CPU's rates. Its probe runs the trainer's own operations, so they need no change."""
    return Rates(
        product_tflops=probe.product,
        attention_tflops=probe.attention_tflops,
        memory_tb_s=probe.copy,
        update_tb_s=probe.copy,
        range=0.3,
        source=f"probe of {probe.device}, torch {probe.torch}",
    )


def _carried(probe: Probe, reference_probe: Probe) -> Rates:
    """Return the reference's rates, each times the ratio of the device to it in the same probe."""
    reference = _reference()
    products = probe.product / reference_probe.product
    copies = probe.copy / reference_probe.copy
    float8 = probe.float8 / reference_probe.float8 if reference_probe.float8 else 0.0

    return Rates(
        product_tflops=reference.product_tflops * products,
        float8_tflops=reference.float8_tflops * float8,
        attention_tflops=reference.attention_tflops
        * probe.attention_tflops
        / reference_probe.attention_tflops,
        memory_tb_s=reference.memory_tb_s * copies,
        update_tb_s=reference.update_tb_s * copies,
        range=PROBED_RANGE,
        source=f"probe of {probe.device}, scaled from {REFERENCE}",
    )


def _extrapolated(machine: HardwareEntry) -> Rates | None:
    """Return the reference's shares of peak for this device's peaks. None without a peak or a bandwidth."""
    reference = _reference()
    base = load_hardware(REFERENCE)
    peaks = machine.facts.peak_tflops
    if "bfloat16" not in peaks or not machine.bandwidth_tb_s:
        return None

    products = peaks["bfloat16"] / base.facts.peak_tflops["bfloat16"]
    float8 = peaks.get("fp8", 0.0) / base.facts.peak_tflops["fp8"]
    bandwidth = machine.bandwidth_tb_s / base.bandwidth_tb_s

    return Rates(
        product_tflops=reference.product_tflops * products,
        float8_tflops=reference.float8_tflops * float8,
        attention_tflops=reference.attention_tflops * products,
        memory_tb_s=reference.memory_tb_s * bandwidth,
        update_tb_s=reference.update_tb_s * bandwidth,
        range=EXTRAPOLATED_RANGE,
        source=f"data sheets, with the shares of the peak measured on {REFERENCE}",
    )
