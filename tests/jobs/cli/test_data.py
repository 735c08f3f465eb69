from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from jobctl.jobs.cli import data
from jobctl.jobs.cli.data import data_command


@pytest.mark.parametrize("code", [0, 2])
def test_prep_is_asked_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setenv("JOBCTL_ROOT", str(tmp_path / "root"))
    asked: list[list[str]] = []

    def run(command: list[str], check: bool) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(data.subprocess, "run", run)
    given = ["adopt", str(tmp_path), "--tokenizer", "gpt2", "--validation", "a*", "--validation", "b*"]
    result = CliRunner().invoke(data_command, [*given, "--dtype", "uint16", "--eos-token", "</s>"])

    assert result.exit_code == code
    [command] = asked
    assert command[1:4] == ["-m", "jobctl.prep.adopt", str(tmp_path)]
    assert command[4:] == [
        f"--root={tmp_path / 'root'}",
        "--tokenizer=gpt2",
        "--validation",
        "a*",
        "b*",
        "--dtype=uint16",
        "--eos-token=</s>",
    ]


def test_a_folder_that_is_absent_is_a_wrong_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = CliRunner().invoke(data_command, ["adopt", str(tmp_path / "gone"), "--tokenizer", "gpt2"])
    assert result.exit_code == 2
    assert "is not a folder" in capfd.readouterr().err
