"""The clock of a pod: it warns, it ends the attempt, and nothing of it stays behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import jobctl.templates

CLOCK = Path(jobctl.templates.__file__).parent / "kubernetes" / "clock.sh"
STOPPED_BEFORE = """
set -eu -o functrace
. "$1"
END=$(($(date +%s) + 1000))
JOB_STOP_GRACE_SECONDS=10
begin() {
  commands=0
  trap 'commands=$((commands + 1)); [ "$BASH_SUBSHELL/$commands" != "1/$AT" ] || kill -TERM "$BASHPID"' DEBUG
  watch_clock
}
AT=$2
begin &
CLOCK=$!
"""
"""Start the clock, and send it SIGTERM before its command number $2."""
NAP = 'until pgrep -P "$CLOCK" sleep >/dev/null || ! kill -0 "$CLOCK" 2>/dev/null; do :; done\n'
"""Wait until the clock sleeps, or has gone."""
STOP = "kill -TERM $CLOCK 2>/dev/null || true\nwait $CLOCK || true\n"


@pytest.mark.parametrize("command", range(1, 13))
def test_a_clock_that_is_stopped_at_any_moment_holds_no_output_open(command: int) -> None:
    """Else the pod of a job that ended at once would stay until its time limit."""
    words = ["bash", "-c", STOPPED_BEFORE + NAP + STOP, "pod", str(CLOCK), str(command)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
