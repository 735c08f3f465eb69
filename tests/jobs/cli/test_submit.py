"""``jobctl render`` and ``jobctl submit``: what is printed, and what is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.submission import submit
from jobctl.jobs.targets import machine
from tests.jobs.cli.test_cli import Invoke, jobctl, payload

__all__ = ["jobctl", "payload"]

TOKENIZER = ("submit", "tokenizer", "--tokenizer", "gpt2")


def test_a_dry_run_prints_the_script_and_makes_nothing(jobctl: Invoke, root: Path) -> None:
    code, out, err = jobctl(*TOKENIZER, "--run", "t", "--dry-run")
    assert code == 0
    assert out.startswith("#!/bin/bash")
    assert f"would submit run t to local, in {root}/runs" in err
    assert not root.exists()


def test_a_dry_run_is_json_where_json_is_asked_for(jobctl: Invoke, root: Path) -> None:
    code, out, _ = jobctl(*TOKENIZER, "--run", "t", "--dry-run", "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["run"], facts["target"], facts["directory"]) == ("t", "local", f"{root}/runs/t")
    assert facts["text"] == jobctl(*TOKENIZER, "--run", "t", "--dry-run")[1]


def test_a_job_for_gpus_is_refused_on_a_machine_without_them(
    jobctl: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It trained 1.8 billion parameters on the CPU, without a word."""
    monkeypatch.setattr(machine, "query", lambda fields: [])
    for words in (("submit",), ("pipeline",), ("sweep", "--find-batch")):
        code, _, err = jobctl(*words, "--model", "qwen3_1.8b", "--hardware", "a6000")
        assert code == 2
        assert "the job needs 2 GPUs (a6000); this machine has none" in err

    assert not root.exists()


def test_a_rendered_script_has_each_byte_of_a_value(jobctl: Invoke) -> None:
    """Without a terminal, click takes escape sequences out of what it prints."""
    value = "\x1b[31mred\x1b[0m"
    words = ("--target", "slurm", "--set", f"env.COLOUR={value}", "--model", "qwen3_smoke")
    _, rendered, _ = jobctl("render", *words)
    assert f"COLOUR='{value}'" in rendered


def test_an_unnamed_run_gets_a_name_with_the_time(
    jobctl: Invoke, root: Path, payload: Callable[[str], str]
) -> None:
    code, out, _ = jobctl(*TOKENIZER, "--wait", "--json", payload("true"))
    assert code == 0
    facts = json.loads(out[: out.index("}") + 1])
    assert facts["run"].startswith("tokenizer-gpt2-20")
    assert facts["target"] == "local"
    assert facts["directory"] == str(root / "runs" / facts["run"])
    assert Path(facts["directory"], "run.json").is_file()


def test_what_is_there_already_is_not_made_again(jobctl: Invoke, root: Path) -> None:
    folder = root / "tokenizers/gpt2"
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{}")
    code, out, _ = jobctl(*TOKENIZER, "--json")
    assert code == 0
    assert json.loads(out) == {"run": None, "state": "there"}
    assert not (root / "runs").exists()


def test_rendering_twice_prints_the_same(jobctl: Invoke) -> None:
    for target in ("local", "slurm", "k8s"):
        words = ("render", "--model", "qwen3_smoke", "--target", target)
        assert jobctl(*words)[1] == jobctl(*words)[1]


def test_a_script_to_come_after_a_run_says_how(jobctl: Invoke) -> None:
    code, _, err = jobctl("render", "--model", "qwen3_smoke", "--target", "slurm", "--after", "r")
    assert code == 0
    assert "with sbatch use --dependency=afterok:JOB" in err


def test_a_job_on_a_run_needs_the_name_of_the_run_alone(
    jobctl: Invoke, root: Path, job: Callable[..., JobSpec], payload: Callable[[str], str]
) -> None:
    """The printed next command once lost the settings, and asked for the model again."""
    sets = (payload("true").removeprefix("--set="), "seed=9")
    run, _ = submit(job("true", model="llama3_smoke", target="local", sets=sets))
    assert jobctl("wait", run.name)[0] == 0
    for words in (("eval", run.name), ("eval", "--run", run.name)):
        code, out, _ = jobctl("explain", *words, "--json")
        settings = json.loads(out)["settings"]
        assert code == 0
        assert settings["seed"] == {"value": 9, "from": f"run {run.name}"}
        assert settings["eval_only"]["value"] is True

    code, out, _ = jobctl("render", "export", run.name)
    assert code == 0
    assert run.name in out


def test_a_wrong_model_is_noticed_before_the_job(
    jobctl: Invoke, root: Path, job: Callable[..., JobSpec]
) -> None:
    run, _ = submit(job("true", model="llama3_smoke", target="local"))
    assert jobctl("wait", run.name)[0] == 0
    code, _, err = jobctl("submit", "eval", run.name, "--model", "gpt2_smoke")
    assert code == 2
    assert f"run {run.name} trains llama3_smoke, not gpt2_smoke" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("prep", "prep needs --dataset NAME --tokenizer NAME"),
        ("prep --dataset sotu", "prep needs --tokenizer NAME"),
        ("mirror", "mirror needs --dataset NAME"),
        ("tokenizer", "tokenizer needs --tokenizer NAME"),
        ("prep --dataset sotu --tokenizer gpt3", "unknown tokenizer 'gpt3'; did you mean 'gpt2'?"),
        (
            "prep --dataset slimpajama_6b --tokenizer gpt2",
            "fetch it: jobctl submit mirror --dataset slimpajama_6b",
        ),
    ],
)
def test_a_job_that_lacks_its_inputs_is_refused_before_it_is_sent(
    jobctl: Invoke, root: Path, words: str, said: str
) -> None:
    code, _, err = jobctl("submit", *words.split())
    assert code == 2
    assert said in err
    assert not root.exists()


def test_a_mirror_that_is_whole_is_not_made_again(jobctl: Invoke, root: Path) -> None:
    folder = root / "sources/slimpajama_6b"
    folder.mkdir(parents=True)
    (folder / "a.parquet").write_bytes(b"four")
    (folder / ".mirror.json").write_text('{"hub": "x", "files": [{"path": "a.parquet", "size": 4}]}')
    words = ("submit", "mirror", "--dataset", "slimpajama_6b", "--json")
    assert json.loads(jobctl(*words)[1])["state"] == "there"
    (folder / "a.parquet").write_bytes(b"six")
    assert "jobctl.prep.mirror" in jobctl(*words, "--dry-run")[1]


def test_two_names_of_a_run_are_refused(jobctl: Invoke) -> None:
    code, _, err = jobctl("submit", "eval", "a", "--run", "b")
    assert code == 2
    assert "the command names two runs, a and b" in err
