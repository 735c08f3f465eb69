import subprocess
import sys

from tests.trainer.running import PROJECT

STUCK = """
import sys, time
from jobctl.trainer.lifecycle.watchdog import Watchdog
with Watchdog(1, sys.stderr) as watchdog:
    for _ in range(6):
        time.sleep(0.2)
        watchdog.beat()
    print("beating", flush=True)
    def waits_for_ever(): time.sleep(600)
    waits_for_ever()
"""


def test_who_no_longer_beats_is_ended_with_every_stack() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STUCK], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.stdout == "beating\n"
    assert ended.returncode == 1
    assert "Timeout (0:00:01)!" in ended.stderr
    assert "in waits_for_ever" in ended.stderr
