"""``python -m jobctl.prep --dataset NAME --tokenizer NAME --root DIR``: text in, token shards out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.catalog.data import DatasetEntry, PrepConfig, TokenizerEntry
from jobctl.jobs.core.amounts import counted
from jobctl.jobs.core.errors import UserError, run_command
from jobctl.jobs.core.layout import dataset_dir, source_dir, tokenizer_dir
from jobctl.jobs.core.tokenizer_files import is_folder
from jobctl.prep import environment, options
from jobctl.prep.encode import folders, tokenizers
from jobctl.prep.encode.encoders import Encoders
from jobctl.prep.mirror import mirror
from jobctl.prep.select.language import check_languages
from jobctl.prep.shards.format import Meta
from jobctl.prep.sources import origins as sources
from jobctl.prep.sources.listing import Source, held_out
from jobctl.prep.work import whole_job as run
from jobctl.prep.work.job import Job
from jobctl.prep.work.origin import Origin
from jobctl.prep.work.whole_job import Nodes

# The environment is imported for its settings, before the first module that imports NumPy.
__all__ = ["environment", "main"]


def warn_of_held_out(listed: Sequence[Source], entry: DatasetEntry) -> None:
    """Warn of files that may not be meant for training. Their names are no proof, so nothing is left out."""
    names = held_out(listed, entry)
    # If all files have such names, the user wants them.
    if names and len(names) < len(listed):
        print(
            f"warning: {len(names)} source files are named like test or validation data, and will be "
            f"trained on: {', '.join(names[:5])}\n  leave them out: --patterns '!*test*'\n"
            "  or make them the validation split: --validation-files '*valid*'",
            file=sys.stderr,
        )


def check(given: argparse.Namespace, entry: DatasetEntry, config: PrepConfig, tokens: TokenizerEntry) -> None:
    """Raise UserError for options that do not go together, before anything is written."""
    # The name becomes a folder of the root.
    if given.dataset != Path(given.dataset).name:
        raise UserError(
            f"--dataset: '{given.dataset}' is not a name", hint="files and folders go to --source"
        )

    if entry.languages and not entry.language_field:
        check_languages(entry.languages)

    if config.weights and not entry.source_field:
        raise UserError("--weights go by a document's source", hint="name its field with --source-field")

    if config.add_bos and tokens.bos_id is None:
        raise UserError(f"--add-bos: tokenizer '{given.tokenizer}' has no BOS")


def prepare(given: argparse.Namespace, entry: DatasetEntry, config: PrepConfig) -> tuple[Path, Meta]:
    """Run the job that the options describe. Return its folder and its meta."""
    name, tokens = folders.resolved(given.root, given.tokenizer, given.eos_token)
    check(given, entry, config, tokens)

    def find() -> list[Source]:
        return sources.find(given.root, given.dataset, entry, given.source, given.ignore_unreadable)

    # The sources are listed before the tokenizer is made, so that a wrong name leaves no files.
    listed = find()
    warn_of_held_out(listed, entry)
    if is_folder(given.tokenizer):
        folders.install(Path(given.tokenizer), tokenizer_dir(given.root, name))

    # This comes after the installation: both look for the file under the root.
    file = tokenizer_dir(given.root, name) / tokenizers.FILE
    encoders = Encoders(tokens, config.encoder, file, config.control_tokens)
    job = Job(
        dataset=given.dataset,
        entry=entry,
        tokenizer=tokenizers.ensure(given.root, name, encoders, tokens),
        tokens=tokens,
        config=config,
    )

    # A repair finds these facts here, because it has no command line of the job.
    origin = Origin(
        root=str(given.root.resolve()),
        sources=tuple(str(path.resolve()) for path in given.source),
        ignore_unreadable=given.ignore_unreadable,
    )

    output: Path = given.output or dataset_dir(given.root, given.dataset, name)
    nodes = Nodes(given.rank, given.world_size)

    return output, run.run(output, job, listed, find, encoders, run.show_on(), origin, nodes)


def main(arguments: Sequence[str] | None = None) -> int:
    given = options.parsed(arguments)
    if given.root is None:
        raise UserError("the root is unknown: --root is not given and $JOBCTL_ROOT is not set")

    entry = options.dataset_entry(given)
    config = options.prep_config(given)
    if given.mirror_only:
        fetched = mirror(given.dataset, entry, given.root)
        print(
            f"{source_dir(given.root, given.dataset)}: {counted(fetched, 'file')} fetched, all equal to the hub's"
        )
        return 0

    output, meta = prepare(given, entry, config)
    if given.json:
        print(msgspec.json.encode(meta).decode())
    else:
        print(
            f"{output}: {meta.documents:,} documents, {meta.tokens:,} tokens, {meta.dtype}, "
            f"{meta.fingerprint}"
        )

    return 0


if __name__ == "__main__":
    run_command(main)
