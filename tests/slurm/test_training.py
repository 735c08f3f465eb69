"""The real trainer on two nodes of a real Slurm: torchrun with gloo; what interrupts it, and how it goes on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.machine import process_ids, process_text
from tests.slurm.conftest import Submitter
from tests.trainer.corpus import write_corpus

ENDED = ("finished", "failed", "stopped", "cancelled", "lost")
TINY: dict[str, Any] = {
    "processes_per_node": 1, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "block_size": 32, "batch_size": 2,
    "log_interval": 5, "eval_interval": 1000, "eval_iters": 1, "checkpoint_interval": 0,
}  # fmt: skip


def losses(run: Path) -> dict[int, float]:
    """Loss by step, over all attempts."""
    lines = [
        line for file in sorted((run / "metrics").glob("*.jsonl")) for line in file.read_text().splitlines()
    ]
    records = [json.loads(line) for line in lines]
    return {r["iter"]: r["loss"] for r in records if r["kind"] == "iteration"}


@pytest.fixture
def corpus(slurm_runs: Submitter) -> Submitter:
    write_corpus(slurm_runs.root / "datasets" / "sotu-gpt2", tokens=40000, vocab=50257, tokenizer="gpt2")
    return slurm_runs


def ranks(run: Path) -> list[int]:
    """Process ids of a run's ranks on all nodes."""
    mine = f"--run_dir={run}\0"
    return [
        p for p in process_ids() if mine in (text := process_text(p)) and "\0-m\0jobctl.trainer\0" in text
    ]


def test_two_nodes_stop_at_the_time_limit_twice_and_go_on_as_if_they_had_not(corpus: Submitter) -> None:
    job = corpus.submit("train", None, nodes=2, max_iters=90, **TINY)
    corpus.submit("whole", None, nodes=2, max_iters=90, **TINY)
    for step in ("step 10/90", "step 40/90"):
        corpus.wait_for_line("train", step, seconds=300)
        corpus.cluster.run("scancel", "--signal=USR2", "--batch", job)  # as Slurm does before the limit
        corpus.wait_for_requeue(job)
    status = corpus.wait("train", *ENDED, seconds=300)
    assert (status.state, status.attempt) == ("finished", 3), corpus.log("train")[-20:]
    first, second, third = corpus.read("train").attempts
    assert (first.exit_code, second.exit_code, third.exit_code, first.nodes) == (200, 200, 0, "n[1-2]")
    run = corpus.root / "runs" / "train"
    for attempt in ("1", "2", "3"):
        logs = sorted(path.name for path in (run / "logs" / attempt).glob("rank-*"))
        assert logs == ["rank-00000.log", "rank-00001.log"]
    assert (run / "checkpoints" / "LATEST").read_text().strip() == "step-90"
    assert corpus.wait("whole", *ENDED, seconds=300).state == "finished"
    stopped, whole = losses(run), losses(corpus.root / "runs" / "whole")
    assert {step: stopped[step] for step in whole} == pytest.approx(whole, rel=1e-4)
    assert sorted(whole) == list(range(1, 91))
    assert whole[90] < 0.8 * whole[1]


def test_a_killed_rank_starts_again_on_both_nodes_without_a_requeue(corpus: Submitter) -> None:
    corpus.submit("train", None, nodes=2, max_iters=120, **{**TINY, "checkpoint_interval": 10}, retries=1)
    corpus.wait_for_line("train", "step 30/120", seconds=300)
    run = corpus.root / "runs" / "train"
    victims = ranks(run)
    os.kill(max(victims), signal.SIGKILL)
    corpus.until(lambda: not set(victims) & set(ranks(run)), "no rank left on either node", 60)
    status = corpus.wait("train", *ENDED, seconds=300)
    assert (status.state, status.attempt) == ("finished", 1), corpus.log("train")[-20:]
    assert any("the ranks start again in place" in line for line in corpus.log("train"))
    assert any("resumed from a checkpoint" in line for line in corpus.log("train"))


def test_a_training_goes_on_while_the_controller_is_restarted(corpus: Submitter) -> None:
    corpus.submit("train", None, nodes=2, max_iters=60, **TINY)
    corpus.wait_for_line("train", "step 10/60", seconds=300)
    corpus.cluster.stop_controller()
    corpus.wait_for_line("train", "step 30/60", seconds=300)
    corpus.cluster.start_controller()
    status = corpus.wait("train", *ENDED, seconds=300)
    assert (status.state, status.attempt) == ("finished", 1)


def test_a_node_that_dies_in_mid_training_is_another_attempt(corpus: Submitter) -> None:
    corpus.submit("train", None, nodes=2, max_iters=120, **{**TINY, "checkpoint_interval": 10})
    corpus.wait_for_line("train", "step 30/120", seconds=300)
    corpus.cluster.stop_node("n2")
    corpus.cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    corpus.cluster.start_node("n2")
    status = corpus.wait("train", *ENDED, seconds=300)
    assert (status.state, status.attempt) == ("finished", 2), corpus.log("train")[-20:]
    assert any("resumed from a checkpoint" in line for line in corpus.log("train"))
