"""``jobctl exporter`` as a service and as a command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from jobctl.jobs.core import layout
from tests.jobs.cli.test_analyze import call
from tests.jobs.cli.test_watch import PROGRAM
from tests.jobs.monitoring.runs import write_run


def test_it_serves_until_it_is_ended(root: Path) -> None:
    write_run(layout.run_dir(root, "a"))
    words = [sys.executable, "-c", PROGRAM, "exporter", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = process.stdout.readline().split(" at ")[-1].strip()
        with urllib.request.urlopen(address, timeout=60) as answer:
            text = answer.read().decode()

        assert 'jobctl_run_step{model="qwen3_1.8b",run="a"} 200.0' in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_metrics_and_dashboard_are_printed(root: Path) -> None:
    write_run(layout.run_dir(root, "a"))
    assert 'run="a"' in call("exporter", "--once").output
    assert json.loads(call("exporter", "--dashboard").output)["title"] == "jobctl runs"
