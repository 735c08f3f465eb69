"""Small token data sets that a tiny model can learn, and the command lines that train on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobctl.prep.shards.format import Meta, ShardWriter, TokenizerRecord, write_meta
from jobctl.trainer.distributed import SHARDS_ON_CPU

TINY = {
    "architecture": "qwen3", "vocab_size": 256, "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    "max_position_embeddings": 64,
}  # fmt: skip
QUICK = {
    "dtype": "float32", "compile": False, "device": "cpu", "block_size": 16, "batch_size": 2, "max_iters": 6,
    "log_interval": 2, "eval_interval": 1000, "eval_iters": 1, "warmup_iters": 2, "learning_rate": 1e-2,
    "lr_decay_iters": 60, "checkpoint_interval": 0, "checkpoint_when_busy": "wait", "gradient_log_interval": 0,
}  # fmt: skip

SHARDINGS: dict[str, dict[str, object]] = {"ddp": {}}
if SHARDS_ON_CPU:
    SHARDINGS |= {"zero1": {"use_zero1": True}, "fsdp": {"use_fsdp": True}}


def write_corpus(
    folder: Path, *, tokens: int = 4000, vocab: int = 256, tokenizer: str = "bytes", seed: int = 0
) -> Path:
    """A data set of short repeating documents, with a train and a val split."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    shards = []
    for split, count in (("train", tokens), ("val", max(200, tokens // 10))):
        with ShardWriter(folder / f"{split}.bin", split=split, vocab_size=vocab) as writer:
            while writer.tokens < count:
                start, stride = generator.integers(1, 20, 2)
                document = (start + stride * np.arange(19)) % (vocab - 1) + 1
                writer.write(np.append(document, 0), text_bytes=40)
        assert writer.record
        shards.append(writer.record)
    write_meta(folder, Meta(
        dataset="tiny", dtype="uint16" if vocab <= 65536 else "uint32", vocab_size=vocab,
        tokenizer=TokenizerRecord(name=tokenizer, file="none", sha256=tokenizer), eos_id=0,
        documents=sum(s.documents for s in shards), tokens=sum(s.tokens for s in shards),
        text_bytes=sum(s.text_bytes for s in shards), shards=tuple(shards),
    ))  # fmt: skip
    return folder


def arguments(data: Path | None, run: Path, **changes: object) -> list[str]:
    """The trainer's command line for the tiny model."""
    flags = TINY | QUICK | changes
    if data is not None:
        flags["dataset"] = data
    return [f"--run_dir={run}", *(f"--{name}={value}" for name, value in flags.items())]
