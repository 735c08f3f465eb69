"""What every test of the fused kernels gets."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def same_numbers_each_time() -> None:
    """Let a test compare the same random tensors in every run, whatever ran before it."""
    torch.manual_seed(0)
