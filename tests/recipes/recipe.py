"""CONTRIBUTING's recipes as steps: a file to write, lines to change, commands with the output that they show."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"# (\S+)")
_ELLIPSIS = "…"


@dataclass(frozen=True)
class File:
    """Write ``text`` to ``path``."""

    path: str
    text: str

    def follow(self, folder: Path) -> None:
        file = folder / self.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.text, encoding="utf-8")


@dataclass(frozen=True)
class Change:
    """Add the lines with ``+`` below the line before them, and take those with ``-`` away."""

    path: str
    lines: tuple[str, ...]

    def follow(self, folder: Path) -> None:
        """Change the file. Raises ValueError for a line that the file does not have exactly once."""
        file = folder / self.path
        lines = file.read_text(encoding="utf-8").splitlines()
        place = 0
        for line in self.lines:
            if line.startswith("+"):
                lines.insert(place, line[1:])
                place += 1
                continue

            place = self._index(lines, line[1:].strip())
            if line.startswith("-"):
                del lines[place]
            else:
                place += 1

        file.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _index(self, lines: list[str], wanted: str) -> int:
        places = [number for number, line in enumerate(lines) if line.strip() == wanted]
        if len(places) != 1:
            raise ValueError(f"{self.path} has {len(places)} lines {wanted!r}, the recipe changes one")

        return places[0]


@dataclass(frozen=True)
class Command:
    """Run ``words`` in a shell. Each line of ``shown`` is a part of the output, in whatever columns."""

    words: str
    shown: tuple[str, ...]

    def missing(self, output: str) -> list[str]:
        """Return the lines that the output does not have."""
        plain = squeezed(output)
        return [line for line in self.shown if squeezed(line) not in plain]


Step = File | Change | Command


def squeezed(text: str) -> str:
    """Return ``text`` with one blank in the place of several: a table's columns follow its longest row."""
    return re.sub(r"[ \t]+", " ", text).strip()


def section(title: str, text: str) -> str:
    """Return the text below the heading ``title``. Raises ValueError where there is none."""
    parts = re.split(rf"^## {re.escape(title)}\n", text, flags=re.MULTILINE)
    if len(parts) != 2:
        raise ValueError(f"CONTRIBUTING.md has no recipe '{title}'")

    return re.split(r"^## ", parts[1], maxsplit=1, flags=re.MULTILINE)[0]


def steps(text: str) -> list[Step]:
    """Return the steps of a recipe in their order. Raises ValueError for a block of an unknown kind."""
    return [step for _, kind, body in _BLOCK.findall(text) for step in _steps(kind, textwrap.dedent(body))]


def _steps(kind: str, body: str) -> list[Step]:
    if kind == "console":
        return _commands(body)

    path = _PATH.match(body)
    if path is None:
        raise ValueError(
            f"a block of {kind} begins with '# ' and the path of its file, not with {body[:40]!r}"
        )

    rest = body.split("\n", 1)[1]
    return [Change(path[1], tuple(rest.splitlines()))] if kind == "diff" else [File(path[1], rest)]


def _commands(body: str) -> list[Step]:
    commands: list[Step] = []
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        words, *shown = part.splitlines()
        commands.append(Command(words, tuple(line for line in shown if line.strip() != _ELLIPSIS)))

    return commands
