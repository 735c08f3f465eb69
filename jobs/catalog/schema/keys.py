"""The name of every setting, and its place.

``batch_size`` is a key of the training, ``slurm.partition`` of a site.

A key of a site's section has two parts. The names before the sections, such as ``partition``, are still read.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from jobctl.jobs.catalog.schema.job import Inputs, Resources
from jobctl.jobs.catalog.schema.model import ModelConfig
from jobctl.jobs.catalog.schema.site import SITE_SECTIONS, Site
from jobctl.jobs.catalog.schema.training import TrainConfig
from jobctl.jobs.core.errors import nearest

SECTIONS: tuple[type[msgspec.Struct], ...] = (ModelConfig, TrainConfig, Resources, Inputs, Site)
"""The structs of keys without a dot. No name occurs in two of them."""

KEYS: dict[str, type[msgspec.Struct]] = {
    key: section for section in SECTIONS for key in section.__struct_fields__ if key not in SITE_SECTIONS
} | {f"{name}.{key}": section for name, section in SITE_SECTIONS.items() for key in section.__struct_fields__}
"""The struct that declares each key."""

_MOVED: dict[str, tuple[str, ...]] = {
    "container": ("mounts",),
    "slurm": (
        "partition",
        "cpu_partition",
        "account",
        "qos",
        "reservation",
        "constraint",
        "mail_user",
        "mail_type",
        "comment",
        "gpu_request",
        "gpu_type",
        "spare_nodes",
        "exclusive",
        "memory",
    ),
    "kubernetes": (
        "context",
        "namespace",
        "queue",
        "pvc",
        "pull_secret",
        "secret",
        "run_as_user",
        "gpu_resource",
        "rdma_resource",
        "node_selector",
        "tolerations",
    ),
}
"""Keys that moved into a section and kept their names."""

OLD_NAMES: dict[str, str] = {"container_runtime": "container.runtime"} | {
    key: f"{section}.{key}" for section, keys in _MOVED.items() for key in keys
}
"""The keys of a site before it had sections, each with its new key.

The list is closed: a new key has one name.
"""

_OLD_BY_NEW = {new: old for old, new in OLD_NAMES.items()}


def split_key(key: str) -> tuple[str, str]:
    """Split a spelled key into the key of the schema and the entry of its mapping.

    ``env.A.B`` is ``("env", "A.B")``, and the old ``partition`` is ``("slurm.partition", "")``. An unknown
    key comes back as it was written.
    """
    head, _, rest = key.partition(".")
    if head in SITE_SECTIONS:
        name, _, entry = rest.partition(".")
        return f"{head}.{name}" if name else head, entry

    return OLD_NAMES.get(head, head), rest


def hash_name(key: str) -> str:
    """Return the oldest name of a key. A run's hash uses it, so a new spelling does not change the hash."""
    return _OLD_BY_NEW.get(key, key)


def nearest_key(word: str) -> str:
    """Return a message with the key that is nearest to ``word``.

    The user may know only the key's last part.
    """
    section, _, name = word.partition(".")
    known = [key for key in KEYS if key.startswith(f"{section}.")] if section in SITE_SECTIONS else list(KEYS)
    spellings = {key.rpartition(".")[2]: key for key in known}

    # Without a section any key may be meant, by its whole name as well.
    if section not in SITE_SECTIONS:
        name = word
        spellings |= {key: key for key in known}

    close = difflib.get_close_matches(name, sorted(spellings), n=1, cutoff=0.5)
    if close:
        return f"did you mean '{spellings[close[0]]}'?"

    # Nothing is near: the likest of many, or all of a few.
    return nearest(name, spellings.values())


def flat(site: Site) -> dict[str, Any]:
    """Return the settings of a site by their keys: ``{"root": …, "slurm.partition": …}``."""
    settings: Mapping[str, Any] = msgspec.to_builtins(site)
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if key in SITE_SECTIONS:
            values.update((f"{key}.{name}", item) for name, item in value.items())
        else:
            values[key] = value

    return values
