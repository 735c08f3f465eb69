"""Each mistake is found in a script that has it, and none in a script that is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.slurm.lint import lint, read_script
from jobctl.slurm.script import render

GOOD = """#!/bin/bash
#SBATCH --job-name=x
#SBATCH --nodes=2
#SBATCH --time=1-00:00:00
#SBATCH --cpus-per-task=8
#SBATCH --signal=B:USR2@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --dependency=afterok:1
#SBATCH --kill-on-invalid-dep=yes

trap 'touch STOP' USR2
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --kill-on-bad-exit=1 torchrun --rdzv_endpoint="$MASTER:$((20000 + SLURM_JOB_ID % 20000))" train.py &
wait
wait
scontrol requeue "$SLURM_JOB_ID"
"""


def rules(script: str) -> set[str]:
    return {finding.rule for finding in lint(script)}


def test_a_right_script_has_no_findings() -> None:
    assert lint(GOOD) == []


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("#!/bin/bash\n", "", "shebang"),
        ("#SBATCH --time", "set -e\n#SBATCH --time", "late-directive"),
        ("--job-name=x", '--job-name="$USER-x"', "unexpanded"),
        ("#SBATCH --signal=B:USR2@300\n", "", "no-signal"),
        ("--signal=B:", "--signal=", "signal-to-steps"),
        ("trap 'touch STOP' USR2\n", "", "signal-untrapped"),
        ("train.py &", "train.py", "trap-behind-srun"),
        ("#SBATCH --requeue\n", "", "requeue-not-asked"),
        ("#SBATCH --open-mode=append\n", "", "log-overwritten"),
        ("#SBATCH --kill-on-invalid-dep=yes\n", "", "orphaned-dependency"),
        ("export SRUN_CPUS_PER_TASK", "export X", "cpus-not-passed"),
        ("srun --kill-on-bad-exit=1 torchrun", "torchrun", "one-node-only"),
        ("srun --kill-on-bad-exit=1", "srun", "survivors-hang"),
        ("$((20000 + SLURM_JOB_ID % 20000))", "29500", "fixed-port"),
        ("MASTER=$(scontrol", "MASTER_ADDR=$(hostname)\nX=$(scontrol", "rendezvous-here"),
        ("trap", "export HF_TOKEN=hf_abc\ntrap", "secret"),
        ("trap", "set -euxo pipefail\ntrap", "xtrace"),
        ("#SBATCH --time=1-00:00:00\n", "", "no-time-limit"),
        ("wait\nwait\n", "wait\n", "waited-once"),
        ("'touch STOP'", "'scontrol requeue $SLURM_JOB_ID'", "requeue-in-trap"),
        ("#SBATCH --nodes=2", "#SBATCH --nodes=2 --ntasks-per-node=8", "launched-by-every-task"),
        (' --rdzv_endpoint="$MASTER:$((20000 + SLURM_JOB_ID % 20000))"', "", "no-rendezvous"),
        ("srun ", "srun --container-image=i.sqsh ", "home-in-container"),
        ("train.py", "train.py --token hf_abcdefghijklmnopqrstuv", "secret"),
        ("#SBATCH --requeue", "#SBATCH --requeue --export=ALL,HF_TOKEN=abc", "secret"),
        ("#SBATCH --requeue", "#SBATCH --requeue --exclusive", "memory-left"),
    ],
)
def test_one_mistake_is_one_finding(before: str, after: str, rule: str) -> None:
    assert before in GOOD
    assert rule in rules(GOOD.replace(before, after, 1))


def test_a_command_over_several_lines_is_one() -> None:
    assert lint(GOOD.replace("srun --kill-on-bad-exit=1 ", "srun \\\n  --kill-on-bad-exit=1 \\\n  ")) == []
    (finding,) = lint(GOOD.replace("srun --kill-on-bad-exit=1 ", "srun \\\n  --wait=60 \\\n  "))
    assert (finding.line, finding.rule) == (15, "survivors-hang")


def test_a_finding_names_its_line_and_what_to_write() -> None:
    (finding,) = lint(GOOD.replace("train.py &", "train.py &\nexport WANDB_API_KEY='abc'"))
    assert finding.line == 16
    assert "WANDB_API_KEY" in finding.message
    assert "abc" not in finding.message
    assert finding.fix


def test_a_secret_from_elsewhere_is_no_finding() -> None:
    assert lint(GOOD + 'export HF_TOKEN="$(cat ~/.hf)"\nexport X_TOKEN=$Y\nHF_TOKEN= true\n') == []


def test_directives_are_read_in_every_spelling() -> None:
    first = '#SBATCH -N 2 -t10 --comment "a b" --mem=0 # --qos=x'
    text = f"#!/bin/sh\n{first}\n#SBATCH -J=j\n\n# text\n#SBATCH --exclusive\n"
    found = {name: value for name, (_, value) in read_script(text).options.items()}
    assert found == {
        "nodes": "2",
        "time": "10",
        "comment": "a b",
        "mem": "0",
        "job-name": "j",
        "exclusive": "",
    }


@pytest.mark.parametrize("hardware", ["cpu", "b200"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_our_own_scripts_are_right(hardware: str, nodes: int, tmp_path: Path) -> None:
    choices = Choices(
        model="qwen3_smoke", target="slurm", hardware=hardware, run="x", named={"nodes": nodes},
        site="example-slurm", sets=("cpus_per_task=8",),
    )  # fmt: skip
    assert lint(render(resolve(choices, version="0", root=str(tmp_path)).spec)) == []
