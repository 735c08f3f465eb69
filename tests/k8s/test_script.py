"""A pod's script has the functions that it calls, and no others of its kind."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from jobctl.jobs.render import TEMPLATES
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.k8s.script import function_files, pods_meet
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import spec_of

FILES = (*TEMPLATES.glob("shell/*.sh"), *TEMPLATES.glob("kubernetes/*.sh"))
CHOICES: dict[str, dict[str, Any]] = {
    "training": {},
    "training of two pods": {"nodes": 2},
    "checked training": {"nodes": 2, "sets": ("preflight=stop",)},
    "sweep": {"stage": "sweep"},
    "preflight": {"kind": "preflight", "model": "", "stage": "train", "nodes": 2},
    "prep": {"kind": "prep", "model": "", "stage": "train", "nodes": 3, "named": {"processes_per_node": 0}},
    "secrets": {"sets": ("kubernetes.secret=tokens", "pass_env=[HF_TOKEN]")},
    "code on the volume": {"sets": ("project_dir=/workspace/code",)},
}


def script_of(spec: JobSpec) -> str:
    record = next(yaml.safe_load_all(PYTORCH.render(spec)))
    script: str = record["data"]["script"]
    return script


def commands(script: str) -> str:
    return "\n".join(line for line in script.splitlines() if not line.lstrip().startswith("#"))


def defined_in(text: str) -> set[str]:
    return set(re.findall(r"^(\w+)\(\) \{", text, re.M))


@pytest.mark.parametrize("choice", CHOICES)
def test_a_script_defines_every_function_that_it_calls(choice: str) -> None:
    script = commands(script_of(spec_of(**CHOICES[choice])))
    shared = {name for file in FILES for name in defined_in(file.read_text())}
    # Such a word is at the beginning of a command: of a line, or after a word or sign of bash.
    called = set(
        re.findall(r"(?:^|[;|&({!]|\$\(|\bif|\bthen|\buntil|\bwhile)\s*(\w+)\b(?!\(\)|=)", script, re.M)
    )
    missing = (called & shared) - defined_in(script)
    if "JOB_PEERS=1 " in script:
        missing -= {"judge"}  # only pods that have peers call it
    assert missing == set()
    assert {"enter_attempt", "finish", "watch_clock", "run"} <= defined_in(script)


def test_pods_of_one_program_meet_and_workers_do_not() -> None:
    program = function_files(spec_of(nodes=2))
    workers = function_files(spec_of(**CHOICES["prep"]))
    assert "kubernetes/pods" in program
    assert "kubernetes/workers" not in program
    assert "kubernetes/workers" in workers
    assert "kubernetes/pods" not in workers


def test_a_pod_alone_waits_for_nobody() -> None:
    spec = spec_of(nodes=1)
    assert not pods_meet(spec)
    assert "--standalone" in script_of(spec)
    assert "RENDEZVOUS_HOST" not in script_of(spec)


@pytest.mark.parametrize(
    ("choice", "file"),
    [
        ("secrets", "kubernetes/secret_folder"),
        ("code on the volume", "environment"),
        ("checked training", "kubernetes/preflight"),
    ],
)
def test_functions_of_an_option_come_with_the_option(choice: str, file: str) -> None:
    assert file in function_files(spec_of(**CHOICES[choice]))
    assert file not in function_files(spec_of())
