"""``python -m jobctl.trainer.lm_eval RUN --tasks NAME``: a kept checkpoint through EleutherAI's lm-evaluation-harness.

It exports the checkpoint and runs the harness on it. The harness is a program of its own: it is found on the PATH, so
that its dependencies need not be those of the training.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors import SafetensorError

from jobctl.jobs.core.errors import UserError, run_command
from jobctl.jobs.core.exit_codes import EXIT_FAILED
from jobctl.trainer.checkpoint.weights import load_model_weights
from jobctl.trainer.export import DTYPES, add_checkpoint_options, chosen_checkpoint, export_hf, tokenizer_of

HARNESS = "lm_eval"
INSTALL = (
    'python3 -m venv lm-eval && lm-eval/bin/pip install "lm_eval[hf]", then add --harness lm-eval/bin/lm_eval'
)


def harness_command(harness: str, folder: Path, dtype: str, tasks: str, rest: Sequence[str]) -> list[str]:
    """Return the harness's command line for an exported folder; ``rest`` are further options of its own."""
    model = f"pretrained={folder},dtype={dtype}"
    return [harness, "--model", "hf", "--model_args", model, "--tasks", tasks, *rest]


@contextlib.contextmanager
def exported(options: argparse.Namespace) -> Iterator[Path]:
    """Export the checkpoint into the folder asked for, or into one that is removed afterwards."""
    config, state = load_model_weights(options.run, chosen_checkpoint(options))
    tokenizer = options.tokenizer or tokenizer_of(options.run)
    if tokenizer is None:
        raise UserError(
            f"the tokenizer of {options.run} was not found",
            hint="the harness needs one: --tokenizer DIR, the folder of its tokenizer.json",
        )

    with tempfile.TemporaryDirectory(prefix="jobctl-lm-eval-") as scratch:
        folder = options.output or Path(scratch) / "hf"
        export_hf(config, state, folder, tokenizer, options.dtype)
        yield folder


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return our options, and the harness's own, which are those that we do not know."""
    parser = argparse.ArgumentParser(prog="python -m jobctl.trainer.lm_eval", description=__doc__)
    parser.add_argument("run", type=Path, help="run directory; it may be read-only")
    parser.add_argument("--tasks", required=True, help="tasks of the harness, separated by commas")
    add_checkpoint_options(parser)
    parser.add_argument("--tokenizer", type=Path, help="folder of tokenizer.json (default: the run's)")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, help="keep the exported folder here (default: remove it)")
    parser.add_argument(
        "--harness", default=HARNESS, help="program of the harness (default: %(default)s on the PATH)"
    )

    # A prefix of one of its options must not be taken for one of ours.
    parser.allow_abbrev = False
    return parser.parse_known_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options, rest = parse(arguments)
    try:
        harness = shutil.which(options.harness)
        if harness is None:
            raise UserError(f"the program '{options.harness}' does not exist", hint=INSTALL)

        with exported(options) as folder:
            # Inside the block, because the folder is removed at its end.
            command = harness_command(harness, folder, options.dtype, options.tasks, rest)
            return subprocess.run(command, check=False).returncode
    except UserError as error:
        print(f"jobctl: {error}", file=sys.stderr)
        return error.code
    except (OSError, SafetensorError) as error:  # a full disk, a folder that may not be written
        print(f"jobctl: the checkpoint cannot be exported: {error}", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    run_command(main)
