"""``jobctl estimate`` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]


def test_json_carries_what_scripts_need(jobctl: Invoke) -> None:
    code, out, _ = jobctl("estimate", "--model", "qwen3_1.8b", "--hardware", "h200", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["memory_gib"]["total"] > 90
    assert facts["fits"]
    assert facts["largest_batch_size"] == 31
    assert facts["tokens_per_second"] > 400_000
    assert facts["kernels"] == "fused"


def test_what_does_not_fit_is_told_and_not_refused(jobctl: Invoke) -> None:
    code, out, _ = jobctl(
        "estimate", "--model", "qwen3_1.8b", "--hardware", "a6000", "--set", "batch_size=20"
    )
    assert code == 0
    assert "does NOT fit" in out


def test_tier_nodes_and_sharding_change_the_estimate(jobctl: Invoke) -> None:
    base = ("estimate", "--model", "qwen3_1.8b", "--hardware", "h200", "--target", "slurm", "--json")
    one = json.loads(jobctl(*base)[1])
    two = json.loads(jobctl(*base, "--nodes", "2")[1])
    float8 = json.loads(jobctl(*base, "--tier", "4")[1])
    sharded = json.loads(jobctl(*base, "--set", "use_zero1=true")[1])
    assert two["ranks"] == 16
    assert two["tokens_per_second"] > 1.8 * one["tokens_per_second"]
    assert float8["float8"]
    assert float8["step_seconds"] < one["step_seconds"]
    assert sharded["memory_gib"]["optimizer"] < one["memory_gib"]["optimizer"] / 7


def test_every_model_of_the_hardware_list_is_estimated_with_its_basis(jobctl: Invoke) -> None:
    for hardware in ("gb200", "b300", "gb300", "b200"):
        facts = json.loads(jobctl("estimate", "--model", "llama3_2.2b", "--hardware", hardware, "--json")[1])
        assert facts["basis"] == "extrapolated"
        assert facts["fits"]


def test_a_job_that_trains_nothing_has_no_estimate(jobctl: Invoke) -> None:
    code, _, err = jobctl("estimate", "prep", "--dataset", "sotu", "--tokenizer", "gpt2")
    assert code == 2
    assert "prep trains nothing" in err


def test_the_verb_needs_no_torch(root: Path) -> None:
    code = (
        "import sys; from jobctl.jobs.cli import invoke; "
        "invoke(['estimate', '--model', 'qwen3_1.8b', '--hardware', 'h200']); "
        "sys.exit(1 if {'torch', 'numpy', 'scipy'} & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
