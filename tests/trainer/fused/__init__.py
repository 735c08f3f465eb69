"""What the tests of the kernels need of Triton.

Before 3.7 Triton's interpreter asks NumPy for the integer of an array of one element, which NumPy 2.4 refuses.
Up to 3.7 it looks through the whole language at every call of a function inside a kernel, to exchange what it has
exchanged at the first one: more than a third of the time of a kernel.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from types import FunctionType
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
    interpreter._patch_lang = patched_once(interpreter)
    interpreter._get_np_dtype = remembered(interpreter)


def patched_once(interpreter: Any) -> Any:
    """Return Triton's exchange of the language, which does nothing where all that a function sees is exchanged."""
    patch = interpreter._patch_lang
    language = interpreter.tl
    # It puts back after a kernel what was exchanged for it. Triton 3.2 puts nothing back.
    scope_of = getattr(interpreter, "_LangPatchScope", lambda: None)

    def patched(function: FunctionType) -> Any:
        seen = [value for value in (language, language.core) if value in function.__globals__.values()]
        if seen and not any(language.core.is_builtin(each.load) for each in seen):
            return scope_of()
        return patch(function)

    return patched


def remembered(interpreter: Any) -> Any:
    """Return Triton's table of NumPy's types, which it makes anew for each operation."""
    look_up = interpreter._get_np_dtype
    of_scalar = functools.cache(look_up)

    def numpy_type(type_: Any) -> Any:
        scalar = type_.scalar
        pointer = isinstance(scalar, interpreter.tl.pointer_type)  # has no hash
        return look_up(scalar) if pointer else of_scalar(scalar)

    return numpy_type


if os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton"):
    mend_interpreter()
