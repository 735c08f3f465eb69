"""Who waits for whom, and the record by which a pipeline is found again."""

from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import pipeline
from jobctl.jobs.runs.pipeline import STEPS, Pipeline, Step, plan


def test_each_step_waits_for_the_one_before_it() -> None:
    found = [(step.name, step.run, step.after) for step in plan("p").steps]
    assert found == [
        ("tokenizer", "p-tokenizer", ()),
        ("mirror", "p-mirror", ("p-tokenizer",)),
        ("prep", "p-prep", ("p-mirror",)),
        ("preflight", "p-preflight", ("p-prep",)),
        ("train", "p-train", ("p-preflight",)),
        ("eval", "p-train:eval", ("p-train",)),
        ("export", "p-train:export", ("p-train:eval",)),
    ]


def test_what_is_left_out_is_not_waited_for() -> None:
    found = {step.name: step.after for step in plan("p", skip=["tokenizer", "mirror", "preflight"]).steps}
    assert found == {"prep": (), "train": ("p-prep",), "eval": ("p-train",), "export": ("p-train:eval",)}
    assert [step.after for step in plan("p").without(STEPS[:5]).steps] == [(), ("p-train:eval",)]


def test_a_step_that_is_none_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no step 'perp'; did you mean 'prep'"):
        plan("p", skip=["perp"])


def test_the_record_is_read_back(tmp_path: Path) -> None:
    assert pipeline.read(tmp_path, "p") is None
    pipeline.write(tmp_path, plan("p", skip=["eval"]))
    assert pipeline.read(tmp_path, "p") == plan("p", skip=["eval"])
    assert pipeline.read(tmp_path, "../pipelines/p") is None
    (tmp_path / "pipelines/p.json").write_text("{")
    with pytest.raises(UserError, match="not a pipeline's record"):
        pipeline.read(tmp_path, "p")


def test_a_record_whose_runs_lie_elsewhere_is_refused(tmp_path: Path) -> None:
    pipeline.write(tmp_path, Pipeline("p", (Step("train", "../../home/.ssh"),)))
    with pytest.raises(UserError, match=r"'\.\./\.\./home/\.ssh' is not a run's name"):
        pipeline.read(tmp_path, "p")
