"""``python -m tests.style [FOLDER …]``: print figures of how the code reads.

Each figure is a number that a reviewer would count by hand: blank lines inside functions,
comments, packed assignments, names that say nothing, long files and functions, and the
modules that have a test file at the mirrored place. ``tests/test_style.py`` holds the limits.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import msgspec

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("jobs", "slurm", "k8s", "trainer", "prep", "docker")
EMPTY_NAMES = frozenset({"found", "left", "own", "there", "what", "mine", "here", "who", "where"})
"""Local names that tell a reader nothing of what they hold."""
LONGEST_FILE = 400
LONGEST_FUNCTION = 40


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one set of Python files."""

    files: int
    lines: int
    test_lines: int
    blank_in_functions: float
    """Blank lines inside function bodies, in percent of their lines."""
    comments: float
    """Comments on 100 lines of code."""
    packed_assignments: float
    """``a, b = x, y`` on 1,000 lines."""
    empty_names: float
    """Assigned local names from ``EMPTY_NAMES``, in percent."""
    formatter_off: int
    """Places where the formatter is switched off."""
    long_files: tuple[str, ...]
    long_functions: tuple[str, ...]
    long_lines: int
    """Lines of more than 110 characters."""
    mirrored: int
    """Modules whose test stands at the same place under ``tests/``."""
    not_mirrored: tuple[str, ...]


class Counts:
    """Sums over the files that were read so far."""

    def __init__(self) -> None:
        self.lines = 0
        self.code_lines = 0
        self.body_lines = 0
        self.body_blank_lines = 0
        self.comments = 0
        self.packed = 0
        self.names = 0
        self.empty_names = 0
        self.formatter_off = 0
        self.long_lines = 0
        self.long_functions: list[str] = []

    def read(self, path: Path, name: str) -> None:
        """Add the Python file at ``path``; ``name`` stands for it in the lists."""
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        tree = ast.parse(text)

        self.lines += len(lines)
        self.code_lines += sum(1 for line in lines if line.strip() and not line.strip().startswith("#"))
        self.long_lines += sum(1 for line in lines if len(line) > 110)
        self._read_comments(text)

        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._read_function(node, lines, name)
            elif isinstance(node, ast.Assign):
                self.packed += _is_packed(node)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.names += 1
                self.empty_names += node.id in EMPTY_NAMES

    def _read_comments(self, text: str) -> None:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type != tokenize.COMMENT:
                continue
            if token.string.startswith("# fmt:"):
                self.formatter_off += 1
            elif not token.string.startswith(("# type:", "# noqa")):
                self.comments += 1

    def _read_function(
        self, function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str], name: str
    ) -> None:
        statements = function.body
        if ast.get_docstring(function):
            statements = statements[1:]
        if not statements:
            return

        first = statements[0].lineno
        last = function.end_lineno or first
        body = lines[first - 1 : last]
        self.body_lines += len(body)
        self.body_blank_lines += sum(1 for line in body if not line.strip())
        if len(body) > LONGEST_FUNCTION:
            self.long_functions.append(f"{name}:{function.lineno} {function.name} ({len(body)} lines)")


def _is_packed(node: ast.Assign) -> bool:
    """Whether one statement gives several names several values."""
    if len(node.targets) != 1:
        return True
    target = node.targets[0]
    return isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)


def modules(folders: tuple[str, ...] = ROOMS) -> Iterator[Path]:
    """Yield the Python files of ``folders``, relative to the repository."""
    for folder in folders:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            yield path.relative_to(REPOSITORY)


def has_mirror(module: Path) -> bool:
    """Return whether ``tests/`` has a test file at the place of ``module``."""
    folder = REPOSITORY / "tests" / module.parent
    return (folder / f"test_{module.stem.strip('_')}.py").is_file()


def needs_mirror(module: Path) -> bool:
    """Return whether ``module`` holds code; a package's docstring alone needs no test."""
    tree = ast.parse((REPOSITORY / module).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)


def test_lines() -> int:
    """Return the lines of all tests and of what they stand on."""
    paths = (REPOSITORY / "tests").rglob("*.py")
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def measure(folders: tuple[str, ...] = ROOMS) -> Style:
    """Return the figures of all Python files in ``folders``."""
    counts = Counts()
    long_files: list[str] = []
    not_mirrored: list[str] = []
    files = 0
    mirrored = 0

    for module in modules(folders):
        before = counts.lines
        counts.read(REPOSITORY / module, str(module))
        length = counts.lines - before
        files += 1
        if length > LONGEST_FILE:
            long_files.append(f"{module} ({length} lines)")
        if has_mirror(module):
            mirrored += 1
        elif needs_mirror(module):
            not_mirrored.append(str(module))

    return Style(
        files=files,
        lines=counts.lines,
        test_lines=test_lines(),
        blank_in_functions=100 * counts.body_blank_lines / max(1, counts.body_lines),
        comments=100 * counts.comments / max(1, counts.code_lines),
        packed_assignments=1000 * counts.packed / max(1, counts.lines),
        empty_names=100 * counts.empty_names / max(1, counts.names),
        formatter_off=counts.formatter_off,
        long_files=tuple(long_files),
        long_functions=tuple(counts.long_functions),
        long_lines=counts.long_lines,
        mirrored=mirrored,
        not_mirrored=tuple(not_mirrored),
    )


def report(style: Style) -> str:
    """Return the figures as text, a line each."""
    rows = [
        ("files", f"{style.files}"),
        ("lines of code", f"{style.lines:,}"),
        ("lines of tests", f"{style.test_lines:,}"),
        ("blank lines inside functions", f"{style.blank_in_functions:.1f}%"),
        ("comments on 100 lines of code", f"{style.comments:.1f}"),
        ("packed assignments on 1,000 lines", f"{style.packed_assignments:.1f}"),
        ("names that say nothing", f"{style.empty_names:.1f}%"),
        ("formatter switched off", f"{style.formatter_off}"),
        ("lines over 110 characters", f"{style.long_lines}"),
        (f"files over {LONGEST_FILE} lines", f"{len(style.long_files)}"),
        (f"functions over {LONGEST_FUNCTION} lines", f"{len(style.long_functions)}"),
        ("modules with a mirrored test", f"{style.mirrored}"),
        ("modules without one", f"{len(style.not_mirrored)}"),
    ]
    lines = [f"{label:36} {value:>8}" for label, value in rows]
    for title, names in (
        ("long files", style.long_files),
        ("long functions", style.long_functions),
        ("modules without a mirrored test", style.not_mirrored),
    ):
        if names:
            lines.append(f"\n{title}:")
            lines += [f"  {name}" for name in names]
    return "\n".join(lines)


if __name__ == "__main__":
    chosen = tuple(sys.argv[1:]) or ROOMS
    print(report(measure(chosen)))
