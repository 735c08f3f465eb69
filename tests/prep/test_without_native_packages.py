"""`tokenizers` alone must do: the encoders and libraries with one maintainer are optional."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobctl.prep.shards.format import open_dataset

SOURCE = Path(__file__).parents[2] / "src"
OPTIONAL = ("gigatoken", "fastokens", "rensa", "fasttext")
BLOCK = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OPTIONAL!r}:
            raise ImportError(f"{{name}} is not installed")

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a Python in which none of the optional packages can be imported."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BLOCK)
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{SOURCE}", "PYTHONSAFEPATH": "1"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    lines = [f"The state of the Union in {year}: 🙂 Ünïon, don't  stop.\n" for year in range(1790, 2026)]
    file.write_text("\n".join(lines))
    return file


def prep(environment: dict[str, str], *given: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobctl.prep", "--tokenizer", "gpt2", "--workers", "1", *map(str, given)]
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=False)


@pytest.mark.parametrize("package", OPTIONAL)
def test_the_optional_packages_cannot_be_imported_there(environment: dict[str, str], package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {package}"], env=environment, check=False, capture_output=True
    )
    assert b"ImportError" in done.stderr


def test_the_same_tokens_come_out(environment: dict[str, str], corpus: Path, tmp_path: Path) -> None:
    paths = {"PYTHONPATH": str(SOURCE)}
    for name, given in (("alone", environment), ("all", {**os.environ, **paths})):
        done = prep(given, "--dataset", "mine", "--source", corpus, "--root", tmp_path / name)
        assert done.returncode == 0, done.stderr

    alone = open_dataset(tmp_path / "alone/datasets/mine-gpt2").meta
    with_all = open_dataset(tmp_path / "all/datasets/mine-gpt2").meta
    assert alone.tokens > 0
    assert alone.fingerprint == with_all.fingerprint


@pytest.mark.parametrize(
    ("option", "package"),
    [
        (("--duplicates", "near"), "rensa"),
        (("--languages", "en"), "fasttext-predict"),
        (("--encoder", "gigatoken"), "gigatoken"),
        (("--encoder", "fastokens"), "fastokens"),
    ],
)
def test_an_option_that_needs_one_names_it(
    environment: dict[str, str], corpus: Path, tmp_path: Path, option: tuple[str, str], package: str
) -> None:
    done = prep(environment, "--dataset", "mine", "--source", corpus, "--root", tmp_path / "root", *option)
    assert done.returncode == 2, done.stderr
    assert f"pip install {package}" in done.stderr
    assert "Traceback" not in done.stderr
