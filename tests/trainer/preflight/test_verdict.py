"""Which nodes are bad, from what they said."""

from typing import Any

import pytest

from jobctl.jobs.catalog.schema import Expected
from jobctl.trainer.preflight.node import Gpu, Node
from jobctl.trainer.preflight.verdict import Measured, Problem, missing, of_clocks, of_node, of_ranks

H100 = Expected(
    gpus=2, device="H100", compute_capability="9.0", peak_tflops=989, allreduce_gb_s=300, allreduce_network_gb_s=100
)  # fmt: skip
CPU = Expected(gpus=0)


def gpu(index: int, **facts: Any) -> Gpu:
    return Gpu(**{"index": index, "name": "NVIDIA H100", "driver": "570", "memory_mib": 81559.0, **facts})


def a_node(**facts: Any) -> Node:
    room = {"memory_gib": 900.0, "shm_gib": 100.0, "tmp_gib": 50.0, "root_gib": 5000.0}
    return Node(**{"name": "n1", "clock": 0.0, "gpus": (gpu(0), gpu(1)), **room, **facts})


def rank(node: str, local_rank: int = 0, **facts: Any) -> Measured:
    good = {"gpu": True, "tflops": 700.0, "node_gb_s": 400.0, "network_gb_s": 200.0}
    return Measured(node=node, local_rank=local_rank, **{**good, **facts})


def test_good_nodes_have_no_problems() -> None:
    assert of_node(a_node(), H100) == []
    assert of_ranks([rank("n1"), rank("n1", 1), rank("n2"), rank("n2", 1)], H100) == []
    assert of_ranks([rank("n1", gpu=False, tflops=0.1), rank("n2", gpu=False, tflops=0.01)], CPU) == []


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"gpus": (gpu(0),)}, "the driver shows 1 GPUs of 2"),
        ({"gpus": (gpu(0), gpu(1, name="NVIDIA A100"))}, "GPU 1 is NVIDIA A100, not H100"),
        ({"gpus": (gpu(0), gpu(1, uncorrected_errors=3.0))}, "GPU 1 has 3 uncorrected ECC errors"),
        ({"gpus": (gpu(0, remapping_failed=True), gpu(1))}, "GPU 0 could not replace a bad row"),
        ({"gpus": (gpu(0, remapping_pending=True), gpu(1))}, "GPU 0 must be reset"),
        ({"gpus": (gpu(0, used_mib=40960.0), gpu(1))}, "GPU 0 has 40 GiB in use by somebody else"),
        ({"kernels_lack": "there is no C compiler"}, "kernels cannot be compiled: there is no C compiler"),
        ({"xids": ("Xid 79 on PCI:0000:3b:00",)}, "Xid 79"),
        ({"memory_gib": 0.5}, "memory has 0.50 GiB free, 2 are needed"),
        ({"shm_gib": 0.06}, "/dev/shm has 0.06 GiB free, 2 are needed"),
        ({"tmp_gib": 0.1}, "temporary files has 0.10 GiB free"),
        ({"root_gib": 20.0}, "the shared volume has 20.00 GiB free, 50 are needed"),
    ],
)
def test_what_is_wrong_with_a_node_is_said_of_it(facts: dict[str, Any], reason: str) -> None:
    (problem,) = of_node(a_node(**facts), H100)
    assert problem.node == "n1"
    assert reason in problem.reason


def test_a_node_without_gpus_needs_no_compiler() -> None:
    assert of_node(a_node(gpus=(), kernels_lack="there is no C compiler"), CPU) == []


def test_a_node_that_does_not_report_is_named() -> None:
    assert [p.node for p in missing(["n1", "n2"], {"n1": a_node()})] == ["n2"]


def test_a_clock_is_compared_with_the_others() -> None:
    assert of_clocks({"n1": 100.1, "n2": 100.0, "n3": 100.2}) == []
    (problem,) = of_clocks({"n1": 0.1, "n2": 7.3, "n3": 0.0})
    assert problem == Problem("n2", "its clock is +7.2 s off that of the others")
    assert of_clocks({"n1": 50.0}) == []


def test_a_gpu_that_is_slower_than_the_others_is_named() -> None:
    ranks = [
        rank(f"n{n}", local, tflops=500.0 if (n, local) == (2, 1) else 700.0)
        for n in (1, 2)
        for local in (0, 1)
    ]
    assert of_ranks(ranks, H100) == [Problem("n2", "GPU 1: 500 TFLOP/s in a matrix product, the others 700")]


def test_gpus_that_are_all_slow_are_compared_with_their_kind() -> None:
    problems = of_ranks([rank("n1", tflops=200.0), rank("n1", 1, tflops=200.0)], H100)
    assert [p.reason for p in problems] == [
        f"GPU {n}: 200 TFLOP/s in a matrix product, of 989" for n in (0, 1)
    ]


def test_slow_links_are_a_nodes_fault_only_where_others_are_better() -> None:
    (problem,) = of_ranks([rank("n1"), rank("n2", node_gb_s=12.0)], H100)
    assert problem == Problem("n2", "all-reduce within the node: 12.0 GB/s, 300 are expected")
    (alone,) = of_ranks([rank("n1", node_gb_s=12.0, network_gb_s=None)], H100)
    assert alone.node == "n1"
    (alike,) = of_ranks([rank("n1", network_gb_s=10.0), rank("n2", network_gb_s=11.0)], H100)
    assert alike.node == ""
    assert "on every node all-reduce with its neighbours" in alike.reason


def test_a_rank_that_failed_names_its_node_and_is_not_compared() -> None:
    ranks = [rank("n1"), rank("n2", tflops=0.0, error="CUDA error: uncorrectable ECC error encountered")]
    assert of_ranks(ranks, H100) == [Problem("n2", "GPU 0: CUDA error: uncorrectable ECC error encountered")]
