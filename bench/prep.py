"""Prep's rate, end to end, beside the usual ways: ``python -m bench.prep --folder DIR --root ROOT``.

All read the same ``.jsonl.zst`` text (bench.corpus), in turns, round after round. Ours is ``python -m jobctl.prep`` as
a user runs it, start-up, manifest and merge included, with one worker and with two, and with two into memory, which
tells what the disk holds up. The others stand for what a user would write: ``datasets.map`` with ``transformers``' fast
tokenizer, and, as the guide and nanoGPT do, with tiktoken, each with its ids written to one file; they need the
packages datasets and tiktoken, take less text, and start-up and the conversion of the text to Arrow are not counted.
Tokenizers must be in ROOT. With ``--steps`` also what start-up takes (one line as the source), one worker's rate
without it, and encoding alone, all in CPU time.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.corpus import arguments, documents_of, write
from bench.document import of_today, save
from bench.unseen import rates
from jobctl.jobs.core.layout import tokenizer_dir
from jobctl.prep.encode import tokenizers
from jobctl.prep.encode.encoders import Encoders
from jobctl.prep.encode.look import look
from jobctl.prep.shards.format import read_meta

PACKAGES = [
    "gigatoken", "fastokens", "tokenizers", "transformers", "msgspec", "numpy", "zstandard", "xxhash", "datasets",
    "tiktoken",
]  # fmt: skip
USUAL_BYTES = 10_000_000
SHARD_BYTES = 100_000_000
"""Some fifteen tasks: two workers end at about the same time, as they do where there are thousands."""
MEMORY = Path("/dev/shm")


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


def cpu_seconds() -> float:
    """Of this process and of its children that ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(action: Callable[[], int]) -> dict[str, float]:
    """Rates of an action that returns a number of tokens, in millions a second of the clock and of all cores' time."""
    began = time.perf_counter()
    before = cpu_seconds()
    tokens = action()
    wall = time.perf_counter() - began
    cpu = cpu_seconds() - before
    return {
        "tokens": tokens,
        "cpu_seconds": round(cpu, 3),
        "wall": round(tokens / wall / 1e6, 3),
        "cpu": round(tokens / cpu / 1e6, 3),
    }


def ours(text: Path, root: Path, tokenizer: str, workers: int, where: Path) -> dict[str, float]:
    """Run ``python -m jobctl.prep`` into a folder below ``where``; nothing waits for the disk before and after."""
    with tempfile.TemporaryDirectory(dir=where, prefix="prep-") as folder:
        output = Path(folder) / tokenizer
        options = {"dataset": "bench", "tokenizer": tokenizer, "root": root, "source": text, "output": output}
        options |= {"workers": workers, "shard-bytes": SHARD_BYTES}
        command = [
            sys.executable,
            "-m",
            "jobctl.prep",
            *(f"--{name}={value}" for name, value in options.items()),
        ]

        # Bytecode is there, as it is where a package was installed.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

        def run() -> int:
            subprocess.run(command, check=True, capture_output=True, env=environment)
            return read_meta(output).tokens

        os.sync()
        return timed(run)


def steps(
    root: Path, tokenizer: str, folder: Path, corpus: list[str], worker: dict[str, Any]
) -> dict[str, Any]:
    """Start-up, the rate of ``worker`` without it, and the rates of encoding alone, in an eighth of the text each."""
    line = folder / "line.jsonl"
    line.write_text('{"text": "one line"}\n')
    start = statistics.median(ours(line, root, tokenizer, 1, folder)["cpu_seconds"] for _ in range(3))
    seconds = worker["tokens"] / worker["million_tokens_per_cpu_second"]["median"] / 1e6
    file = tokenizer_dir(root, tokenizer) / tokenizers.FILE
    encoder = Encoders(tokenizers.entry_of(tokenizer), "auto", file).fast

    return {
        "start_up_cpu_seconds": start,
        "without_start_up": round(worker["tokens"] / (seconds - start) / 1e6, 3),
        "encoding_alone": [
            round(rate, 1) for rate in rates(encoder, corpus, [look(text) for text in corpus])
        ],
    }


