"""A run directory that may only be read is evaluated, sampled and exported, and nothing in it changes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from jobctl.trainer import __main__ as trainer
from jobctl.trainer import export, sample
from jobctl.trainer.interop import hf_folder  # noqa: F401 - a process of another user may not import it
from jobctl.trainer.training import session  # noqa: F401 - the same
from tests.other_user import told_by_other
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import records, train
from tests.trainer.test_export import write_tokenizer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user, which root alone may")


@pytest.fixture
def root() -> Iterator[Path]:
    """A root of someone else, with one run of two steps."""
    root = Path(tempfile.mkdtemp(prefix="jobctl-read-only-", dir="/tmp"))
    root.chmod(0o755)
    data = write_corpus(root / "data", tokenizer="words")
    assert train(arguments(data, root / "runs/run", max_iters=2, eval_interval=2)) == 0
    (root / "tokenizers").mkdir()
    write_tokenizer(root / "tokenizers/words")
    yield root
    shutil.rmtree(root)


def as_reader(action: Callable[[], str]) -> str:
    """Do something as a user who may read the root; torch's threads do not live on in a forked process."""

    def alone() -> str:
        torch.set_num_threads(1)
        return action()

    return told_by_other(alone)


def content(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of each file below ``folder``."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_it_is_evaluated_beside(root: Path) -> None:
    run = root / "runs/run"
    before = content(root)
    (expected,) = records(run, "eval")

    def evaluate() -> str:
        os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="jobctl-other-", dir="/tmp")
        tempfile.tempdir = None
        code = trainer.main([f"--run_dir={run}", "--eval_only=True"])
        (folder,) = Path(os.environ["TMPDIR"]).glob("jobctl-eval-*")
        (score,) = records(folder, "eval", log="eval")
        shutil.rmtree(os.environ["TMPDIR"])
        return f"{code} {score['val_loss']}"

    assert as_reader(evaluate) == f"0 {expected['val_loss']}"
    assert content(root) == before


def test_a_training_there_is_refused(root: Path) -> None:
    run = root / "runs/run"
    assert as_reader(lambda: str(trainer.main([f"--run_dir={run}", "--max_iters=4"]))) == "1"


def test_it_is_sampled_and_exported_elsewhere(root: Path) -> None:
    run = root / "runs/run"
    before = content(root)

    def use() -> str:
        folder = Path(tempfile.mkdtemp(prefix="jobctl-other-", dir="/tmp"))
        prompt = ["--prompt", "w5", "--max_new_tokens", "2", "--device", "cpu"]
        codes = [sample.main([str(run), *prompt]), export.main([str(run), "--output", str(folder / "hf")])]
        codes.append(export.main([str(run)]))
        shutil.rmtree(folder)
        return str(codes)

    assert as_reader(use) == "[0, 0, 1]"
    assert content(root) == before
