"""The table of job kinds is the only place that knows one kind from another."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from jobctl.jobs import kinds
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.kinds import KINDS, JobKind, job_kind, job_name, recorded_kind, split_name
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.targets.registry import load_target

TOP = Path(kinds.__file__).parents[1]
NAMES = {kind.name for kind in KINDS}
TARGETS = ("local", "docker", "slurm", "allocation", "k8s")


def spec_of(kind: JobKind, target: str = "local") -> JobSpec:
    model = "qwen3_smoke" if kind.has_model else ""
    sets = ("sweep_batch_sizes=[1, 2]",) if kind.array == "arms" else ()
    choices = Choices(kind=kind.name, model=model, target=target, run="r", sets=sets)
    return resolve(choices, version="0", root="/root").spec


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_spec_knows_its_row(kind: JobKind) -> None:
    spec = spec_of(kind)
    assert spec.job_kind is kind
    assert spec.step == kind.name
    assert recorded_kind(spec.kind, getattr(spec, "stage", "")) is kind


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_target_runs_the_module_of_the_table(kind: JobKind, name: str) -> None:
    assert re.search(rf"-m {kind.module}(?![.\w])", load_target(name).render(spec_of(kind, name)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_module_is_in_the_source_tree(kind: JobKind) -> None:
    module = TOP.joinpath(*kind.module.split(".")[1:])
    assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_name_of_a_job_is_split_again(kind: JobKind) -> None:
    name = job_name("r", kind.name)
    assert split_name(name) == ("r", kind.name if kind.reads_checkpoint else "")


def test_an_unknown_kind_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="unknown kind of job 'prpe'; did you mean 'prep'"):
        job_kind("prpe")
    with pytest.raises(UserError, match="unknown kind of job 'evil'; did you mean 'eval'"):
        resolve(Choices(kind="evil", model="qwen3_smoke"), version="0")


def test_a_kind_with_a_stage_takes_no_other() -> None:
    with pytest.raises(UserError, match="eval and --stage mfu contradict each other"):
        resolve(Choices(kind="eval", model="qwen3_smoke", stage="mfu"), version="0")
    by_stage = resolve(Choices(model="qwen3_smoke", stage="eval"), version="0").spec
    by_kind = resolve(Choices(kind="eval", model="qwen3_smoke"), version="0").spec
    assert by_stage == by_kind


def test_a_pipeline_has_its_steps_in_an_order_that_works() -> None:
    order = [kind.name for kind in kinds.PIPELINE]
    assert order == ["tokenizer", "mirror", "prep", "preflight", "train", "eval", "export"]


def test_no_other_file_compares_the_name_of_a_kind() -> None:
    """An ``if`` on a name is a rule that the next kind would miss."""
    files = [file for room in ("jobs", "slurm", "k8s") for file in (TOP / room).rglob("*.py")]
    assert len(files) > 50
    assert [place for file in files for place in _comparisons(file)] == []


def test_no_template_compares_the_name_of_a_kind() -> None:
    files = [*TOP.joinpath("templates").rglob("*.j2")]
    texts = {file.name: file.read_text(encoding="utf-8") for file in files}
    assert len(texts) > 15
    assert [
        name for name, text in texts.items() if re.search(r"spec\.(kind|step|stage)\s*(==|!=|in\b)", text)
    ] == []


def test_a_template_takes_a_kinds_module_from_the_table() -> None:
    """The shell functions for a sweep and for a check before a job name the two modules that they run."""
    files = [*TOP.joinpath("templates").rglob("*.j2")]
    modules = [kind.module for kind in KINDS]
    named = [
        f.name for f in files for module in modules if re.search(rf"-m {module}\b", f.read_text("utf-8"))
    ]
    assert named == []


def _comparisons(file: Path) -> list[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    comparisons = (node for node in ast.walk(tree) if isinstance(node, ast.Compare))
    return [
        f"{file.name}:{node.lineno}"
        for node in comparisons
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and part.value in NAMES
    ]
