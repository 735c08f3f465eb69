"""The section ``notify`` of a project file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.cli.choices import project_choices
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.monitoring.notify_settings import KINDS, Notify


def test_it_is_read_from_the_project_file(root: Path) -> None:
    Path("jobctl.yaml").write_text("notify: {webhook_variable: SLACK_URL, on: [failure, nan]}\n")
    assert project_choices()[0].notify == Notify(webhook_variable="SLACK_URL", on=("failure", "nan"))
    assert Notify().on == KINDS


def test_an_address_in_the_file_is_refused(root: Path) -> None:
    Path("jobctl.yaml").write_text("notify: {webhook_variable: 'https://hooks.example.org/s3cret'}\n")
    with pytest.raises(UserError, match="webhook_variable"):
        project_choices()

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"webhook": "x"}, Notify)


def test_reading_it_imports_nothing_heavy() -> None:
    program = (
        "import sys; import jobctl.jobs.cli.choices;"
        "print(sorted(m for m in sys.modules if m.startswith('jobctl.jobs.monitoring')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['jobctl.jobs.monitoring', 'jobctl.jobs.monitoring.notify_settings']"
