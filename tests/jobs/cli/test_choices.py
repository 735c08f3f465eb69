"""The options and the project file become choices; what they contradict is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.cli.choices import project_choices, resolution, root
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.render import trainer_flags
from tests.jobs.cli.test_pipeline import OPTIONS


def choose(*words: str, **options: Any) -> Any:
    given = {
        **OPTIONS,
        "hardware": None,
        "nodes": None,
        "gpus_per_node": None,
        "sets": (),
        "model": "qwen3_smoke",
    }
    return resolution(**{**given, "words": words, **options})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project file of the working directory; no root is set."""
    monkeypatch.delenv("JOBCTL_ROOT", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "jobctl.yaml"


def test_the_root_is_the_environments_then_the_projects_then_the_homes(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert root() == tmp_path / "home/jobctl"
    project.write_text("settings: {root: from-project}\n")
    assert root() == tmp_path / "from-project"
    monkeypatch.setenv("JOBCTL_ROOT", "~/mine")
    assert root() == tmp_path / "home/mine"


@pytest.mark.parametrize("environment", ["", "/from/environment"])
def test_a_job_has_the_root_that_its_run_is_looked_for_in(
    project: Path, monkeypatch: pytest.MonkeyPatch, environment: str
) -> None:
    project.write_text("settings: {root: from-project}\n")
    monkeypatch.setenv("JOBCTL_ROOT", environment)
    assert choose(target="local").spec.site.root == str(root())


def test_a_named_option_wins_over_the_project_file(project: Path) -> None:
    project.write_text("target: slurm\nhardware: h100\nsettings: {nodes: 3}\n")
    chosen = choose(target=None).spec
    assert (chosen.target, chosen.hardware, chosen.resources.nodes) == ("slurm", "h100", 3)
    named = choose(target="k8s", hardware="b200", nodes=4).spec
    assert (named.target, named.hardware, named.resources.nodes) == ("k8s", "b200", 4)


def test_weights_to_begin_with_have_an_option_and_reach_the_trainer(project: Path) -> None:
    spec = choose(init_from="run:first@30").spec
    assert spec.train.init_from == "run:first@30"
    assert "--init_from=run:first@30" in trainer_flags(spec)
    with pytest.raises(UserError, match="it must be auto, scratch, resume, or "):
        choose(init_from="first")


def test_a_wrong_key_of_the_project_file_is_named_with_its_line(project: Path) -> None:
    project.write_text("target: slurm\nsettings:\n  nodse: 3\n")
    with pytest.raises(UserError, match=r"jobctl\.yaml:3: unknown key 'nodse'; did you mean 'nodes'"):
        choose()


@pytest.mark.parametrize(
    ("wrong", "right"), [("modle", "model"), ("hardwre", "hardware"), ("nodse", "nodes")]
)
def test_a_misspelled_choice_of_a_short_project_file_is_named(project: Path, wrong: str, right: str) -> None:
    project.write_text(f"target: slurm\n{wrong}: 3\n")
    with pytest.raises(UserError, match=rf"jobctl\.yaml:2: unknown key '{wrong}'; did you mean '{right}'"):
        project_choices()


def test_without_a_project_file_there_is_nothing_of_it(project: Path) -> None:
    assert project_choices()[1] is None


@pytest.mark.parametrize(
    ("words", "kind", "stage"),
    [((), "train", "train"), (("eval",), "eval", "eval"), (("--seed=1",), "train", "train")],
)
def test_the_first_word_is_the_kind_of_the_job(
    project: Path, words: tuple[str, ...], kind: str, stage: str
) -> None:
    spec = choose(*words).spec
    assert (spec.step, spec.stage) == (kind, stage)


def test_a_patch_needs_files_that_the_jobs_see(project: Path) -> None:
    with pytest.raises(UserError, match="cannot read this machine's files"):
        choose(target="k8s", patch=True)


def test_trusted_owners_are_no_part_of_the_record(project: Path) -> None:
    spec = choose(trusted=("daemon",)).spec
    assert spec.trusted == ("daemon",)
    assert spec.record() == choose().spec.record()


@pytest.mark.parametrize(
    "text",
    [
        "target: slurm\nseed: 7\nslurm: {partition: p}\n",
        "target: slurm\nsettings: {seed: 7, slurm.partition: p}\n",
    ],
)
def test_a_project_file_needs_no_settings_key(project: Path, text: str) -> None:
    project.write_text(text)
    spec = choose(target=None).spec
    assert (spec.target, spec.train.seed, spec.site.slurm.partition) == ("slurm", 7, "p")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "settings:\n", "target: local\nsettings:\n"])
def test_a_project_file_may_say_nothing(project: Path, text: str) -> None:
    project.write_text(text)
    assert choose(target=None).spec.target == "local"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "jobctl.yaml:1: must be a mapping"),
        (
            "target: slurm\nlearning_rat: 7\n",
            "jobctl.yaml:2: unknown key 'learning_rat'; did you mean 'learning_rate'?",
        ),
        (
            "settings:\n  learning_rat: 7\n",
            "jobctl.yaml:2: unknown key 'learning_rat'; did you mean 'learning_rate'?",
        ),
    ],
)
def test_a_wrong_project_file_is_refused_with_the_line(project: Path, text: str, message: str) -> None:
    project.write_text(text)
    with pytest.raises(UserError) as error:
        choose(target=None)
    assert message in error.value.message


def test_a_run_cannot_come_after_itself() -> None:
    with pytest.raises(UserError, match="--after x: the run would wait for itself"):
        choose(target="slurm", run="x", after=("x",))
