"""Find mistakes in any sbatch script: things that Slurm accepts, but that go wrong later. Pure.

An *error* is certain to go wrong. A *warning* goes wrong on some clusters or in some jobs. A *hint* is
advice.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobctl.slurm.lint import directive_rules, launch_rules, secret_rules, signal_rules
from jobctl.slurm.lint.finding import Finding
from jobctl.slurm.lint.script import Script, read_script

RULES = (*directive_rules.RULES, *signal_rules.RULES, *launch_rules.RULES, *secret_rules.RULES)


def lint(text: str) -> list[Finding]:
    """Return the findings for a script in the order of its lines, without those that the script ignores."""
    script = read_script(text)
    findings = [finding for rule in RULES for finding in rule(script)]
    reported = _reported(script, findings)
    return sorted(reported, key=lambda finding: (finding.line, finding.rule))


def _reported(script: Script, findings: Iterable[Finding]) -> Iterable[Finding]:
    """Yield the findings that no ``# jobctl-lint: ignore=RULE`` silences."""
    for finding in findings:
        names = script.ignored_rules.get(0, frozenset()) | script.ignored_rules.get(finding.line, frozenset())
        if finding.rule not in names and "all" not in names:
            yield finding
