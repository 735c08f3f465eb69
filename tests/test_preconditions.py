"""A page that shows a command says before it, or beside it, what the command wants from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
GENERATED = {"cli.md"}
"""The reference of all options: it shows no command to type."""
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


class Want(NamedTuple):
    """A kind of command, and the words by which a page says what it wants."""

    command: str
    said: str


WANTS = {
    "an image, which no registry has": Want(
        r"\bdocker run\b|(--target|-g) docker\b", r"make image|docker build"
    ),
    "the client of Kubernetes": Want(r"(--target|-g) k8s\b", r"extra `?k8s|\[k8s"),
    "kubectl": Want(r"\bkubectl [a-z]", r"with kubectl|needs `kubectl`|no `kubectl`"),
    "Slurm's commands": Want(r"(submit|pipeline)\b.*(--target|-g) slurm\b|\| ?sbatch\b", r"(?i)login node"),
}


def unsaid(text: str, want: Want) -> str | None:
    """Return the first command of a kind that stands before what it wants; None where there is none."""
    for code in CODE.finditer(text):
        command = re.search(rf".*(?:{want.command}).*", code[0])
        if command is None:
            continue

        # What stands in the same line or the same block is read with the command.
        line_end = text.find("\n", code.end())
        before = " ".join(text[: line_end if line_end >= 0 else len(text)].split())
        return None if re.search(want.said, before) else command[0]

    return None


CASES = [
    (str(page.relative_to(REPOSITORY)), name)
    for page in PAGES
    if page.name not in GENERATED
    for name in WANTS
]


@pytest.mark.parametrize(("page", "name"), CASES)
def test_a_page_says_what_its_commands_want(page: str, name: str) -> None:
    command = unsaid((REPOSITORY / page).read_text(encoding="utf-8"), WANTS[name])
    assert command is None, f"{page}: '{command}' wants {name}, and no line before it says so"


def test_a_command_without_its_want_is_seen() -> None:
    want = WANTS["an image, which no registry has"]
    assert unsaid("# A\n\n```\ndocker run x\n```\nmake image first\n", want) == "docker run x"
    assert unsaid("# A\n\n```\nmake image\ndocker run x\n```\n", want) is None
    assert unsaid("`docker run x` after `make image`\n", want) is None
    assert unsaid("# A\n\nno command\n", want) is None
