"""Declared hardware against the real one: a job that finds no GPU is refused before it starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs import kinds
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.submission import resume_run, submit
from jobctl.jobs.targets import machine
from jobctl.jobs.targets.machine import Gpu, check_machine, refused, visible_gpus
from tests.jobs.targets.test_local import ended

Job = Callable[..., JobSpec]
A6000 = Gpu("NVIDIA RTX A6000", 47.99)
SMALL = Gpu("NVIDIA GeForce RTX 3090", 24.0)


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        ([], "the job needs 2 GPUs (a6000); this machine has none"),
        ([A6000], "the job needs 2 GPUs (a6000); this machine has 1"),
        ([A6000, SMALL], "a GPU of a6000 has 48 GiB; this machine's NVIDIA GeForce RTX 3090 has 24 GiB"),
    ],
)
def test_a_machine_that_lacks_what_is_declared_is_refused_in_words(
    job: Job, gpus: list[Gpu], said: str
) -> None:
    refusal = refused(job("true", hardware="a6000"), gpus, force=False)
    assert refusal is not None
    assert refusal.message == said
    assert refusal.hint


def test_force_lets_less_memory_pass_and_no_missing_gpu(job: Job) -> None:
    spec = job("true", hardware="a6000")
    assert refused(spec, [SMALL, SMALL], force=True) is None
    assert refused(spec, [SMALL], force=True) is not None


def test_the_machine_that_is_declared_is_taken(job: Job) -> None:
    assert refused(job("true", hardware="a6000"), [A6000, A6000], force=False) is None


@pytest.mark.parametrize(
    ("variable", "count"),
    [(None, 2), ("", 0), ("1", 1), ("0,1", 2), ("GPU-8a7c", 1), ("0,7,1", 1), ("-1", 1)],
)
def test_gpus_that_are_hidden_do_not_count(variable: str | None, count: int) -> None:
    environment = {} if variable is None else {"CUDA_VISIBLE_DEVICES": variable}
    assert len(visible_gpus([A6000, SMALL], environment)) == count


@pytest.mark.parametrize(
    ("kind", "extra"), [(kinds.TRAIN, "trainer"), (kinds.EXPORT, "trainer"), (kinds.PREP, "prep")]
)
def test_a_job_whose_package_is_not_installed_is_refused_before_it_starts(
    kind: kinds.JobKind, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.check_package(kind)
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=rf"a {kind.name} job on this machine needs the Python package"
    ) as refusal:
        machine.check_package(kind)
    assert f"[{extra}]'" in refusal.value.hint
    machine.check_package(kinds.MIRROR)


def test_an_interpreter_of_the_sites_is_not_looked_into(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    check_machine(job("true"))
    with pytest.raises(UserError, match="needs the Python package 'torch'"):
        check_machine(job("true", named={"python": ""}))


def test_the_driver_is_asked_once_for_names_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "query", lambda fields: ["NVIDIA RTX A6000, 49140"])
    assert machine.read_gpus() == [Gpu("NVIDIA RTX A6000", 49140 / 1024)]
    monkeypatch.setattr(machine, "query", lambda fields: ["NVIDIA GB10, [N/A]"])
    assert machine.read_gpus() == [Gpu("NVIDIA GB10", math.inf)]


def test_only_a_job_on_this_machine_is_held_against_it(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "query", lambda fields: [])
    check_machine(job("true", hardware="a6000", target="slurm"))
    check_machine(job("true", hardware="cpu"))
    for target in ("local", "docker"):
        with pytest.raises(UserError, match="this machine has none"):
            check_machine(job("true", hardware="a6000", target=target))


def test_a_run_is_not_resumed_on_a_machine_without_its_gpus(
    root: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "query", lambda fields: [])
    submit(job("exit 200", hardware="a6000"))
    assert ended(root, "r").state == "stopped"
    with pytest.raises(UserError, match=r"needs 2 GPUs \(a6000\)"):
        resume_run(runs.read(root, "r"))
