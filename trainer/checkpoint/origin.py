"""The origin of a run's first weights, if they were not random."""

from __future__ import annotations

import msgspec


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The weights that a run began with. Every checkpoint of the run has this record."""

    source: str
    """``init_from`` as it was given."""
    path: str
    """The folder that was read."""
    step: int | None = None
    """The step of the other run's checkpoint."""
    files: dict[str, str]
    """xxh3_128 of the files that were read, by name. For a checkpoint it is that of ``checksums.json``."""

    def __str__(self) -> str:
        step = "" if self.step is None else f", step {self.step}"
        digests = ", ".join(f"{name} {digest[:12]}" for name, digest in list(self.files.items())[:2])
        return f"{self.source} ({self.path}{step}; xxh3 {digests})"
