"""Where the weights of a run come from that did not begin from random ones."""

from __future__ import annotations

import msgspec


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The weights that a run began with; every checkpoint of it carries this."""

    source: str
    """``init_from`` as it was given."""
    path: str
    """The folder that was read."""
    step: int | None = None
    """The step of the other run's checkpoint."""
    files: dict[str, str]
    """xxh3_128 of the files that were read, by name; of a checkpoint, of the file that holds all its checksums."""

    def __str__(self) -> str:
        step = "" if self.step is None else f", step {self.step}"
        digests = ", ".join(f"{name} {digest[:12]}" for name, digest in list(self.files.items())[:2])
        return f"{self.source} ({self.path}{step}; xxh3 {digests})"
