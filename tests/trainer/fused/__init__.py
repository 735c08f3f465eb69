"""What the tests of the kernels need of Triton.

Before 3.7 Triton's interpreter asks NumPy for the integer of an array of one element, which NumPy 2.4 refuses.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest
import torch

ranks_on_cpu = pytest.mark.skipif(
    torch.cuda.is_available(), reason="its ranks are on the CPU; with GPUs Triton compiles for those"
)


def mend_interpreter() -> None:
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def mended(tensor: Any, *scope: Any) -> None:
        patch(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    interpreter._patch_lang_tensor = mended


if os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton"):
    mend_interpreter()
