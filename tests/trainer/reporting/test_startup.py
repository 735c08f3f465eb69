"""The block that a run begins with: what was chosen, and the peak that MFU is a share of."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.reporting.startup import Peak, block

FACTS: dict[str, Any] = {
    "model": "m", "parameters": 1_830_395_904, "flops_per_token": 10, "flops_per_token_causal": 5, "device": "H200",
    "world_size": 8, "torch": "2.8.0", "attention_backend": "cudnn",
    "attention_passed_over": "", "repeatable": True, "unrepeatable": "",
    "kernels": "plain: as asked", "fused": False, "float8": False,
    "cuda_graphs": False, "without_cuda_graphs": "they need the fused kernels",
    "sharding": "fsdp",
    "weight_bytes_per_rank": 915_197_952, "optimizer_bytes_per_rank": 1_830_395_904, "global_batch_size": 512,
    "tokens_per_iter": 1_048_576, "dataset": ["/d"], "fingerprint": "abcdef0123456789", "resumed_from_step": 500,
    "checkpoint_saves": "a save goes in chunks",
    "plan": "2,097,152,000 tokens: 0.3 epochs of d",
}  # fmt: skip


def test_the_block_says_what_was_chosen() -> None:
    peak = Peak(torch.device("cpu"), "bfloat16")
    train_config = TrainConfig(batch_size=16, gradient_accumulation_steps=4, use_cuda_graphs=True)
    text = block(FACTS, train_config, peak, ["val-1"])
    for fact in (
        "1,830,395,904 parameters", "cudnn (asked for: auto)", "bfloat16 matrix products",
        "without: they need the fused kernels", "yes, bit for bit (asked for: auto)",
        "fsdp: weights and optimiser", "optimiser 1.83 GB", "16 a rank × 4 micro-steps × 8 ranks = 512 sequences",
        "1,048,576 tokens a step", "500 to 2000", "MFU is n/a", "val-1", "plan  2,097,152,000 tokens",
        "checkpoints  a save goes in chunks",
    ):  # fmt: skip
        assert fact in text
    assert max(map(len, text.splitlines())) < 140
    other = FACTS | {"repeatable": False, "unrepeatable": "sdpa would take longer"}
    assert "repeatable  no: sdpa would take longer" in block(other, train_config, peak, [])
    chosen = FACTS | {"attention_backend": "flash_attn_2", "attention_passed_over": "cudnn: no plan"}
    assert "flash_attn_2 (asked for: auto; passed over: cudnn: no plan)" in block(
        chosen, train_config, peak, []
    )


def test_mfu_is_a_share_of_the_dense_peak_of_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobctl.trainer.reporting.startup.device_name", lambda device: "NVIDIA H200")
    peak = Peak(torch.device("cuda"), "bfloat16")
    assert str(peak) == "989.0 TFLOP/s dense (h200)"
    assert peak.mfu(8 * 56_307, 10_322_706_432, 8) == pytest.approx(0.5877, abs=1e-4)
    assert Peak(torch.device("cpu"), "float32").mfu(1.0, 1, 1) is None
