"""What ``jobctl compare`` says of real runs with a planted gap, and without: ``python -m bench.compare_power RUN…``.

The runs are of two settings that make no difference (such as weight_decay 0.1 and 0.1001), with the same seeds. In
each trial the two runs of a seed change sides by chance, so no side is better; then one side's losses are scaled. The
same is done with other seeds on the two sides; for that alone, one run of each seed is enough. The spread between seeds
says how many runs any test of these results needs.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.document import save
from jobctl.jobs.core.errors import run_command
from jobctl.jobs.monitoring.analysis import analyse
from jobctl.jobs.monitoring.comparison import Member, compared
from jobctl.jobs.monitoring.history import History, number
from jobctl.jobs.monitoring.logfile import RunLog
from jobctl.jobs.monitoring.significance import repeats_for

RESULTS = {"validation loss": "validation_loss", "training loss": "last_loss"}
"""Results and their field in an analysis."""
GAP = 0.005


def scaled(history: History, factor: float, weight_decay: float) -> Member:
    """Return a run whose losses are ``factor`` times as large, as one of the setting ``weight_decay``."""
    steps = [msgspec.structs.replace(step, loss=number(step.loss) * factor) for step in history.steps]
    evaluations = [
        msgspec.structs.replace(entry, val_loss=number(entry.val_loss) * factor)
        for entry in history.evaluations
    ]
    changed = msgspec.structs.replace(
        history,
        steps=steps,
        evaluations=evaluations,
        config={**history.config, "weight_decay": weight_decay},
    )
    return Member(changed, analyse(changed))


def sides(pairs: Sequence[Sequence[History]], chance: random.Random, apart: bool) -> list[list[History]]:
    """Return the runs of two sides, of which none is better."""
    shuffled = [list(pair) if chance.random() < 0.5 else list(pair[::-1]) for pair in pairs]
    if apart:
        chance.shuffle(shuffled)
        half = len(shuffled) // 2
        return [[pair[0] for pair in shuffled[:half]], [pair[0] for pair in shuffled[half:]]]

    return [[pair[side] for pair in shuffled] for side in (0, 1)]


def shares(pairs: Sequence[Sequence[History]], gap: float, trials: int, apart: bool) -> dict[str, float]:
    """Return how often a difference is called real, by the result."""
    chance = random.Random(0)
    real = dict.fromkeys(RESULTS, 0)
    for _ in range(trials):
        first, second = sides(pairs, chance, apart)
        members = [scaled(history, 1.0, 0.1) for history in first]
        members += [scaled(history, 1.0 - gap, 0.2) for history in second]
        for verdict in compared(members).verdicts:
            if verdict.result in real:
                real[verdict.result] += bool(verdict.difference.is_real)

    return {result: count / trials for result, count in real.items()}


def read_seeds(runs: Sequence[Path]) -> list[list[History]]:
    """Return the runs by their seeds, at most two of each."""
    by_seed: dict[int, list[History]] = {}
    for path in sorted(runs):
        history = RunLog(path).read()
        by_seed.setdefault(int(number(history.config.get("seed"))), []).append(history)

    return [histories[:2] for histories in by_seed.values()]


def spreads(seeds: Sequence[Sequence[History]]) -> dict[str, dict[str, float | int | None]]:
    """Return each result's spread between seeds, as a share, and the runs of each side that show the gap."""
    found: dict[str, dict[str, float | int | None]] = {}
    for result, field in RESULTS.items():
        logarithms = [math.log(getattr(analyse(runs[0]), field)) for runs in seeds]
        spread = statistics.stdev(logarithms)
        found[result] = {"spread": spread, "runs_of_each_side": repeats_for(math.log1p(GAP), spread, sides=2)}

    return found


def main() -> int:
    """Print and keep the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=400)
    options = parser.parse_args()

    seeds = read_seeds(options.runs)
    pairs = [runs for runs in seeds if len(runs) == 2]
    spread = spreads(seeds)
    for result, facts in spread.items():
        print(f"{result}: spread between {len(seeds)} seeds {facts['spread']:.2%}; ", end="")
        print(f"{GAP:.1%} takes {facts['runs_of_each_side']} runs of each side with other seeds")

    found: dict[str, dict[str, float]] = {}
    for apart in (False, True) if len(pairs) > 1 else (True,):
        for gap in (0.0, GAP):
            name = f"{'other seeds' if apart else 'the same seeds'}, gap {gap:.1%}"
            found[name] = shares(seeds if apart else pairs, gap, options.trials, apart)
            print(f"{name}: " + ", ".join(f"{result} {share:.1%}" for result, share in found[name].items()))

    save(
        options.output,
        shares=found,
        spreads=spread,
        seeds=len(seeds),
        pairs=len(pairs),
        trials=options.trials,
    )
    return 0


if __name__ == "__main__":
    run_command(main)
