"""Check for the compiler that kernels need at run time. Nothing here needs torch.

Triton compiles a C file for each kernel that it launches, and Inductor compiles C++ for a CPU. Both
include Python.h.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path

C_COMPILERS = ("gcc", "clang")
"""In the order in which Triton looks for them, after $CC."""
CPP_COMPILERS = ("g++",)
"""Inductor's, after $CXX."""


def kernels_lack(environment: Mapping[str, str] = os.environ, include: Path | None = None) -> str:
    """Return the tool that Triton's kernels lack on this machine; empty if nothing is missing."""
    return _lack("CC", C_COMPILERS, "C", environment, include)


def cpu_compile_lacks(environment: Mapping[str, str] = os.environ, include: Path | None = None) -> str:
    """Return the tool that ``torch.compile`` lacks for a CPU on this machine; empty if nothing is missing."""
    return _lack("CXX", CPP_COMPILERS, "C++", environment, include)


def _lack(
    variable: str, names: tuple[str, ...], language: str, environment: Mapping[str, str], include: Path | None
) -> str:
    chosen = environment.get(variable, "").strip()
    # $CC may have options after the program.
    programs = (shlex.split(chosen)[0],) if chosen else names
    search_path = environment.get("PATH", "")

    if not any(shutil.which(program, path=search_path) for program in programs):
        source = f"${variable} is {chosen}" if chosen else f"not on the PATH: {', '.join(names)}"
        return f"there is no {language} compiler ({source})"

    headers = include or Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        return f"there is no {headers}/Python.h (Debian: python3-dev)"

    return ""
