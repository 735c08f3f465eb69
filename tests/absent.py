"""What a test does on a machine that lacks something."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def absent(variable: str, reason: str) -> NoReturn:
    """Skip the test; fail where the environment ``variable`` is 1, which says that nothing may be lacking."""
    if os.environ.get(variable) == "1":
        pytest.fail(f"{variable}=1, but: {reason}")

    pytest.skip(reason)
