"""The results of a sweep: one file for each trial below the run directory, written atomically."""

from __future__ import annotations

from pathlib import Path

import msgspec

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.reading import decode_json, read_regular
from jobctl.jobs.sweeping.plan import Outcome, Trial

FILE = "outcome.json"


def sweep_dir(run: Path) -> Path:
    """Return the folder of all trials of a run."""
    return run / "sweep"


def trial_dir(run: Path, trial: Trial) -> Path:
    """Return the run directory of one trial."""
    return sweep_dir(run) / f"arm-{trial.arm}" / trial.name


def write_outcome(run: Path, outcome: Outcome) -> None:
    """Write the outcome of a trial."""
    folder = trial_dir(run, outcome.trial)
    folder.mkdir(parents=True, exist_ok=True)
    # The file must never be half written: the next attempt of the sweep continues from these files.
    write_whole(folder / FILE, msgspec.json.encode(outcome) + b"\n")


def read_outcome(run: Path, trial: Trial) -> Outcome | None:
    """Return the outcome of a trial; None if it has not ended."""
    return _read(trial_dir(run, trial) / FILE)


def read_outcomes(run: Path) -> list[Outcome]:
    """Return the outcomes of all trials so far, by arm, purpose and size.

    A file that cannot be read is left out.
    """
    paths = sweep_dir(run).glob(f"arm-*/*/{FILE}")
    outcomes = [outcome for path in paths if (outcome := _read(path)) is not None]
    return sorted(outcomes, key=lambda o: (o.trial.arm, o.trial.purpose, o.trial.batch_size))


def _read(path: Path) -> Outcome | None:
    try:
        return decode_json(read_regular(path), Outcome)
    except (OSError, msgspec.MsgspecError):
        # A damaged outcome counts as missing: its trial runs once more.
        return None
