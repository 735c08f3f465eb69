"""A Python package that is missing: which extra of jobctl brings it, and how to install that extra."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from types import TracebackType

from jobctl.jobs.core.errors import UserError

DISTRIBUTION = "jobctl"
_REQUIREMENT = re.compile(r"""(?P<package>[A-Za-z0-9._-]+).*;.*extra *== *['"](?P<extra>[^'"]+)['"]""")
_PROVIDERS = {"fasttext": "fasttext-predict"}
"""Packages of the index whose module has another name."""


def missing_package(error: ModuleNotFoundError) -> UserError | None:
    """Return the error in words for a package that an extra brings; None for a module that nobody installs."""
    module = (error.name or "").partition(".")[0]
    extras = [extra for package, extra in _requirements() if _normal(package) == _normal(_provider(module))]
    if not extras:
        return None

    return UserError(f"the Python package '{module}' is not installed", hint=install_hint(extras[0]), code=1)


def install_hint(extra: str) -> str:
    """Return the command that installs ``extra`` from where jobctl itself was installed."""
    return f"pip install '{_origin()}[{extra}]'"


def explain_missing() -> None:
    """Let a program of ours that was started by ``python -m`` name the extra, and print no traceback.

    Such a program imports its packages before its own code runs, so no function of it can catch the error. Nor can it
    catch Ctrl-C in that time.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            return

        missing = missing_package(error) if isinstance(error, ModuleNotFoundError) else None
        if missing is None:
            before(kind, error, trace)
        else:
            print(f"error: {missing}", file=sys.stderr)

    sys.excepthook = hook


def _provider(module: str) -> str:
    return _PROVIDERS.get(module, module)


def _normal(name: str) -> str:
    return name.replace("-", "_").lower()


def _requirements() -> list[tuple[str, str]]:
    """Return each package with the extra that asks for it, as the installed metadata says."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []

    matches = [_REQUIREMENT.match(line) for line in lines]
    return [(match["package"], match["extra"]) for match in matches if match]


def _origin() -> str:
    """Return the folder or the address that jobctl was installed from, or its name where nobody recorded it."""
    try:
        record = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        address = str(json.loads(record or "{}").get("url", ""))
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        address = ""

    if not address:
        return DISTRIBUTION

    return address.removeprefix("file://") if address.startswith("file://") else f"{DISTRIBUTION} @ {address}"
