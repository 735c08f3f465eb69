"""What changed, for a reviewer: whole rendered files, and the batch shapes of the whole catalogue in one table.

``JOBCTL_UPDATE_GOLDEN=1 pytest tests/jobs/test_golden.py`` writes them anew.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.catalog.loader import names
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.targets.registry import load_target

GOLDEN = Path(__file__).parents[1] / "golden"
FILES: dict[str, dict[str, Any]] = {
    "local-qwen3_smoke.sh": {"model": "qwen3_smoke"},
    "slurm-qwen3_1.8b-tier2.sh": {"model": "qwen3_1.8b", "tier": 2, "target": "slurm"},
    "slurm-llama2_1.36b-a6000-mfu.sh": {
        "model": "llama2_1.36b", "hardware": "a6000", "stage": "mfu", "target": "slurm", "site": "example-slurm",
        "run": "llama2-mfu",
    },
    "slurm-llama3_2.2b-two-nodes.sh": {
        "model": "llama3_2.2b", "hardware": "h100", "tier": 3, "target": "slurm", "named": {"nodes": 2},
    },
    "slurm-gpt2_1.36b-sweep.sh": {"model": "gpt2_1.36b", "stage": "sweep", "target": "slurm"},
    "slurm-prep.sh": {
        "kind": "prep", "target": "slurm", "run": "prep",
        "named": {"dataset": "slimpajama_6b", "tokenizer": "qwen3"},
    },
    "allocation-llama3_2.2b.sh": {
        "model": "llama3_2.2b", "hardware": "h100", "target": "allocation", "run": "r", "named": {"nodes": 2},
    },
    "docker-llama3_1.5b-smoke.sh": {"model": "llama3_1.5b", "stage": "smoke", "target": "docker"},
    "k8s-qwen3_1.8b.yaml": {
        "model": "qwen3_1.8b", "tier": 3, "target": "k8s", "site": "example-k8s", "run": "qwen3",
        "named": {"nodes": 2},
    },
    "k8s-trainjob-qwen3_1.8b.yaml": {
        "model": "qwen3_1.8b", "tier": 3, "target": "k8s-trainjob", "site": "example-k8s", "run": "qwen3",
    },
}  # fmt: skip


def check(name: str, text: str) -> None:
    file = GOLDEN / name
    if os.environ.get("JOBCTL_UPDATE_GOLDEN") == "1":
        file.write_text(text)
    assert text == file.read_text(), f"{name} changed; look at the difference, then JOBCTL_UPDATE_GOLDEN=1"


@pytest.mark.parametrize("name", FILES)
def test_rendered_files_are_those_that_were_reviewed(name: str) -> None:
    spec = resolve(Choices(**FILES[name]), version="0.0.0", root="/shared/jobctl").spec
    check(name, load_target(spec.target).render(spec))


def test_the_shapes_of_the_catalogue_are_those_that_were_reviewed() -> None:
    header = "model hardware tier stage gpus batch accumulation iterations sharding dtype basis"
    rows = [header.split()]
    for model in names("models"):
        for hardware in names("hardware"):
            for tier in (1, 2, 3, 4):
                for stage in names("stages"):
                    rows.append(_shape(model, hardware, tier, stage))
    check("shapes.txt", "\n".join(" ".join(row) for row in rows) + "\n")


def _shape(model: str, hardware: str, tier: int, stage: str) -> list[str]:
    found = resolve(Choices(model=model, hardware=hardware, tier=tier, stage=stage), version="0", root="/w")
    spec = found.spec
    assert isinstance(spec, TrainSpec)
    train = spec.train
    sharding = "zero1" if train.use_zero1 else "fsdp" if train.use_fsdp else "ddp"
    dtype = "fp8" if train.use_fp8 else train.dtype
    basis = found.origins["batch_size"].rpartition("(")[2].rstrip(")")
    return [
        model, hardware, str(tier), stage, str(spec.resources.gpus_per_node), str(train.batch_size),
        str(train.gradient_accumulation_steps), str(train.max_iters), sharding, dtype, basis.split()[0],
    ]  # fmt: skip
