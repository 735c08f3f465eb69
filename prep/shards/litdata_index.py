"""An index beside the shards with which litgpt (``litgpt.data.LitData``) reads them, without a byte written again.

litdata's token reader skips a chunk's header, two 32-bit numbers and an offset for each item. The index says that a
chunk has no items, so it skips 8 bytes and reads all the rest: the first 4 (uint16) or 2 (uint32) tokens of each
shard are not seen. uint32 is named int32, which is the same for every id below 2^31 and which torch has.
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
"""litdata's numbers of torch.uint16 and torch.int32."""
ONE_TENSOR = '[1, {"type": null, "context": null, "children_spec": []}]'
"""How torch's pytree describes an item that is one tensor."""


def index(meta: Meta, split: str) -> dict[str, Any]:
    """litdata's ``index.json`` of a split."""
    itemsize = np.dtype(meta.dtype).itemsize
    chunks = [
        {
            "chunk_bytes": shard.tokens * itemsize,
            "chunk_size": 0,
            "dim": shard.tokens - HEADER // itemsize,
            "filename": shard.file,
        }
        for shard in meta.shards
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

    return {"chunks": chunks, "config": config, "updated_at": "0"}


def write(folder: Path, meta: Meta) -> None:
    """Write ``litdata/SPLIT/index.json`` and, beside it, links to the shards it names."""
    for split in sorted({shard.split for shard in meta.shards}):
        target = folder / FOLDER / split
        target.mkdir(parents=True, exist_ok=True)
        found = index(meta, split)

        for chunk in found["chunks"]:
            link = target / chunk["filename"]
            with contextlib.suppress(FileExistsError):
                os.symlink(Path("../..", chunk["filename"]), link)

        write_whole(target / "index.json", msgspec.json.encode(found))
