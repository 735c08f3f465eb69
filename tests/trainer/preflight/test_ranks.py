"""Who measures with whom, and the whole of it on this machine with gloo."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.trainer.preflight.ranks import neighbours
from tests.trainer.running import PATIENCE

COMMAND = (sys.executable, "-m", "jobctl.trainer.preflight", "--standalone", "--nproc_per_node=2", "--")


@pytest.mark.parametrize("nodes", [2, 3, 4, 5, 8])
def test_pairs_are_mutual_and_every_node_is_in_one(nodes: int) -> None:
    measured = set()
    for odd in (0, 1):
        pairs = [neighbours(node, nodes, odd) for node in range(nodes)]
        for node, pair in enumerate(pairs):
            assert node in pair
            assert all(pairs[other] == pair for other in pair)
            measured |= set(pair) if len(pair) == 2 else set()
    assert measured == set(range(nodes))


def test_no_node_has_the_same_neighbour_twice() -> None:
    for nodes in (4, 6, 8):
        for node in range(nodes):
            assert neighbours(node, nodes, 0) != neighbours(node, nodes, 1)


def run(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, f"--run_dir={tmp_path}", "--attempt=3", "--node=here", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_one_good_node(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "preflight: all is well"
    assert "here: no GPU; matrix product" in done.stdout
    ranks = json.loads((tmp_path / "logs/3/preflight/ranks-here.json").read_text())
    assert [(rank["node"], rank["local_rank"]) for rank in ranks] == [("here", 0), ("here", 1)]
    assert all(rank["tflops"] > 0 and rank["node_gb_s"] > 0 for rank in ranks)
    assert not (tmp_path / "logs/3/bad-nodes").exists()


def test_a_node_whose_driver_does_not_answer_is_not_one_without_gpus(
    tmp_path: Path, program: Callable[[str, str], None]
) -> None:
    program("nvidia-smi", 'echo "NVIDIA-SMI has failed"; exit 9')
    done = run(tmp_path)
    assert done.returncode == 1
    assert "here: its GPUs are not known" in done.stdout
    assert "PROBLEM: nobody knows which GPUs it has: nvidia-smi ended with 9" in done.stdout
    assert "all is well" not in done.stdout


def test_a_node_without_the_gpus_it_should_have(tmp_path: Path) -> None:
    done = run(tmp_path, '--expect={"gpus": 8, "device": "H100"}')
    assert done.returncode == 1
    assert "here: PROBLEM: the driver shows 0 GPUs of 8" in done.stdout
    assert (tmp_path / "logs/3/bad-nodes").read_text().startswith("here\tthe driver shows 0 GPUs of 8\n")


def test_wrong_usage_is_a_message(tmp_path: Path) -> None:
    done = run(tmp_path, "--expect=nonsense")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
