"""Name the extra of jobctl that brings a missing Python package, and the command that installs it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import TracebackType

from jobctl.jobs.core.errors import UserError

DISTRIBUTION = "jobctl"
_REQUIREMENT = re.compile(r"""(?P<package>[A-Za-z0-9._-]+).*;.*extra *== *['"](?P<extra>[^'"]+)['"]""")
_PROVIDERS = {"fasttext": "fasttext-predict"}
"""Modules whose package has a different name on the package index."""


def missing_package(error: ModuleNotFoundError) -> UserError | None:
    """Return an error that names the extra to install. Return None for a module that no extra brings."""
    module = (error.name or "").partition(".")[0]
    extras = [extra for package, extra in _requirements() if _normal(package) == _normal(_provider(module))]
    if not extras:
        return None

    return UserError(
        f"the Python package '{module}' is not installed", hint=install_hint(_of_program(extras)), code=1
    )


def install_hint(extra: str) -> str:
    """Return the command that installs ``extra`` from the same source as jobctl itself."""
    return f"pip install '{_origin()}[{extra}]'"


def explain_missing() -> None:
    """Make a program that runs by ``python -m`` name the missing extra instead of printing a traceback.

    Such a program imports its packages before its own code runs, so it cannot catch the error itself. The
    same is true of Ctrl-C during these imports.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            return

        missing = missing_package(error) if isinstance(error, ModuleNotFoundError) else None
        if missing is None:
            before(kind, error, trace)
        else:
            print(f"jobctl: {missing}", file=sys.stderr)

    sys.excepthook = hook


def _of_program(extras: list[str]) -> str:
    """Return the extra with the same name as the running program, such as ``jobctl.prep.fetch``.

    Return the first extra for any other program.
    """
    words = " ".join(sys.orig_argv)
    return next((extra for extra in extras if f"{DISTRIBUTION}.{extra}" in words), extras[0])


def _provider(module: str) -> str:
    return _PROVIDERS.get(module, module)


def _normal(name: str) -> str:
    return name.replace("-", "_").lower()


def _requirements() -> list[tuple[str, str]]:
    """Return each package with the extra that requires it, from the installed metadata."""
    # Imported here: only an error needs it, and every program imports this module.
    import importlib.metadata

    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []

    # A requirement without an extra has no match: it is always installed.
    matches = [_REQUIREMENT.match(line) for line in lines]
    return [(match["package"], match["extra"]) for match in matches if match]


def _origin() -> str:
    """Return the folder or the address from which jobctl was installed.

    Return its name if neither is recorded.
    """
    import importlib.metadata

    try:
        # pip records the source of a package (PEP 610). A package from the index has no such file.
        record = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        address = str(json.loads(record or "{}").get("url", ""))
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        address = ""

    if not address:
        checkout = Path(__file__).resolve().parents[2]
        return str(checkout) if (checkout / "pyproject.toml").is_file() else DISTRIBUTION

    return address.removeprefix("file://") if address.startswith("file://") else f"{DISTRIBUTION} @ {address}"
