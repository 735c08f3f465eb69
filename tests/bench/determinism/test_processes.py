"""Two processes are said to have seen the same only where all of it is."""

from __future__ import annotations

from typing import Any

import pytest

from bench.determinism.__main__ import line
from bench.determinism.processes import verdict

SEEN: dict[str, Any] = {"gradients": "ab", "parameters": "cd", "losses": [2.0, 1.0]}


@pytest.mark.parametrize("changed", [{}, {"gradients": "x"}, {"parameters": "x"}, {"losses": [2.0, 1.5]}])
def test_what_differs_is_named(changed: dict[str, Any]) -> None:
    row = verdict({"model": "m"}, [SEEN, SEEN | changed])
    names = ("gradients", "parameters", "losses")
    assert {name: row[f"same {name}"] for name in names} == {name: name not in changed for name in names}
    assert "'same parameters': " in line("processes", row)


def test_a_process_that_died_is_no_proof() -> None:
    assert verdict({"model": "m"}, [SEEN, {}])["error"] == "a process died"


def test_the_tables_name_outputs_parameters_and_costs() -> None:
    row: dict[str, Any] = {"model": "m", "batch": 2, "operation": "attention", "differ": {"dq": 1234}}
    assert line("operations", row).endswith("dq in 1,234")
    assert line("operations", row | {"differ": {}}).endswith("same bits")
    trial = {
        "model": "m",
        "kernels": "fused",
        "batch": 2,
        "layers": 1,
        "way": "flash",
        "differ": 3,
        "parameters": 9,
    }
    assert "3 of 9 differ {'q': 1}" in line("models", trial | {"first": {"q": 1}})
    ways = {"cudnn": {"ms": 10.0, "ratio": 1.0, "peak_gib": 2.0}}
    text = line("costs", {"model": "m", "batch": 2, "changes": {}, "note": "fused", "ways": ways})
    assert "10.00 ms  1.0000     2.0 GiB" in text
