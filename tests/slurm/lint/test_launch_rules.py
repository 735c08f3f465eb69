"""Mistakes in how a job starts its processes."""

from __future__ import annotations

import pytest

from jobctl.slurm.lint import lint
from tests.slurm.lint.good import GOOD, changed, found

ENDPOINT = ' --rdzv_endpoint="$MASTER:$((20000 + SLURM_JOB_ID % 10000))"'


@pytest.mark.parametrize(
    ("before", "after", "rule", "severity"),
    [
        ("srun --kill-on-bad-exit=1 torchrun", "torchrun", "one-node-only", "error"),
        ("--ntasks-per-node=1", "--ntasks-per-node=8", "launched-by-every-task", "error"),
        ("torchrun", "torchrun --node_rank=$SLURM_NODEID", "rank-of-the-shell", "error"),
        ("torchrun", 'bash -c "torchrun --node_rank=${SLURM_PROCID}" #', "rank-of-the-shell", "error"),
        (ENDPOINT, " --rdzv_endpoint=localhost:29500", "rendezvous-here", "error"),
        ("MASTER=$(scontrol", "MASTER_ADDR=127.0.0.1\nX=$(scontrol", "rendezvous-here", "error"),
        ("export SRUN_CPUS_PER_TASK", "export X", "cpus-not-passed", "warning"),
        ("srun --kill-on-bad-exit=1", "srun", "survivors-hang", "hint"),
        ("$((20000 + SLURM_JOB_ID % 10000))", "29500", "fixed-port", "hint"),
        ("srun ", "srun --container-image=i.sqsh ", "home-in-container", "hint"),
    ],
)
def test_one_mistake_is_one_finding(before: str, after: str, rule: str, severity: str) -> None:
    assert found(changed(before, after)).get(rule) == severity


def test_nodes_that_do_not_know_each_other_are_named() -> None:
    script = changed(ENDPOINT, " --nnodes=2").replace("MASTER=", "FIRST=")
    assert found(script) == {"no-rendezvous": "error"}


@pytest.mark.parametrize(
    "options",
    [' "${ARGS[@]}"', " $OPTIONS", " --master_addr=n1", " --rdzv-endpoint n1:1"],
)
def test_options_that_cannot_be_read_are_not_judged(options: str) -> None:
    assert "no-rendezvous" not in found(changed(ENDPOINT, options).replace("MASTER=", "FIRST="))


@pytest.mark.parametrize(
    "after",
    [
        "bash -c 'torchrun --node_rank=$SLURM_PROCID' #",
        'bash -c "torchrun --node_rank=\\$SLURM_PROCID" #',
        'bash -c "it\'s; torchrun --node_rank=\\$SLURM_PROCID" #',
    ],
)
def test_what_a_task_expands_is_its_own_rank(after: str) -> None:
    assert "rank-of-the-shell" not in found(changed("torchrun", after))


def test_the_rank_of_a_single_task_is_right() -> None:
    script = GOOD.replace("--nodes=2", "--nodes=1").replace("torchrun", "torchrun --node_rank=$SLURM_NODEID")
    assert "rank-of-the-shell" not in found(script)


def test_the_host_name_in_the_batch_shell_is_the_first_nodes() -> None:
    assert found(changed("MASTER=$(scontrol", "MASTER_ADDR=$(hostname)\nX=$(scontrol")) == {}
    inside = changed("torchrun", "bash -c 'MASTER_ADDR=$(hostname) torchrun' #")
    assert found(inside)["rendezvous-here"] == "error"


def test_a_launcher_that_reaches_the_nodes_itself_needs_no_srun() -> None:
    script = GOOD.replace("srun --kill-on-bad-exit=1 torchrun", "pdsh -w $NODES torchrun")
    assert "one-node-only" not in found(script)


def test_a_command_that_only_names_torchrun_starts_nothing() -> None:
    script = GOOD.replace("srun --kill-on-bad-exit=1 torchrun", "echo torchrun")
    assert "one-node-only" not in found(script)
    assert lint(GOOD + "which torchrun\n") == []
