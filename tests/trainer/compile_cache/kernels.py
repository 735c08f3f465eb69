"""Kernels as Triton leaves them, and files as Inductor does."""

from __future__ import annotations

import json
import os
from pathlib import Path

PARTS = ("k.json", "k.ttir", "k.cubin")


def make_kernel(cache: Path, key: str, writer: str = "a", written: float | None = None) -> Path:
    """A kernel of three files by one writer, whose list has absolute paths."""
    folder = cache / "triton" / key
    folder.mkdir(parents=True)
    for name in PARTS:
        (folder / name).write_text(f"{writer} {name}")

    paths = {name: str(folder / name) for name in PARTS}
    (folder / "__grp__k.json").write_text(json.dumps({"child_paths": paths}))
    if written is not None:
        os.utime(folder, (written, written))

    return folder


def make_file(cache: Path, name: str, text: str = "code") -> Path:
    """A file of Inductor's, below two folders."""
    file = cache / "inductor" / name[:2] / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def writers(folder: Path) -> set[str]:
    """Who has written the files of a kernel."""
    return {(folder / name).read_text().split()[0] for name in PARTS}
