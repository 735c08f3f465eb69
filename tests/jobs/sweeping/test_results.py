"""What came of trials is read as it was written, and what is damaged hides nothing else."""

from __future__ import annotations

from pathlib import Path

from jobctl.jobs.sweeping.plan import Outcome, Trial
from jobctl.jobs.sweeping.results import FILE, read_outcome, read_outcomes, trial_dir, write_outcome

FIRST = Trial(arm=0, batch_size=4, purpose="fit")
SECOND = Trial(arm=1, batch_size=2, purpose="time")


def test_outcomes_are_read_by_arm(tmp_path: Path) -> None:
    late = Outcome(trial=SECOND, attempt=1, status="fits", tokens_per_second=100.0)
    early = Outcome(trial=FIRST, attempt=1, status="memory", reason="CUDA out of memory")
    write_outcome(tmp_path, late)
    write_outcome(tmp_path, early)
    assert read_outcomes(tmp_path) == [early, late]
    assert read_outcome(tmp_path, SECOND) == late


def test_what_is_not_there_or_damaged_is_not_known(tmp_path: Path) -> None:
    assert read_outcomes(tmp_path) == []
    write_outcome(tmp_path, Outcome(trial=FIRST, attempt=1, status="fits"))
    torn = trial_dir(tmp_path, SECOND) / FILE
    torn.parent.mkdir(parents=True)
    torn.write_text('{"trial": {"arm": 1,')
    assert [outcome.trial for outcome in read_outcomes(tmp_path)] == [FIRST]
    assert read_outcome(tmp_path, SECOND) is None
