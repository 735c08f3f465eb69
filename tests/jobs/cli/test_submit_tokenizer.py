"""``--tokenizer ./FOLDER``: a tokenizer that the catalogue does not know, from the submission to the training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.jobs.cli.test_cli import Invoke, jobctl
from tests.prep.encode.test_folders import END, byte_level, written

__all__ = ["jobctl"]

PREP = ("submit", "prep", "--dataset", "mine", "--run", "p")
TRAIN = ("submit", "--model", "qwen3_smoke", "--hardware", "cpu", "--dataset", "mine")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(byte_level(tmp_path / "hub/small"), "tokenizer_config.json", {"eos_token": END})


@pytest.fixture
def source(tmp_path: Path) -> str:
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"line {i} of it"}) + "\n" for i in range(2000)))
    return f"--source={text}"


def test_prep_by_submit_takes_a_folder_and_a_training_takes_its_name(
    jobctl: Invoke, root: Path, folder: Path, source: str
) -> None:
    code, _, err = jobctl(*PREP, "--tokenizer", "hub/small", "--wait", "--", source)
    assert code == 0, err
    record = json.loads((root / "runs/p/run.json").read_text())["spec"]
    meta = json.loads((root / "datasets/mine-small/meta.json").read_text())
    assert record["inputs"]["tokenizer"] == "small"
    assert record["tokenizer_folder"] == {"folder": str(folder), "sha256": meta["tokenizer"]["sha256"]}
    assert meta["vocab_size"] == 300

    # The name is enough from now on, for more text and for a training.
    shutil.rmtree(folder)
    code, _, err = jobctl(
        "submit", "prep", "--dataset", "more", "--tokenizer", "small", "--wait", "--", source
    )
    assert code == 0, err
    code, out, _ = jobctl(*TRAIN, "--tokenizer", "small", "--dry-run")
    assert (code, "JOB_DATASET=mine-small" in out) == (0, True)
    code, _, err = jobctl(*TRAIN, "--tokenizer", "smal", "--dry-run")
    assert (code, "unknown tokenizer 'smal'" in err) == (2, True)


def test_the_copy_of_the_run_is_what_the_job_reads(jobctl: Invoke, root: Path, folder: Path) -> None:
    code, out, _ = jobctl(*PREP, "--tokenizer", "./hub/small", "--dry-run", "--", "--source=/texts")
    assert code == 0
    assert '"--tokenizer=$RUN_DIR/tokenizer/"small' in out
    assert not root.exists()


def test_a_training_is_refused_before_the_ids_are_made(jobctl: Invoke, folder: Path) -> None:
    model = ("--set", "vocab_size=256")
    for words in (TRAIN, ("pipeline", *TRAIN[1:], "--wait")):
        code, _, err = jobctl(*words, *model, "--tokenizer", "./hub/small")
        assert code == 2
        assert "tokenizer small has ids up to 299, but qwen3_smoke has 256 rows" in err
        assert "--set vocab_size=320" in err


def test_a_pipeline_fetches_no_tokenizer_that_is_a_folder(jobctl: Invoke, folder: Path) -> None:
    words = ("pipeline", "--model", "qwen3_smoke", "--hardware", "cpu", "--dataset", "sotu", "--dry-run")
    code, out, err = jobctl(*words, "--tokenizer", "./hub/small", "--json")
    assert code == 0, err
    assert json.loads(out)["steps"][0]["name"] == "prep"


def test_another_tokenizer_of_the_same_name_is_refused(jobctl: Invoke, root: Path, folder: Path) -> None:
    made = root / "tokenizers/small"
    made.mkdir(parents=True)
    (made / "tokenizer.json").write_text("{}")
    words = (*PREP, "--tokenizer", "./hub/small", "--dry-run", "--", "--source=/texts")
    code, _, err = jobctl(*words)
    assert (code, "tokenizers/small is another tokenizer of the same name" in err) == (2, True)

    shutil.rmtree(made)
    ids = root / "datasets/mine-small"
    ids.mkdir(parents=True)
    (ids / "meta.json").write_text(json.dumps({"vocab_size": 300, "tokenizer": {"sha256": "0" * 64}}))
    code, _, err = jobctl(*words)
    assert (code, "mine-small was made with another tokenizer" in err) == (2, True)


def test_a_folder_that_jobs_cannot_see_is_refused(jobctl: Invoke, folder: Path) -> None:
    words = ("--tokenizer", "./hub/small", "--target", "k8s", "--set", "namespace=n", "--dry-run")
    code, _, err = jobctl(*PREP, *words, "--", "--source=/texts")
    assert code == 2
    assert "jobs on k8s cannot read this machine's files" in err
    assert "copy it to tokenizers/small on the cluster's volume, then use --tokenizer small" in err

    # The training reads ids, and this host can still compare their number with the model's rows.
    code, out, _ = jobctl(*TRAIN, *words)
    assert (code, "mine-small" in out) == (0, True)
    code, _, err = jobctl(*TRAIN, "--tokenizer", "small", *words[2:])
    assert code == 0
    assert "tokenizer 'small' is not in the catalogue" in err


def test_a_folder_is_not_fetched(jobctl: Invoke, folder: Path) -> None:
    code, _, err = jobctl("submit", "tokenizer", "--tokenizer", "./hub/small")
    assert (code, "is a folder, so jobctl does not need to fetch it" in err) == (2, True)


def test_the_hash_of_the_file_belongs_to_the_job_and_its_place_does_not(
    jobctl: Invoke, folder: Path, tmp_path: Path
) -> None:
    def hash_of(given: str) -> str:
        code, out, err = jobctl(*PREP, "--tokenizer", given, "--dry-run", "--", "--source=/texts")
        assert code == 0, err
        return out.split('"spec_hash": "')[1][:16]

    shutil.copytree(folder, tmp_path / "elsewhere/small")
    first = hash_of("./hub/small")
    assert hash_of("elsewhere/small") == first
    (tmp_path / "elsewhere/small/tokenizer.json").write_text("{}")
    assert hash_of("elsewhere/small") != first