def some(documents: list[str]) -> list[str]:
    """Every so many documents, of USUAL_BYTES in all."""
    total = 0
    chosen = []
    for document in documents[:: max(1, sum(map(len, documents)) // USUAL_BYTES)]:
        total += len(document)
        chosen.append(document)
        if total > USUAL_BYTES:
            break
    return chosen


def mapped(
    documents: list[str], encode: Callable[[list[str]], list[list[int]]], folder: Path
) -> dict[str, float]:
    """``datasets.map`` in batches of 1,000, and the ids into one file, as nanoGPT's prepare.py does."""
    import datasets

    datasets.disable_progress_bars()
    datasets.disable_caching()
    table = datasets.Dataset.from_dict({"text": documents})

    def run() -> int:
        ids = table.map(lambda batch: {"ids": encode(batch["text"])}, batched=True, remove_columns=["text"])
        tokens = 0
        with open(folder / "usual.bin", "wb") as file:
            for batch in ids.with_format("numpy").iter(batch_size=1000):
                data = np.concatenate(batch["ids"]).astype(np.uint32)
                file.write(data.tobytes())
                tokens += data.size + len(batch["ids"])
        return tokens

    return timed(run)


def usual(tokenizer: str, root: Path) -> dict[str, Callable[[list[str]], list[list[int]]]]:
    """The encoders that a user would take, for those tokenizers that they exist for."""
    from transformers import PreTrainedTokenizerFast

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    file = tokenizer_dir(root, tokenizer) / "tokenizer.json"
    fast = PreTrainedTokenizerFast(tokenizer_file=str(file))
    found = {
        "datasets.map, transformers": lambda texts: fast(texts, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
    }
    if tokenizer == "gpt2":
        encoding = tiktoken_gpt2(file)
        found["datasets.map, tiktoken"] = lambda texts: [encoding.encode_ordinary(text) for text in texts]
    return found


def tiktoken_gpt2(file: Path) -> Any:
    """tiktoken's GPT-2, from the vocabulary of our tokenizer.json instead of from the web."""
    import tiktoken

    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}
    vocab = json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"]
    ranks = {bytes(letters[c] for c in token): rank for token, rank in vocab.items() if rank < 50256}
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
    return tiktoken.Encoding(
        "gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256}
    )


def measured(text: Path, root: Path, tokenizer: str, rounds: int, documents: list[str]) -> dict[str, Any]:
    """Every entrant once a round, in turns; of each the rates of all rounds, their median and the best."""
    runs = {
        "prep, 1 worker": (1, text.parent),
        "prep, 2 workers": (2, text.parent),
        "prep, 2 workers, no disk": (2, MEMORY),
    }
    entrants = {
        name: lambda workers=workers, where=where: ours(text, root, tokenizer, workers, where)
        for name, (workers, where) in runs.items()
    }
    if importlib.util.find_spec("datasets") and importlib.util.find_spec("tiktoken"):
        entrants |= {
            name: lambda encode=encode: mapped(documents, encode, root)
            for name, encode in usual(tokenizer, root).items()
        }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in entrants}
    for _ in range(rounds):
        for name, run in entrants.items():
            found[name].append(run())
    return {
        name: {
            "tokens": results[0]["tokens"],
            **{
                f"million_tokens_per_{kind}_second": {
                    "median": statistics.median(result[kind] for result in results),
                    "best": max(result[kind] for result in results),
                    "all": [result[kind] for result in results],
                }
                for kind in ("wall", "cpu")
            },
        }
        for name, results in found.items()
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--copies", type=int, default=1, help="times the corpus is read; 1: no text twice")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", action="store_true", help="measure start-up and encoding alone, too")
    given = parser.parse_args()
    corpus = write(given.folder)
    everything = documents_of(corpus)
    text = enlarged(corpus, given.copies)
    documents = some(everything)
    installed = {package for package in PACKAGES if importlib.util.find_spec(package)}
    result: dict[str, Any] = {
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES if name in installed},
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "load_before": os.getloadavg()[0],
        },
        "compressed_bytes": sum(path.stat().st_size for path in text.iterdir()),
        "tokenizers": {},
    }
    path = of_today("prep")
    for name in given.tokenizers:
        found = measured(text, given.root, name, given.rounds, documents)
        if given.steps:
            found["steps"] = steps(given.root, name, given.folder, everything, found["prep, 1 worker"])

        result["tokenizers"][name] = {**found, "load_after": os.getloadavg()[0]}
        save(path, **result)
        print(name, json.dumps(found), flush=True)
    print(path)


if __name__ == "__main__":
    main()
