"""The command behind ``jobctl tokenizer``."""

import json
import shutil
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.fetch import main
from tests.prep import real_tokenizers


def test_a_tokenizer_that_a_package_ships_is_made_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gpt2", f"--root={tmp_path}"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/tokenizers/gpt2: complete and checked\n"
    assert (tmp_path / "tokenizers/gpt2/tokenizer.json").is_file()


def test_a_tokenizer_that_is_not_the_hubs_file_is_said_to_be_checked_by_its_ids_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tokenizers" / "qwen3"
    folder.mkdir(parents=True)
    shutil.copy(real_tokenizers.tokenizer_json("qwen3"), folder / "tokenizer.json")
    assert main(["qwen3", f"--root={tmp_path}"]) == 0
    assert (
        "by the ids of the fixed text alone: tokenizer.json is not the hub's own" in capsys.readouterr().out
    )


def test_a_tokenizer_that_is_another_is_refused(tmp_path: Path) -> None:
    main(["gpt2", f"--root={tmp_path}"])
    (tmp_path / "tokenizers/gpt2").rename(tmp_path / "tokenizers/llama3")
    with pytest.raises(UserError, match="llama3"):
        main(["llama3", f"--root={tmp_path}"])


def test_what_was_made_is_said_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpt2", f"--root={tmp_path}", "--json"]) == 0
    folder = str(tmp_path / "tokenizers/gpt2")
    assert json.loads(capsys.readouterr().out) == {
        "tokenizer": "gpt2", "directory": folder, "is_the_hubs_own": True,
    }  # fmt: skip
