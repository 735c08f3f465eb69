"""``python -m jobctl.trainer.model_of FOLDER -o NAME.yaml``: a Hugging Face model as an entry of the catalogue.

``jobctl submit --model NAME.yaml --init-from hf:FOLDER`` then trains it on from its weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.catalog.arithmetic import parameters
from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.core.durable import keeps_its_place, write_named
from jobctl.jobs.core.errors import UserError, run_command
from jobctl.trainer.interop.hf_folder import open_hf


def entry_text(config: ModelConfig, folder: Path) -> str:
    """Return the YAML of ``models/NAME.yaml``: every size, and each value that differs from the defaults."""
    lines = [
        f"summary: {config.architecture} of {folder.resolve().name} ({parameters(config):,} parameters)",
        "settings:",
    ]
    lines += [f"  {name}: {msgspec.json.encode(value).decode()}" for name, value in settings(config).items()]
    lines.append("  # tokenizer: NAME, an entry of the catalogue: the tokenizer of its training data")

    return "\n".join(lines) + "\n"


def settings(config: ModelConfig) -> dict[str, object]:
    """Return the fields of a model that have no default, or another value."""
    values = msgspec.structs.asdict(config)
    defaults = {
        field.name: field.default
        for field in msgspec.structs.fields(ModelConfig)
        if field.default is not msgspec.NODEFAULT
    }

    return {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobctl.trainer.model_of", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with config.json and *.safetensors")
    parser.add_argument("-o", "--output", type=Path, help="file to write (default: print it)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        text = entry_text(open_hf(options.folder).config, options.folder)
        if options.output is None:
            print(text, end="")
        else:
            write_named(options.output, text.encode())
            # Not on standard output where that may be what -o names, as /dev/stdout does.
            print(options.output, file=sys.stderr if keeps_its_place(options.output) else sys.stdout)
    except UserError as error:
        print(f"jobctl: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"jobctl: {options.output} cannot be written: {error.strerror}", file=sys.stderr)
        return 1

    return 0


if __name__ == "__main__":
    run_command(main)
