"""Settings that a user changes after the submission, and what cannot be changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.render import trainer_flags
from jobctl.jobs.runs.edits import ANOTHER_PLACE, ANOTHER_RUN, Edit, describe, edited, lengthens, make_edit
from jobctl.jobs.runs.records import parse_record, with_edit
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec

Job = Callable[..., JobSpec]


@pytest.fixture
def spec(job: Job) -> TrainSpec:
    made = job("true")
    assert isinstance(made, TrainSpec)
    return made


def edit(**settings: Any) -> Edit:
    return Edit(settings=settings, time="2026-11-29T02:00:00+00:00", after_attempt=3)


def test_edits_follow_each_other(spec: TrainSpec) -> None:
    later = edited(spec, [edit(learning_rate=1e-3, time_limit="1:00:00"), edit(learning_rate=2e-3)])
    assert isinstance(later, TrainSpec)
    assert later.train == msgspec.structs.replace(spec.train, learning_rate=2e-3)
    assert later.resources == msgspec.structs.replace(spec.resources, time_limit="1:00:00")
    assert (later.model, later.inputs, later.site) == (spec.model, spec.inputs, spec.site)


def test_the_trainer_is_told_what_may_differ_from_the_checkpoint(spec: TrainSpec) -> None:
    later = edited(spec, [edit(learning_rate=1e-3, time_limit="1:00:00"), edit(beta2=0.9)])
    assert isinstance(later, TrainSpec)
    assert trainer_flags(later)[-1] == "--allow_changes=beta2,learning_rate"
    assert "--learning_rate=0.001" in trainer_flags(later)
    assert not [flag for flag in trainer_flags(spec) if flag.startswith("--allow_changes")]


def test_an_edit_of_a_mapping_changes_one_of_its_keys(job: Job) -> None:
    before = job("true", sets=("python=/x", "env.A=1", "env.B=2"))
    assert edited(before, [make_edit(before, ["env.B=3"], 0)]).site.env == {"A": "1", "B": "3"}


@pytest.mark.parametrize("word", ["partition=debug", "slurm.partition=debug"])
def test_an_edit_changes_one_key_of_a_section(job: Job, word: str) -> None:
    before = job("true", sets=("slurm.partition=gpu", "slurm.account=nlp", "container.mounts=[/a:/a]"))
    site = edited(before, [make_edit(before, [word], 0)]).site
    assert (site.slurm.partition, site.slurm.account, site.container.mounts) == ("debug", "nlp", ("/a:/a",))


def test_the_record_keeps_the_spec_and_the_edits_apart(spec: TrainSpec) -> None:
    text = with_edit(with_edit(spec.record(), edit(beta2=0.9)), edit(beta1=0.8))
    record = parse_record(text, "test")
    assert isinstance(record.spec, TrainSpec)
    assert record.spec.train == spec.train
    assert [line.settings for line in record.edits] == [{"beta2": 0.9}, {"beta1": 0.8}]
    resumed = record.spec_to_resume()
    assert isinstance(resumed, TrainSpec)
    assert (resumed.train.beta1, resumed.train.beta2) == (0.8, 0.9)
    assert resumed.fingerprint() == spec.fingerprint()


def test_what_a_later_version_wrote_into_a_record_stays() -> None:
    assert '"later": 7' in with_edit('{"format": 2, "spec": {}, "later": 7}', edit(beta1=0.8))


@pytest.mark.parametrize("key", sorted(ANOTHER_RUN | ANOTHER_PLACE))
def test_what_makes_it_another_run_is_refused(spec: TrainSpec, key: str) -> None:
    with pytest.raises(UserError, match=f"--set {key}: (a run with a checkpoint|this key sets where)"):
        make_edit(spec, [f"{key}=1"], 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["learning_rat=1"], "mean 'learning_rate'"),
        (["learning_rate=fast"], "learning_rate is 'fast'; it must be a number"),
        (["min_lr=1.0"], "min_lr 1.0 is above learning_rate"),
        (["env.API_TOKEN=abc"], "looks like a secret"),
        (["block_size=4096"], "longer than the model's max_position_embeddings"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_it_is_recorded(
    spec: TrainSpec, words: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_edit(spec, words, 0)


def test_other_processes_need_a_word_on_the_batch(spec: TrainSpec) -> None:
    more = 2 * spec.processes_per_node
    batch = f"from {spec.global_batch_size} to {2 * spec.global_batch_size} sequences"
    with pytest.raises(UserError, match=batch):
        make_edit(spec, [f"processes_per_node={more}"], 0)
    meant = make_edit(spec, [f"processes_per_node={more}", "gradient_accumulation_steps=1"], 2)
    assert meant.after_attempt == 2


def test_only_more_steps_lengthen_a_run(spec: TrainSpec) -> None:
    assert lengthens(spec, edit(max_iters=spec.train.max_iters + 1))
    assert not lengthens(spec, edit(max_iters=spec.train.max_iters))
    assert not lengthens(spec, edit(learning_rate=1e-3))


def test_an_edit_is_one_line_for_people() -> None:
    line = describe(edit(beta2=0.9, max_iters=7))
    assert line == "2026-11-29T02:00:00+00:00 after attempt 3: beta2=0.9, max_iters=7"
