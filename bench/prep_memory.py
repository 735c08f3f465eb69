"""The most memory that a worker of prep takes: ``python -m bench.prep_memory --root ROOT [--tokenizers NAME ...]``.

The text is the worst that is taken: documents of 47 MB and of 2 MB of words that never come again, which no cache can
hold, and one with a word of 3.9 million letters. Tokenizers must be in ROOT.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LETTERS = 7
"""Letters of a word, with its space: of eight thousand million words few come twice."""


def words(chance: np.random.Generator, size: int) -> str:
    letters = chance.integers(ord("a"), ord("z") + 1, (size // LETTERS, LETTERS), dtype=np.uint8)
    letters[:, -1] = ord(" ")
    return letters.tobytes().decode()


def write(path: Path) -> None:
    """230 MB of text."""
    chance = np.random.default_rng(1)
    sizes = [47_000_000] * 2 + [2_000_000] * 20 + [47_000_000] * 2
    with path.open("w") as file:
        file.write(json.dumps({"text": "x" * 3_900_000 + " and " + words(chance, 100)}) + "\n")
        for size in sizes:
            file.write(json.dumps({"text": words(chance, size)}) + "\n")


def peak(process: int) -> int:
    """The most bytes that any child of the process has had so far."""
    found = [0]
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                lines = Path(f"/proc/{child}/status").read_text().splitlines()
                found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    return max(found)


def measured(text: Path, root: Path, tokenizer: str) -> int:
    """The peak of the one worker of a job over ``text``, in bytes."""
    with tempfile.TemporaryDirectory(dir=text.parent) as folder:
        options = {
            "dataset": "x",
            "tokenizer": tokenizer,
            "root": root,
            "source": text,
            "output": f"{folder}/out",
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        process = subprocess.Popen(
            [sys.executable, "-m", "jobctl.prep", *words, "--workers=1"], stdout=subprocess.DEVNULL
        )
        most = 0
        while process.poll() is None:
            most = max(most, peak(process.pid))
            time.sleep(0.2)
        if process.returncode:
            raise SystemExit(f"prep ended with {process.returncode}")
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where the tokenizers are")
    parser.add_argument("--tokenizers", nargs="+", default=["gpt2", "llama3", "qwen3", "llama2"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "worst.jsonl"
        write(text)
        for name in given.tokenizers:
            print(f"{name}: {measured(text, given.root, name) / 1e9:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
