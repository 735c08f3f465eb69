"""docs/ARCHITECTURE.md and its walks name the rooms, files and words that the code has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
ARCHITECTURE = TOP / "docs/ARCHITECTURE.md"
WALKS = sorted((TOP / "docs/architecture").glob("*.md"))
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]
PACKAGES = ("jobs", "slurm", "k8s", "trainer", "prep", "docker", "bench")
IN_BACKTICKS = re.compile(r"`([^`\n]+)`")
ROOM_PATH = re.compile(r"(jobs|slurm|k8s|trainer|prep|docker|bench|templates|tests)/[\w./*-]+")
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b")


def rooms() -> list[str]:
    """Return the rooms of the table, from the lowest to the highest."""
    rows = re.findall(r"^\| (`[^|]+`) \|", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE)
    return [room for row in rows for room in IN_BACKTICKS.findall(row) if (TOP / room).exists()]


def room_of(path: str) -> str | None:
    """Return the room of a file: the longest one that its path begins with."""
    owners = [room for room in rooms() if path == room or path.startswith(f"{room}/")]
    return max(owners, key=len, default=None)


def imports(file: Path) -> Iterator[str]:
    """Yield the files and folders of the repository that a module imports when it runs."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]
    ignored = {id(node) for block in for_types for node in ast.walk(block)}

    for node in ast.walk(tree):
        if id(node) in ignored:
            continue

        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                # What is imported is a module of a package, or else something in a module.
                yield _path(f"{node.module}.{name.name}") or _path(node.module or "") or ""
        elif isinstance(node, ast.Import):
            for name in node.names:
                yield _path(name.name) or ""


def _path(module: str) -> str | None:
    """Return the file or the folder of a module of ours."""
    path = module.removeprefix("jobctl.").replace(".", "/")
    ours = module.startswith(("jobctl.", "bench."))
    return next((f"{path}{end}" for end in (".py", "") if ours and (TOP / f"{path}{end}").exists()), None)


def test_every_package_is_a_room_of_the_table() -> None:
    folders = [TOP / name for name in PACKAGES if name != "jobs"]
    folders += [folder for folder in (TOP / "jobs").iterdir() if (folder / "__init__.py").exists()]
    assert sorted({str(folder.relative_to(TOP)) for folder in folders} - set(rooms())) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_imports_only_rooms_above_it_in_the_table(package: str) -> None:
    order = {room: number for number, room in enumerate(rooms())}
    upward = set()

    for file in (TOP / package).rglob("*.py"):
        room = room_of(str(file.relative_to(TOP)))
        for path in imports(file) if room else ():
            other = room_of(path)
            if room and other and order[other] > order[room]:
                upward.add(f"{room} imports {other} ({file.name})")

    assert sorted(upward) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_files_that_exist(page: Path) -> None:
    words = IN_BACKTICKS.findall(page.read_text(encoding="utf-8"))
    paths = [word for word in words if ROOM_PATH.fullmatch(word) and not PLACEHOLDER.search(word)]
    missing = [path for path in paths if not list(TOP.glob(path.rstrip("/")))]
    assert [path for path in missing if path != "jobs/cli/count.py"] == []


@pytest.mark.parametrize("page", [ARCHITECTURE, *WALKS], ids=lambda page: page.name)
def test_a_walk_names_functions_that_exist(page: Path) -> None:
    suffixes = {".py", ".sh", ".j2", ".yaml"}
    files = [file for room in (*PACKAGES, "templates") for file in (TOP / room).rglob("*")]
    text = "\n".join(f.read_text(encoding="utf-8") for f in files if f.suffix in suffixes)
    words = [re.sub(r"\(.*", "", word) for word in IN_BACKTICKS.findall(page.read_text(encoding="utf-8"))]
    names = {part for word in words for part in word.split(".") if re.fullmatch(r"[A-Za-z_]\w+", part)}
    known = set(re.findall(r"\w+", text))
    assert sorted(names - known) == []
