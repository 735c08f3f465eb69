"""``jobctl nodes`` shows the GPUs of a cluster, and how many are free."""

from __future__ import annotations

from jobctl.jobs.cli.nodes import capacity_table
from jobctl.jobs.targets.protocol import Capacity, NodeCapacity
from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]


def node(name: str, free: int, state: str = "ready") -> NodeCapacity:
    return NodeCapacity(name=name, product="NVIDIA-H200", gpus=8, free=free, state=state)


def test_a_node_that_takes_no_jobs_has_none_free_in_the_sum() -> None:
    capacity = Capacity(
        nodes=(node("n1", 3), node("n2", 8, "drained"), node("n3", 8, "silent")), sees_all=True
    )
    header, *rows, total = capacity_table(capacity).splitlines()
    assert header.split() == ["NODE", "GPU", "GPUS", "FREE", "STATE"]
    assert [row.split()[-1] for row in rows] == ["ready", "drained", "silent"]
    assert total.split() == ["all", "24", "3"]


def test_a_cluster_without_gpus_says_so() -> None:
    assert capacity_table(Capacity(nodes=(), sees_all=True)) == "no node offers GPUs under this name"


def test_a_target_without_a_list_of_nodes_names_those_that_have_one(jobctl: Invoke) -> None:
    code, _, err = jobctl("nodes", "--target", "slurm")
    assert code == 2
    assert "target slurm has no list of nodes here" in err
    assert "--target k8s; on Slurm: sinfo" in err
