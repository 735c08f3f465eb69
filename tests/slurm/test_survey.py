"""What a cluster has, from its own commands."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.slurm.client import Slurm
from jobctl.slurm.survey import chosen_partition, gpu_types, parse_accounts, parse_partitions, survey
from tests.clusters.slurm import SlurmCluster


def test_partitions_have_the_gpus_of_their_nodes() -> None:
    text = "cpu*|(null)\ngpu|gpu:a6000:2(S:0-1)\ngpu|gpu:b200:8,license:1\nbig|gpu:8\n"
    partitions, default = parse_partitions(text)
    assert partitions == {"cpu": [], "gpu": ["a6000", "b200"], "big": []}
    assert default == "cpu"


@pytest.mark.parametrize(
    ("partitions", "default", "chosen"),
    [
        ({"cpu": [], "gpu": ["a6000"]}, "cpu", "gpu"),
        ({"one": ["a100"], "two": ["a100"]}, "two", "two"),
        ({"cpu": [], "big": []}, "big", "big"),
        ({"cpu": []}, "", "cpu"),
        ({}, "", ""),
    ],
)
def test_a_partition_with_gpus_is_chosen(partitions: dict[str, list[str]], default: str, chosen: str) -> None:
    assert chosen_partition(partitions, default) == chosen


@pytest.mark.parametrize(
    ("resources", "types"), [("(null)", []), ("gpu:2", []), ("gpu:h100:8(IDX:0-7)", ["h100"]), ("", [])]
)
def test_a_type_is_between_two_colons(resources: str, types: list[str]) -> None:
    assert gpu_types(resources) == types


def test_accounts_and_qualities_are_named_once() -> None:
    assert parse_accounts("nlp|normal,high\nnlp|normal\n|\nnonsense\n") == (["nlp"], ["normal", "high"])


def test_what_one_command_refuses_is_a_note_and_the_rest_is_there() -> None:
    def ask(command: list[str]) -> str:
        if command[0] == "sinfo":
            return "gpu*|gpu:h100:8\n"

        raise UserError(f"{command[0]} refused")

    answer = survey(ask)
    known = {offer.key: offer for offer in answer.offers}
    assert (known["slurm.partition"].chosen, known["slurm.gpu_type"].values) == ("gpu", ("h100",))
    assert known["container.runtime"].values[-1] == "none"
    assert answer.notes == ("your accounts cannot be listed: sacctmgr refused",)


def test_a_real_cluster_names_its_partitions(slurm_cluster: SlurmCluster) -> None:
    known = {offer.key: offer for offer in survey(Slurm().answer).offers}
    partition = known["slurm.partition"]
    assert partition.chosen in partition.values
