"""Kubernetes' quantities, such as ``64Gi`` and ``500m``, as numbers. Pure."""

from __future__ import annotations

import re

UNITS = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "Pi": 2.0**50,
    "Ei": 2.0**60,
}
"""Factors by suffix (Kubernetes' API, resource.Quantity)."""
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]*)")


def amount(quantity: str) -> float | None:
    """Return a quantity as a number of its base unit: bytes, CPUs. Return None if it is not a quantity."""
    match = _QUANTITY.fullmatch(quantity)
    if match is None or match[2] not in UNITS:
        return None

    return float(match[1]) * UNITS[match[2]]
