"""The variants of the image. ``NAME.env`` has the settings of the build, ``NAME.txt`` pins the packages."""

from __future__ import annotations

from pathlib import Path

from jobctl.jobs.core.errors import UserError, nearest

FOLDER = Path(__file__).resolve().parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.env")))


def read(name: str) -> dict[str, str]:
    """Return the settings of one variant. Raises UserError for an unknown name."""
    if name not in NAMES:
        raise UserError(f"unknown image variant '{name}'; {nearest(name, NAMES)}")
    lines = (FOLDER / f"{name}.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def set_value(name: str, key: str, value: str) -> None:
    """Write one setting of a variant. The rest of its file stays as it is."""
    path = FOLDER / f"{name}.env"
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = [f"{key}={value}" if line.startswith(f"{key}=") else line for line in lines]
    path.write_text("\n".join(changed) + "\n", encoding="utf-8")


def with_digest(settings: dict[str, str], key: str) -> str:
    """Return the image reference ``key``, with its digest if that is known."""
    reference = settings.get(key, "")
    digest = settings.get(f"{key}_DIGEST", "")
    # Without a digest a build takes the present image of the tag. So it works even if no registry answered.
    return f"{reference}@{digest}" if digest else reference
