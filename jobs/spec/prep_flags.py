"""The flags of prep. With this list a wrong flag is refused at once, and not after a wait in a queue.

``jobctl`` may not import prep. ``tests/jobs/spec/test_prep_flags.py`` keeps this list equal to prep's
parser.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from jobctl.jobs.catalog.data import PrepConfig
from jobctl.jobs.core.errors import UserError, nearest

_COMMAND = (
    *("--help", "--root", "--output", "--source", "--ignore-unreadable", "--rank", "--world-size"),
    *("--mirror-only", "--json", "--dataset", "--tokenizer", "--validation-files", "--eos-token"),
)
_OF_THE_DATASET = (
    *("text_field", "source_field", "separator", "validation_share", "min_characters", "max_characters"),
    *("languages", "language_field", "patterns"),
)


def known_flags() -> set[str]:
    """Return the long flags of prep, including the ``--no-…`` flags that switch something off."""
    flags = set(_COMMAND)
    for name in (*_OF_THE_DATASET, *PrepConfig.__struct_fields__):
        flags.add(f"--{name.replace('_', '-')}")

    for field in msgspec.structs.fields(PrepConfig):
        if isinstance(field.default, bool):
            flags.add(f"--no-{field.name.replace('_', '-')}")

    return flags


def check_flags(arguments: Sequence[str]) -> None:
    """Raise UserError, with the nearest name, for the first flag that prep does not know."""
    flags = known_flags()
    for argument in arguments:
        name = argument.partition("=")[0]
        if argument.startswith("--") and len(argument) > 2 and name not in flags:
            raise UserError(f"prep has no flag {name}; {nearest(name, flags)}")
