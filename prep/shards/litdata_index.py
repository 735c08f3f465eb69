"""Write an index with which litgpt (``litgpt.data.LitData``) reads the shards. No shard is written again.

litdata's token reader skips the header of a chunk: two 32-bit numbers, and an offset for each item. The index
says that a chunk has no items. So the reader skips 8 bytes and reads the rest, and the first 4 (uint16) or 2
(uint32) tokens of each shard are not used. The index calls uint32 int32, because torch has no uint32. For ids
below 2^31 both are the same.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from jobctl.jobs.core.durable import write_whole
from jobctl.prep.shards.format import Meta

FOLDER = "litdata"
HEADER = 8
"""Bytes that litdata skips at the beginning of a chunk without items."""
FORMATS = {"uint16": "no_header_tensor:20", "uint32": "no_header_tensor:15"}
"""litdata's numbers for torch.uint16 and torch.int32."""
ONE_TENSOR = '[1, {"type": null, "context": null, "children_spec": []}]'
"""The description of an item that is one tensor, in the form of torch's pytree."""


def index(meta: Meta, split: str) -> dict[str, Any]:
    """Return litdata's ``index.json`` of a split."""
    itemsize = np.dtype(meta.dtype).itemsize
    chunks = [
        {
            "chunk_bytes": shard.tokens * itemsize,
            "chunk_size": 0,
            "dim": shard.tokens - HEADER // itemsize,
            "filename": shard.file,
        }
        for shard in meta.shards
        # Of a shorter shard the reader would skip everything.
        if shard.split == split and shard.tokens * itemsize > HEADER
    ]

    config = {
        "chunk_bytes": max((shard.tokens * itemsize for shard in meta.shards), default=0),
        "chunk_size": None,
        "compression": None,
        "data_format": [FORMATS[meta.dtype]],
        "data_spec": ONE_TENSOR,
        "encryption": None,
        "item_loader": "TokensLoader",
    }

    # A fixed time, so that the same data gives the same index.
    return {"chunks": chunks, "config": config, "updated_at": "0"}


def write(folder: Path, meta: Meta) -> None:
    """Write ``litdata/SPLIT/index.json``, and links to its shards beside it."""
    for split in sorted({shard.split for shard in meta.shards}):
        target = folder / FOLDER / split
        target.mkdir(parents=True, exist_ok=True)
        content = index(meta, split)

        # litdata looks for a chunk beside its index. The links are relative, so that the folder can be moved.
        for chunk in content["chunks"]:
            link = target / chunk["filename"]
            with contextlib.suppress(FileExistsError):
                os.symlink(Path("../..", chunk["filename"]), link)

        write_whole(target / "index.json", msgspec.json.encode(content))
