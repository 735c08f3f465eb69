"""Facts of the catalogue's hardware that other parts count on."""

from __future__ import annotations

import re

import pytest

from jobctl.jobs.catalog.loader import load_hardware, names

GPUS = [name for name in names("hardware") if load_hardware(name).facts.device]


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_has_dense_peaks_and_an_image_with_code_for_it(name: str) -> None:
    facts = load_hardware(name).facts
    assert facts.peak_tflops["bfloat16"] > 0
    assert re.fullmatch(r"\d+\.\d", facts.compute_capability)
    assert set(facts.image_variants) <= {"cu124", "cu132"}
    assert bool(facts.image_variants) != name.startswith("gb"), "the hosts of a GB200 and a GB300 are arm64"
    # Float8 doubles the dense rate; more than that is the figure with sparsity.
    assert facts.peak_tflops.get("fp8", 0.0) <= 2.1 * facts.peak_tflops["bfloat16"]


@pytest.mark.parametrize("name", GPUS)
def test_a_node_holds_in_memory_what_its_containers_share(name: str) -> None:
    entry = load_hardware(name)
    assert entry.facts.shm_gib < entry.facts.node_memory_gib
    assert entry.facts.cpus >= int(str(entry.settings["gpus_per_node"]))
    assert entry.usable_gib <= entry.facts.memory_gib * 1.02


def test_one_entry_has_no_gpu() -> None:
    assert set(names("hardware")) - set(GPUS) == {"cpu"}
    assert load_hardware("cpu").facts.image_variants == ["cpu"]
