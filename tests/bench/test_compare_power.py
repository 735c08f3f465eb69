"""The trials of ``bench.compare_power``: sides without a gap, and with the one that is planted."""

from __future__ import annotations

import random
from pathlib import Path

from bench.compare_power import read_pairs, shares, sides
from tests.jobs.monitoring.runs import write_run


def runs(folder: Path) -> list[Path]:
    return [
        write_run(folder / f"{decay}-{seed}", seed=seed, noise=0.002, settings={"weight_decay": decay})
        for seed in range(1, 5)
        for decay in (0.1, 0.1001)
    ]


def test_each_seed_has_a_run_on_either_side(tmp_path: Path) -> None:
    pairs = read_pairs(runs(tmp_path))
    first, second = sides(pairs, random.Random(1), apart=False)
    assert len(first) == len(second) == 4
    assert all(a.config["seed"] == b.config["seed"] for a, b in zip(first, second, strict=True))
    assert {h.config["weight_decay"] for h in first} == {0.1, 0.1001}
    apart = sides(pairs, random.Random(1), apart=True)
    assert not {h.config["seed"] for h in apart[0]} & {h.config["seed"] for h in apart[1]}


def test_a_planted_gap_is_found_and_no_other(tmp_path: Path) -> None:
    pairs = read_pairs(runs(tmp_path))
    assert shares(pairs, 0.0, 5, apart=False)["training loss"] == 0.0
    assert shares(pairs, 0.05, 5, apart=False)["training loss"] == 1.0
