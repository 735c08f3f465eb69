"""``python -m jobctl.trainer.export RUN --format hf``: a run's weights for ``transformers``, the newest by default."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.core.durable import sync_folder, write_whole
from jobctl.jobs.core.errors import UserError, run_command
from jobctl.jobs.core.exit_codes import EXIT_FAILED
from jobctl.jobs.core.layout import export_dir, tokenizers
from jobctl.jobs.core.names import inside
from jobctl.jobs.core.ownership import check_link
from jobctl.trainer.checkpoint.weights import BEST, NEWEST, load_model_weights, recorded_state
from jobctl.trainer.interop.hf_folder import hf_config, to_hf
from jobctl.trainer.models.hf_mapping import Weights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


def export_hf(
    config: ModelConfig, state: Weights, output: Path, tokenizer: Path | None = None, dtype: str = "float32"
) -> None:
    """Writes the folder ``output``: config.json, model.safetensors, and the tokenizer's files where it is
    given.

    It appears whole or not at all. Raises UserError if it is there already, or if ``tokenizer`` is no
    tokenizer's folder. A GPT-2 of ours has no biases: its exported biases are zeros.
    """
    if output.exists():
        raise UserError(f"{output} exists already", hint="choose another with --output, or remove it")

    partial = output.with_name(f".{output.name}.partial")
    # An export that was killed has left it.
    shutil.rmtree(partial, ignore_errors=True)

    # Everything is written aside. What fails in the middle leaves no folder that looks whole.
    try:
        partial.mkdir(parents=True)
        token_ids = copy_tokenizer(tokenizer, partial) if tokenizer is not None else {}
        values = hf_config(config, dtype, token_ids)
        write_whole(partial / "config.json", (json.dumps(values, indent=2) + "\n").encode())
        write_weights(to_hf(config, {k: v.to(DTYPES[dtype]) for k, v in state.items()}), partial)
        # Durable before the rename, by which the folder appears.
        sync_folder(partial)
        partial.rename(output)
        # A new name is durable only with the folder that holds it.
        sync_folder(output.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_weights(weights: Weights, folder: Path) -> None:
    """One safetensors file beside config.json, durable on return; ``transformers`` wants its header to say "pt"."""
    path = folder / "model.safetensors"
    # safetensors refuses views that are not contiguous.
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, path, metadata={"format": "pt"}
    )
    path.chmod((folder / "config.json").stat().st_mode)  # safetensors lets its owner alone read it
    make_durable(path)


def make_durable(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def copy_tokenizer(source: Path, target: Path) -> dict[str, int | None]:
    """Copies the tokenizer's files; returns what ``special_token_ids`` reads in them."""
    present = [source / name for name in TOKENIZER_FILES if (source / name).is_file()]
    # One of these three is what a tokenizer is loaded from. The others only describe it.
    if not any(path.name in ("tokenizer.json", "tokenizer.model", "vocab.json") for path in present):
        raise UserError(f"{source} holds no tokenizer", hint="give the folder of tokenizer.json")

    for path in present:
        # A link of somebody else could lead to a private file, which would be copied with the weights.
        check_link(path)
        shutil.copyfile(path, target / path.name)
        make_durable(target / path.name)

    return special_token_ids(source)


def tokenizer_of(run: Path) -> Path | None:
    """Where the tokenizer of the run's data should be: under the root that holds the run, or ``$JOBCTL_ROOT``.

    None where the run has no checkpoint that names one, or where it is not there.
    """
    state = recorded_state(run)
    if state is None or not state.tokenizer:
        return None

    # A run lies in ROOT/runs, and the tokenizers lie beside that folder.
    roots = [run.resolve().parent.parent]
    if os.environ.get("JOBCTL_ROOT"):
        roots.append(Path(os.environ["JOBCTL_ROOT"]))

    # The name comes from a checkpoint, and must not lead out of the folder.
    folders = [inside(tokenizers(root), state.tokenizer) for root in roots]

    return next((folder for folder in folders if folder.is_dir()), None)


def special_token_ids(tokenizer: Path) -> dict[str, int | None]:
    """``bos_token_id`` and ``eos_token_id`` by the tokenizer's own files; None where not named."""
    named = read_json(tokenizer / "tokenizer_config.json")
    vocabulary = read_json(tokenizer / "tokenizer.json")
    pieces = vocabulary.get("model", {}).get("vocab", {})
    ids = dict(pieces) if isinstance(pieces, dict) else {}  # unigram models have a list of pairs
    # Special tokens are mostly not in the vocabulary itself, and those in both lists have one id.
    ids.update({entry["content"]: entry["id"] for entry in vocabulary.get("added_tokens", [])})
    found: dict[str, int | None] = {}

    for kind in ("bos", "eos"):
        token = named.get(f"{kind}_token")
        # Some files write the token as a text, others as an object with its options.
        text = token.get("content") if isinstance(token, dict) else token
        found[f"{kind}_token_id"] = ids.get(text)

    return found


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file. Raises UserError where it is no JSON."""
    if not path.is_file():
        return {}

    hint = "fetch the tokenizer again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}", hint=hint) from error

    if not isinstance(content, dict):
        raise UserError(f"{path} is not an object of JSON", hint=hint)

    return content


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """Let a command read another checkpoint than the newest."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--best", action="store_true", help="the weights of the best validation")
    which.add_argument("--step", type=int, help="the checkpoint of this step (default: the newest whole one)")


def chosen_checkpoint(options: argparse.Namespace) -> str:
    """Return the checkpoint that the options name, as ``load_model_weights`` takes it."""
    if options.best:
        return BEST
    return NEWEST if options.step is None else str(options.step)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobctl.trainer.export", description=__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    add_checkpoint_options(parser)
    parser.add_argument(
        "--format", choices=["hf"], default="hf", help="project of the format (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, help="folder to write (default: RUN/export/FORMAT)")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="folder whose tokenizer files are copied beside the weights (default: that of the run's data, "
        "from the tokenizers beside runs/)",
    )

    parser.add_argument(
        "--dtype", choices=list(DTYPES), default="float32", help="type of the weights written"
    )

    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    output = options.output or export_dir(options.run, options.format)
    try:
        # Read before anything is written, so that a damaged checkpoint leaves no folder.
        config, state = load_model_weights(options.run, chosen_checkpoint(options))
        tokenizer = options.tokenizer or tokenizer_of(options.run)
        export_hf(config, state, output, tokenizer, options.dtype)
        if tokenizer is None:
            print("warning: the run's tokenizer was not found; --tokenizer DIR adds it", file=sys.stderr)
    except UserError as error:
        print(f"jobctl: {error}", file=sys.stderr)
        return error.code
    except (OSError, SafetensorError) as error:  # a full disk, a folder that may not be written
        print(f"jobctl: {output} cannot be written: {error}", file=sys.stderr)
        return EXIT_FAILED

    print(output)

    return 0


if __name__ == "__main__":
    run_command(main)
