"""The real trainer on two nodes of a real Slurm: torchrun with gloo, a time limit, and a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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


def test_two_nodes_stop_at_the_time_limit_and_go_on_as_if_they_had_not(slurm_runs: Submitter) -> None:
    write_corpus(slurm_runs.root / "datasets" / "sotu-gpt2", tokens=40000, vocab=50257, tokenizer="gpt2")
    job = slurm_runs.submit("train", None, nodes=2, max_iters=60, **TINY)
    slurm_runs.submit("whole", None, nodes=2, max_iters=60, **TINY)
    slurm_runs.wait_for_line("train", "step 10/60", seconds=300)
    slurm_runs.cluster.run("scancel", "--signal=USR2", "--batch", job)  # as Slurm does before the limit
    slurm_runs.wait_for_requeue(job)
    status = slurm_runs.wait("train", *ENDED, seconds=300)
    assert (status.state, status.attempt) == ("finished", 2), slurm_runs.log("train")[-20:]
    first, second = slurm_runs.read("train").attempts
    assert (first.exit_code, first.nodes, second.exit_code) == (200, "n[1-2]", 0)
    run = slurm_runs.root / "runs" / "train"
    for attempt in ("1", "2"):
        logs = sorted(path.name for path in (run / "logs" / attempt).glob("rank-*"))
        assert logs == ["rank-00000.log", "rank-00001.log"]
    assert (run / "checkpoints" / "LATEST").read_text().strip() == "step-60"
    assert slurm_runs.wait("whole", *ENDED, seconds=300).state == "finished"
    stopped, whole = losses(run), losses(slurm_runs.root / "runs" / "whole")
    assert {step: stopped[step] for step in whole} == pytest.approx(whole, rel=1e-4)
    assert sorted(whole) == list(range(1, 61))
    assert whole[60] < 0.8 * whole[1]
