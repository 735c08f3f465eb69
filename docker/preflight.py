"""``python -m docker.preflight``: what a job would find here. Exits 1 where something would stop it."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
import sys
from pathlib import Path

from docker.hardware import gpus

SHM_PER_GPU_GIB = 1.0
"""NCCL and DataLoader workers hand buffers over through /dev/shm."""


def main() -> int:
    problems: list[str] = []
    for title, answer in (
        ("root", root(problems)),
        ("packages", packages(problems)),
        ("GPUs", devices(problems)),
        ("/dev/shm", shared_memory(problems)),
        ("limits", limits()),
    ):
        print(f"{title:<10}{answer}")
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if problems else 0


def root(problems: list[str]) -> str:
    path = Path(os.environ.get("JOBCTL_ROOT", "/workspace"))
    if not os.access(path, os.W_OK):
        problems.append(
            f"uid {os.getuid()} cannot write {path}: mount a folder of its own, or run as its owner with --user"
        )
        return f"{path}, not writable"
    usage = shutil.disk_usage(path)
    return f"{path}, {usage.free / 2**30:.0f} GiB free of {usage.total / 2**30:.0f}"


def packages(problems: list[str]) -> str:
    found = []
    for name in ("torch", "flash-attn", "nvidia-nccl-cu12", "tokenizers"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            if name == "torch":
                problems.append("torch is not installed")
    return ", ".join(found)


def devices(problems: list[str]) -> str:
    """What the driver has, and whether torch can reach and has code for it."""
    names = gpus()
    if not names:
        return "none; a GPU needs --gpus all (Docker) or --device nvidia.com/gpu=all (Podman)"
    import torch

    if not torch.cuda.is_available():
        problems.append(
            f"the driver has {len(names)} GPUs, torch {torch.__version__} (CUDA {torch.version.cuda}) reaches none"
        )
        return ", ".join(names)
    major, minor = torch.cuda.get_device_capability()
    built = torch.cuda.get_arch_list()
    if f"sm_{major}{minor}" not in built and not any(arch.startswith(f"sm_{major}") for arch in built):
        problems.append(
            f"this torch has no code for sm_{major}{minor} ({', '.join(built)}): take another variant of the image"
        )
    return f"{len(names)} × {names[0]}, CUDA {torch.version.cuda}"


def shared_memory(problems: list[str]) -> str:
    size = shutil.disk_usage("/dev/shm").total / 2**30
    if size < SHM_PER_GPU_GIB * len(gpus()):
        problems.append(f"/dev/shm has {size:.2f} GiB for {len(gpus())} GPUs: give --shm-size or --ipc=host")
    return f"{size:.2f} GiB"


def limits() -> str:
    def shown(kind: int) -> str:
        value = resource.getrlimit(kind)[0]
        return "unlimited" if value == resource.RLIM_INFINITY else str(value)

    names = {
        "locked memory": resource.RLIMIT_MEMLOCK,
        "stack": resource.RLIMIT_STACK,
        "files": resource.RLIMIT_NOFILE,
    }
    return ", ".join(f"{name} {shown(kind)}" for name, kind in names.items())


if __name__ == "__main__":
    sys.exit(main())
