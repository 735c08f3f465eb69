"""A warning before the time limit fits the limit, or the user is told."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import seconds
from jobctl.jobs.spec.resolution import Choices, Resolution, resolve


def resolved(*sets: str, **choices: str) -> Resolution:
    given = Choices(**{"model": "qwen3_smoke", "target": "slurm", **choices}, sets=sets)  # type: ignore[arg-type]
    return resolve(given, version="0")


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        ("60", 3600),
        ("30:00", 1800),
        ("30:15", 1815),
        ("1:30:00", 5400),
        ("100:00:00", 360000),
        ("1-0", 86400),
        ("1-12", 129600),
        ("1-00:30", 88200),
        ("1-00:00:05", 86405),
    ],
)
def test_a_time_limit_may_have_any_of_sbatchs_spellings(spelled: str, expected: int) -> None:
    assert seconds(resolved(f"time_limit={spelled}").spec.resources.time_limit) == expected


@pytest.mark.parametrize("spelled", ["", "1h", "1-", "-1", "1:2:3:4", "1-2:3:4:5"])
def test_what_sbatch_would_not_read_is_refused(spelled: str) -> None:
    with pytest.raises(UserError, match="time_limit"):
        resolved(f"time_limit={spelled}")


@pytest.mark.parametrize(("limit", "grace"), [("24:00:00", 300), ("6:01", 300), ("5:00", 80), ("2", 20)])
def test_a_short_limit_has_a_shorter_warning(limit: str, grace: int) -> None:
    resolution = resolved(f"time_limit={limit}")
    assert resolution.spec.resources.stop_grace_seconds == grace
    told = [warning for warning in resolution.warnings if "stop_grace_seconds" in warning]
    assert len(told) == (grace != 300)


def test_a_warning_that_the_user_chose_is_kept_or_refused() -> None:
    spec = resolved("time_limit=5:00", "stop_grace_seconds=200").spec
    assert spec.resources.stop_grace_seconds == 200
    with pytest.raises(
        UserError, match="stop_grace_seconds 300 leaves no time to run in time_limit 5:00"
    ) as error:
        resolved("time_limit=5:00", "stop_grace_seconds=300")
    assert "use less than 240;" in error.value.hint


def test_a_job_that_uses_all_of_its_time_needs_no_warning() -> None:
    assert resolved("time_limit=5:00", stage="sweep").spec.resources.stop_grace_seconds == 300
