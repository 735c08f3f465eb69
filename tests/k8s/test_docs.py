"""docs/kubernetes.md says what its commands print: each is run, with the real trainer in the pods."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.k8s.cluster import Cluster
from tests.k8s.server import ApiServer
from tests.k8s.test_training import nodes  # noqa: F401

PAGE = Path(__file__).parents[2] / "docs" / "kubernetes.md"
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
_VARIES = re.compile(r"\d+(?:[.:,e-]\d+)*|[ \t]+")
PENDING = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


class Command(NamedTuple):
    """A line of the page, and what stands below it."""

    line: str
    says: list[str]


def commands(text: str) -> Iterator[Command]:
    for block in _CONSOLE.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            line, *says = part.rstrip("\n").split("\n")
            yield Command(line, says or [""])


def same(line: str) -> str:
    """A line without what is another each time: numbers, and how wide a column is."""
    return _VARIES.sub(lambda found: " " if found[0].isspace() else "0", line).strip()


_WAITS = re.compile(r"^jobctl: waiting for pod \S+: .*\n", re.MULTILINE)
"""What is said only where a pod takes more than a moment."""


def matches(said: list[str], says: list[str]) -> bool:
    """``…`` alone on a line of the page stands for any lines, at a line's end for its rest."""
    if not says:
        return not said
    if says[0] == "…":
        return any(matches(said[skip:], says[1:]) for skip in range(len(said) + 1))
    if not said:
        return False
    wanted, line = same(says[0]), same(said[0])
    fits = line.startswith(wanted[:-1].strip()) if wanted.endswith("…") else line == wanted
    return fits and matches(said[1:], says[1:])


@pytest.mark.usefixtures("server")
def test_each_command_prints_what_the_page_says(
    server: ApiServer,
    nodes: Cluster,  # noqa: F811
    tmp_path: Path,
) -> None:
    nodes.unschedulable = {"big-master-0": PENDING}
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "jobctl"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from jobctl.jobs.cli import main; main()" "$@"\n')
    tool.chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PAGE.parents[1] / "src"),
    }
    for command in commands(PAGE.read_text()):
        done = subprocess.run(
            ["bash", "-c", command.line], env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
        )  # fmt: skip
        text = _WAITS.sub("", done.stdout.replace(str(server.volume), "/workspace"))
        said = text.rstrip("\n").split("\n")
        if os.environ.get("SHOW"):
            print("$", command.line, *said, sep="\n")
            continue
        assert matches(said, command.says), "\n".join(
            ["$ " + command.line, *said, "--- the page:", *command.says]
        )
