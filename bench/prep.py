"""Prep's rate, end to end, beside the usual way: ``python -m bench.prep --folder DIR --root ROOT``.

Both read the same ``.jsonl.zst`` text (bench.corpus). Ours is ``python -m prep`` as a user runs it, start-up, manifest
and merge included, with one worker and with two. The usual way is ``transformers``' fast tokenizer called on batches
of 1,000 documents, as ``datasets.map`` does, with the ids written as one array. Tokenizers must be in ROOT.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from bench.corpus import write
from jobs.catalog.layout import tokenizer_dir
from prep.shards import read_meta

PACKAGES = ["gigatoken", "fastokens", "tokenizers", "transformers", "msgspec", "numpy", "zstandard", "xxhash"]
USUAL_BYTES = 20_000_000
RESULTS = Path(__file__).parent / "results"


def enlarged(text: Path, copies: int) -> Path:
    """The corpus several times over, so that start-up weighs less; warm on the disk."""
    target = text.with_name(f"text-{copies}")
    if not target.is_dir():
        target.mkdir()
        for copy in range(copies):
            for path in sorted(text.iterdir()):
                shutil.copy(path, target / f"{copy}-{path.name}")
    for path in target.iterdir():
        path.read_bytes()
    return target


def used() -> float:
    """CPU seconds of the child processes that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def ours(text: Path, root: Path, tokenizer: str, workers: int) -> dict[str, Any]:
    output = root / "bench" / f"{tokenizer}-{workers}"
    shutil.rmtree(output, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "prep",
        "--dataset",
        "bench",
        "--tokenizer",
        tokenizer,
        "--root",
        str(root),
    ]
    command += [
        "--source",
        str(text),
        "--output",
        str(output),
        "--workers",
        str(workers),
        "--shard-bytes",
        "100000000",
    ]
    began, before = time.perf_counter(), used()
    subprocess.run(command, check=True, capture_output=True)
    wall, cpu = time.perf_counter() - began, used() - before
    meta = read_meta(output)
    records = [json.loads(path.read_text()) for path in (output / ".prep" / "done").glob("*.json")]
    shutil.rmtree(output)
    return {
        "workers": workers,
        "encoders": sorted({record["encoder"] for record in records}),
        "tokens": meta.tokens,
        "text_bytes": meta.text_bytes,
        "seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "million_tokens_per_second": round(meta.tokens / wall / 1e6, 2),
        "million_tokens_per_cpu_second": round(meta.tokens / cpu / 1e6, 2),
    }


def usual(text: Path, root: Path, tokenizer: str) -> dict[str, Any]:
    from transformers import PreTrainedTokenizerFast

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    file = tokenizer_dir(root, tokenizer) / "tokenizer.json"
    encode = PreTrainedTokenizerFast(tokenizer_file=str(file))
    began, before = time.perf_counter(), time.process_time()
    tokens = read = 0
    documents: list[str] = []
    for path in sorted(text.iterdir()):
        with zstandard.open(path, "rt", encoding="utf-8") as lines:
            documents += [json.loads(line)["text"] for line in lines]
        while len(documents) >= 1000 and read < USUAL_BYTES:
            batch, documents = documents[:1000], documents[1000:]
            ids = encode(batch, add_special_tokens=False, verbose=False)["input_ids"]
            tokens += sum(np.array(document, np.uint32).nbytes // 4 + 1 for document in ids)
            read += sum(map(len, batch))
        if read >= USUAL_BYTES:
            break
    wall, cpu = time.perf_counter() - began, time.process_time() - before
    return {
        "tokens": tokens,
        "seconds": round(wall, 2),
        "million_tokens_per_second": round(tokens / wall / 1e6, 2),
        "million_tokens_per_cpu_second": round(tokens / cpu / 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the corpus is made")
    parser.add_argument("--root", type=Path, required=True, help="where the tokenizers are")
    parser.add_argument("--tokenizers", nargs="+", default=["gpt2", "llama3", "qwen3", "llama2"])
    parser.add_argument("--copies", type=int, default=4, help="times the corpus is read")
    given = parser.parse_args()
    text = enlarged(write(given.folder), given.copies)
    result: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": "python -m bench.prep " + " ".join(sys.argv[1:]),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "load_before": os.getloadavg()[0],
        },
        "corpus": {
            "copies": given.copies,
            "compressed_bytes": sum(path.stat().st_size for path in text.iterdir()),
        },
        "tokenizers": {},
    }
    for name in given.tokenizers:
        result["tokenizers"][name] = {
            "prep": [ours(text, given.root, name, workers) for workers in (1, 2)],
            "transformers": usual(text, given.root, name),
            "load_after": os.getloadavg()[0],
        }
        print(name, json.dumps(result["tokenizers"][name]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"prep-{result['date'][:10]}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
