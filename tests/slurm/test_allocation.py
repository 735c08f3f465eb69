"""What an allocation has, as scontrol tells it, against what a job asks for."""

from __future__ import annotations

import math
from datetime import datetime

import msgspec
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.slurm.allocation import Allocation, parse_allocation, refuse_arrays, refuse_other_cluster, refused

BEGAN = datetime(2026, 11, 29, 12, 0).timestamp()
HELD = Allocation(id="17", state="RUNNING", nodes=2, gpus_per_node=4, start=BEGAN, end=BEGAN + 7200)
TEXT = (
    "JobId=17 JobName=interactive UserId=root(0) JobState=RUNNING Reason=None TimeLimit=02:00:00 "
    "StartTime=2026-11-29T12:00:00 EndTime=2026-11-29T14:00:00 ReqNodeList=(null) NodeList=n[1-3] NumNodes=3 "
    "NumCPUs=24 TRES=cpu=24,mem=4800M,node=3 JOB_GRES=gpu:h100:20 "
    "  Nodes=n[1-2] CPU_IDs=8-15 Mem=1600 GRES=gpu:h100:8(IDX:0-7) "
    "  Nodes=n3 CPU_IDs=8-15 Mem=1600 GRES=gpu:h100:4(IDX:0-1,3,5) MinCPUsNode=8 TresPerNode=gres:gpu:4"
)


def spec(**named: object) -> JobSpec:
    choices = Choices(
        model="llama3_1.5b",
        hardware="h100",
        target="allocation",
        run="r",
        named={"time_limit": "01:00:00", **named},
    )
    return resolve(choices, version="0", root="/root").spec


def test_of_nodes_with_unequal_gpus_the_poorest_counts() -> None:
    assert parse_allocation(TEXT) == msgspec.structs.replace(HELD, nodes=3)


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [("gpu:2(IDX:0-1)", 2), ("gpu:a100:1(IDX:0),gpu:h100:2(IDX:1-2),shard:0(0/0)", 3), ("", 0)],
)
def test_gpus_are_counted_whatever_their_type(gres: str, gpus: int) -> None:
    text = f"JobId=1 JobState=RUNNING NumNodes=1   Nodes=n1 CPU_IDs=0 Mem=1 GRES={gres} MinCPUsNode=1"
    assert parse_allocation(text).gpus_per_node == gpus


def test_a_slurm_that_tells_no_gpus_and_no_end_refuses_nothing_for_them() -> None:
    text = "JobId=17 JobState=RUNNING NumNodes=1 StartTime=Unknown EndTime=Unknown"
    allocation = parse_allocation(text)
    assert (allocation.gpus_per_node, allocation.end) == (None, math.inf)
    assert refused(spec(gpus_per_node=8), allocation, BEGAN) is None


def test_other_text_is_named() -> None:
    with pytest.raises(UserError, match="gives no number of nodes: slurm_load_jobs error"):
        parse_allocation("slurm_load_jobs error")


def test_what_fits_passes() -> None:
    assert refused(spec(nodes=2, gpus_per_node=4), HELD, BEGAN) is None


@pytest.mark.parametrize(
    ("named", "later", "words", "hint"),
    [
        ({"nodes": 3, "gpus_per_node": 4}, 0, "asks for 3 nodes, allocation 17 has 2", "--nodes 2"),
        ({"gpus_per_node": 8}, 0, "asks for 8 GPUs a node, allocation 17 has 4", "--gpus-per-node 4"),
        ({"gpus_per_node": 4, "time_limit": "03:00:00"}, 90, "time_limit is 03:00:00, allocation 17 has 1:58:30 left",
         "--set time_limit=1:58:00"),
        ({"gpus_per_node": 4}, 7170, "allocation 17 has 30 s left", "salloc"),
    ],
)  # fmt: skip
def test_what_is_more_than_the_allocation_has_is_refused_with_what_to_do(
    named: dict[str, object], later: int, words: str, hint: str
) -> None:
    problem = refused(spec(**named), HELD, BEGAN + later)
    assert problem is not None
    assert words in problem.message
    assert hint in problem.hint


def test_a_spare_node_counts_as_well() -> None:
    job = spec(nodes=2, gpus_per_node=4, preflight="stop", **{"slurm.spare_nodes": 1})
    problem = refused(job, HELD, BEGAN)
    assert problem is not None
    assert "asks for 3 nodes" in problem.message


def test_the_steps_of_a_pipeline_share_one_limit() -> None:
    """The last of them has less time left than that; it is warned before the allocation ends."""
    assert refused(spec(gpus_per_node=4, time_limit="02:00:00"), HELD, BEGAN + 3600) is None


@pytest.mark.parametrize("state", ["PENDING", "COMPLETING", "CANCELLED"])
def test_an_allocation_that_is_not_there_holds_nothing(state: str) -> None:
    problem = refused(spec(gpus_per_node=4), msgspec.structs.replace(HELD, state=state), BEGAN)
    assert problem is not None
    assert problem.message == f"allocation 17 is {state}"


def test_an_array_over_nodes_is_refused() -> None:
    named = {"dataset": "sotu", "tokenizer": "gpt2", "nodes": 4}
    choices = Choices(kind="prep", model="", target="allocation", run="r", named=named)
    with pytest.raises(UserError, match="nodes 4: prep on several nodes is a job array"):
        refuse_arrays(resolve(choices, version="0", root="/root").spec)


@pytest.mark.parametrize(("wanted", "cluster"), [("", "main"), ("main", "main"), ("main", "")])
def test_an_allocation_of_the_named_cluster_passes(wanted: str, cluster: str) -> None:
    refuse_other_cluster(spec(**{"slurm.cluster": wanted}), cluster)


def test_an_allocation_of_another_cluster_is_refused() -> None:
    with pytest.raises(UserError, match=r"slurm\.cluster is annex, but the allocation is on main") as raised:
        refuse_other_cluster(spec(**{"slurm.cluster": "annex"}), "main")
    assert "--set slurm.cluster=main" in raised.value.hint
