"""``jobctl explain`` names every value of a job, and the layer that it came from."""

from __future__ import annotations

import json

from jobctl.jobs.catalog.schema import KEYS
from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]


def test_every_key_of_the_job_has_a_value_and_an_origin(jobctl: Invoke) -> None:
    code, out, _ = jobctl(
        "explain", "--model", "qwen3_smoke", "--set", "seed=7", "--nodes", "2", "-g", "slurm", "--json"
    )
    assert code == 0
    settings = json.loads(out)["settings"]
    assert set(settings) == set(KEYS)
    assert settings["seed"] == {"value": 7, "from": "--set"}
    assert settings["nodes"] == {"value": 2, "from": "flag"}
    assert settings["root"]["from"] == "$JOBCTL_ROOT"
    assert settings["grad_clip"]["from"] == "default"


def test_a_cluster_decides_the_root_of_its_pods(jobctl: Invoke) -> None:
    out = jobctl("explain", "--model", "qwen3_smoke", "-g", "k8s", "--json")[1]
    assert json.loads(out)["settings"]["root"] == {"value": "/workspace", "from": "target k8s"}


def test_what_a_user_adds_to_the_pods_is_shown(jobctl: Invoke) -> None:
    addition = {"metadata": {"labels": {"cost": "llm"}}}
    wish = f"kubernetes.pod={json.dumps(addition)}"
    out = jobctl("explain", "--model", "qwen3_smoke", "-g", "k8s", "--set", wish, "--json")[1]
    assert json.loads(out)["settings"]["kubernetes.pod"] == {"value": addition, "from": "--set"}


def test_each_part_of_an_addition_has_a_line(jobctl: Invoke) -> None:
    addition = {
        "spec": {"hostNetwork": True, "volumes": [{"name": "scratch", "hostPath": {"path": "/nvme"}}]}
    }
    out = jobctl(
        "explain", "--model", "qwen3_smoke", "-g", "k8s", "--set", f"kubernetes.pod={json.dumps(addition)}"
    )[1]
    rows = {line.split()[0]: line.split()[1] for line in out.splitlines()[1:]}
    assert rows["kubernetes.pod.spec.hostNetwork"] == "true"
    assert rows["kubernetes.pod.spec.volumes[0].hostPath.path"] == "/nvme"


def test_a_job_without_a_model_has_no_arithmetic(jobctl: Invoke) -> None:
    out = jobctl("explain", "prep", "--dataset", "sotu", "--json")[1]
    facts = json.loads(out)
    assert facts["derived"] == {}
    assert "hidden_size" not in facts["settings"]


def test_derived_numbers_follow_from_the_settings(jobctl: Invoke) -> None:
    words = (
        "--set",
        "batch_size=2",
        "--set",
        "gradient_accumulation_steps=3",
        "--set",
        "processes_per_node=2",
    )
    out = jobctl("explain", "--model", "qwen3_smoke", *words, "--json")[1]
    facts = json.loads(out)
    assert facts["derived"]["world_size"] == 2
    assert facts["derived"]["global_batch_size"] == 12
    assert facts["derived"]["tokens_per_step"] == 12 * facts["settings"]["block_size"]["value"]


def test_text_has_a_line_for_each_key(jobctl: Invoke) -> None:
    lines = jobctl("explain", "--model", "qwen3_smoke")[1].splitlines()
    assert lines[0].split() == ["KEY", "VALUE", "FROM"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert rows["slurm.account"].split() == ["slurm.account", "-", "default"]
    assert "arithmetic" in rows["parameters"]


def test_the_estimates_figures_say_where_they_come_from(jobctl: Invoke) -> None:
    words = ("explain", "--model", "qwen3_1.8b", "--hardware", "h200")
    estimated = json.loads(jobctl(*words, "--json")[1])["estimated"]
    assert estimated["memory_gib"] == {"value": 93.11, "from": "tensors counted at the loss"}
    assert estimated["largest_batch_size"]["value"] == 31
    assert estimated["step_seconds"]["from"].startswith("measured: trainings of five models")
    assert "tokens_per_second" in jobctl(*words)[1]


def test_a_job_without_a_training_has_no_estimate(jobctl: Invoke) -> None:
    words = ("explain", "prep", "--dataset", "sotu", "--tokenizer", "gpt2", "--json")
    assert json.loads(jobctl(*words)[1])["estimated"] == {}


def test_a_key_is_described_without_a_model(jobctl: Invoke) -> None:
    code, out, _ = jobctl("explain", "--describe", "partition")
    assert (code, out) == (0, "slurm.partition: Slurm partition\n  text, default -\n")
    assert json.loads(jobctl("explain", "--describe", "seed", "--json")[1])["default"] == 1337
    assert len(jobctl("explain", "--describe", "all")[1].splitlines()) == len(KEYS) + 1
    code, _, err = jobctl("explain", "--describe", "batch_sise")
    assert (code, "did you mean 'batch_size'" in err) == (2, True)
