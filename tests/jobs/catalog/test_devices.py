"""A driver's name means a GPU of the catalogue only by whole words."""

import pytest

from jobctl.jobs.catalog.devices import is_device
from jobctl.jobs.catalog.loader import peak_flops


@pytest.mark.parametrize(
    ("device", "driver_name"),
    [
        ("H200", "NVIDIA H200"),
        ("H200", "NVIDIA H200 NVL"),
        ("H100", "NVIDIA H100 80GB HBM3"),
        ("A100", "NVIDIA A100-SXM4-80GB"),
        ("RTX A6000", "NVIDIA RTX A6000"),
        ("B200", "nvidia b200"),
    ],
)
def test_a_gpu_is_known_by_its_words(device: str, driver_name: str) -> None:
    assert is_device(device, driver_name)


@pytest.mark.parametrize(
    ("device", "driver_name"),
    [
        ("H200", "NVIDIA GH200 480GB"),
        ("B200", "NVIDIA GB200"),
        ("A100", "NVIDIA A1000"),
        ("RTX A6000", "NVIDIA RTX 6000 Ada Generation"),
        ("", "NVIDIA H100"),
        ("H100", ""),
    ],
)
def test_another_gpu_is_not_taken_for_it(device: str, driver_name: str) -> None:
    assert not is_device(device, driver_name)


def test_a_gpu_that_the_catalogue_does_not_know_has_no_peak() -> None:
    assert peak_flops("NVIDIA H200") is not None
    assert peak_flops("NVIDIA GH200 480GB") is None
