"""Small checkpoints of given tensors, written without a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from jobctl.jobs.catalog.schema import CheckpointWhenBusy, ModelConfig, TrainConfig
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.checkpoint.checkpointer import Checkpointer
from jobctl.trainer.checkpoint.contents import TABLE_FILE
from jobctl.trainer.checkpoint.integrity import CHECKSUMS_FILE, encode_checksums
from jobctl.trainer.checkpoint.state import STATE_FILE, State
from jobctl.trainer.distributed import World
from tests.trainer.corpus import TINY
from tests.trainer.running import ALONE


def state(step: int = 1, **changes: Any) -> State:
    facts: dict[str, Any] = {
        "step": step,
        "samples": 2 * step,
        "name": "tiny",
        "model": msgspec.convert(TINY, ModelConfig),
        "train": TrainConfig(),
        "sources": (),
        "fingerprint": "none",
        "sample_order": 2,
        "tokenizer": "bytes",
    }
    return State(**facts | changes)


def checkpointer(
    run: Path,
    tensors: Mapping[str, torch.Tensor],
    world: World = ALONE,
    when_busy: CheckpointWhenBusy = "wait",
    memory_budget: int | None = None,
) -> Checkpointer:
    return Checkpointer(
        run,
        world,
        lambda: dict(tensors),
        keep_last=9,
        keep_every=0,
        when_busy=when_busy,
        memory_budget=memory_budget,
    )


def save(run: Path, tensors: Mapping[str, torch.Tensor], step: int = 1) -> Path:
    """Write a checkpoint and return its folder."""
    checkpoints = checkpointer(run, tensors)
    checkpoints.save(state(step))
    assert checkpoints.wait()
    return publication.folder(run, step)


def data_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def rewrite(folder: Path, name: str, content: object) -> None:
    """Put JSON in place of a small file, with checksums that agree: a forgery, not damage."""
    (folder / name).write_bytes(msgspec.json.encode(content))
    small = {file: (folder / file).read_bytes() for file in (TABLE_FILE, STATE_FILE)}
    sizes = {path.name: path.stat().st_size for path in data_files(folder)}
    (folder / CHECKSUMS_FILE).write_bytes(encode_checksums(small, sizes))


def spoil(path: Path, how: str) -> None:
    """Damage a file: ``flipped`` (a bit), ``truncated``, ``absent``, ``empty`` or ``replaced`` (by a link)."""
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "truncated":
        path.write_bytes(content[:-10])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        if how == "replaced":
            elsewhere = path.parent.parent / f"elsewhere-{path.name}"
            elsewhere.write_bytes(content)
            path.symlink_to(elsewhere)
