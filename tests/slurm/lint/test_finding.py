"""A mistake in a script: its severity, and what machines read of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from jobctl.slurm.lint.finding import Finding, Severity, error, hint, warning


@pytest.mark.parametrize(("make", "severity"), [(error, "error"), (warning, "warning"), (hint, "hint")])
def test_each_degree_has_a_function(make: Callable[..., Finding], severity: Severity) -> None:
    finding = make(3, "no-time", "the job has no time limit", "add #SBATCH --time")
    assert finding.severity == severity
    assert (finding.line, finding.rule) == (3, "no-time")


def test_machines_read_these_keys() -> None:
    """``jobctl lint --json`` prints them, and CI of others reads them."""
    facts = msgspec.to_builtins(error(0, "no-time", "the job has no time limit", "add #SBATCH --time"))
    assert facts == {
        "line": 0,
        "rule": "no-time",
        "severity": "error",
        "message": "the job has no time limit",
        "fix": "add #SBATCH --time",
    }
