"""Kubernetes' quantities as numbers."""

from __future__ import annotations

import pytest

from jobctl.k8s.quantities import amount


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("8", 8.0),
        ("500m", 0.5),
        ("1.5Gi", 1.5 * 2**30),
        ("64Gi", 2**36),
        ("2Ki", 2048.0),
        ("3G", 3e9),
        ("1Pi", 2.0**50),
    ],
)
def test_a_quantity_is_a_number_of_its_base_unit(quantity: str, number: float) -> None:
    assert amount(quantity) == number


@pytest.mark.parametrize("quantity", ["", "Gi", "1.2.3", "-1", "8 Gi", "5Xi"])
def test_what_is_no_quantity_is_none(quantity: str) -> None:
    assert amount(quantity) is None
