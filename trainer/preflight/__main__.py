"""``python -m jobctl.trainer.preflight [torchrun options] -- [options]``, once on each node.

Each node writes what it is into the run's log folder, reads what the others have written, and measures with them. All
come to the same verdict; the first one prints it, and names bad nodes in ``bad-nodes``, one a line with the reason.
Exits with 0 where all is well, with 1 where a node is bad, with 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.catalog.schema import Expected
from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError, first_line
from jobctl.jobs.core.layout import bad_nodes_file, log_dir
from jobctl.jobs.core.text import visible
from jobctl.trainer import rendezvous
from jobctl.trainer.launch import end_with, error_text, run_ranks, split
from jobctl.trainer.preflight import verdict
from jobctl.trainer.preflight.node import Node, look
from jobctl.trainer.preflight.verdict import Measured, Problem

ARRIVAL_SECONDS = 60.0
"""Seconds to wait for the reports of other nodes: containers start at different times."""
FAREWELL_SECONDS = 15.0
POLL_SECONDS = 0.2


class Folder:
    """The folder of the shared volume in which the nodes of one attempt meet."""

    def __init__(self, run_dir: Path, attempt: int) -> None:
        self.run_dir = run_dir
        self.path = log_dir(run_dir, attempt) / "preflight"
        self.bad_nodes = bad_nodes_file(run_dir, attempt)
        self.verdict = self.path / "verdict"

    def write(self, node: str) -> None:
        """Write this node's report. The volume's time of the file is compared with the node's clock."""
        self.path.mkdir(parents=True, exist_ok=True)
        facts = look(node, self.run_dir, time.time())
        # Once more, because the look may have taken seconds. The file gets its time now.
        facts = msgspec.structs.replace(facts, clock=time.time())
        write_whole(self._node_file(node), msgspec.json.encode(facts))

    def read(self, hosts: Sequence[str]) -> dict[str, Node]:
        """Return the reports of the hosts. Wait some time for the missing ones."""
        deadline = time.monotonic() + ARRIVAL_SECONDS
        # The time is bounded, because a node that never comes is what this check must name.
        while time.monotonic() < deadline and not all(self._node_file(host).exists() for host in hosts):
            os.listdir(self.path)  # a network file system then asks its server again
            time.sleep(POLL_SECONDS)

        present = [self._node_file(host) for host in hosts if self._node_file(host).exists()]
        nodes = [msgspec.json.decode(file.read_bytes(), type=Node) for file in present]

        return {node.name: node for node in nodes}

    def skews(self, nodes: dict[str, Node]) -> dict[str, float]:
        """Return each node's clock minus the volume's, in seconds."""
        # The volume's server sets this time, so it is a clock that all nodes share.
        return {name: node.clock - self._node_file(name).stat().st_mtime for name, node in nodes.items()}

    def measured(self, hosts: Sequence[str]) -> list[Measured]:
        """Return the measurements of the ranks, or the errors of those that failed."""
        # A whole report has the measurements of all ranks, so the first one is enough.
        for report in (self.report(host) for host in hosts):
            if report.exists():
                return list(msgspec.json.decode(report.read_bytes(), type=list[Measured]))
        # Without a report some rank has failed, and the ranks' own files hold the errors.
        return [rank for file in sorted(self.path.glob("ranks-*.json.*")) for rank in _failed(file)]

    def report(self, node: str) -> Path:
        return self.path / f"ranks-{node}.json"

    def _node_file(self, node: str) -> Path:
        """Return the file with the report of a node."""
        return self.path / f"node-{node}.json"


def _failed(file: Path) -> Iterator[Measured]:
    yield from msgspec.json.decode(file.read_bytes(), type=list[Measured])


def main(arguments: Sequence[str]) -> int:
    torchrun_options, own = split(arguments)
    given = _parser().parse_args(own)
    hosts = given.hosts or [given.node]

    try:
        expected = msgspec.json.decode(given.expect, type=Expected)
    except msgspec.MsgspecError as error:
        raise UserError(f"--expect: {error}") from None

    folder = Folder(given.run_dir, given.attempt)
    # The own report comes before the wait, or all nodes would wait for each other.
    folder.write(given.node)
    nodes = folder.read(hosts)
    problems = verdict.missing(hosts, nodes)
    problems += [problem for node in nodes.values() for problem in verdict.of_node(node, expected)]
    problems += verdict.of_clocks(folder.skews(nodes))
    measured: list[Measured] = []
    if not problems:  # ranks on bad nodes would take the others with them
        failed = measure(torchrun_options, folder.report(given.node), given.node, given.expect)
        measured = folder.measured(hosts)
        problems = verdict.of_ranks(measured, expected)
        if failed and not problems:
            problems = [Problem("", f"the ranks could not measure: {failed}")]

    # One node prints, or the log would show everything once for each node.
    if given.node == hosts[0]:
        announce(folder, nodes, measured, problems)

    wait_for(folder.verdict, FAREWELL_SECONDS)

    return 1 if problems else 0


def measure(torchrun_options: Sequence[str], report: Path, node: str, expect: str) -> str:
    """Start this node's ranks and wait for them. Return their error, if there was one."""
    from torch.distributed import run as torchrun  # a second to import

    words = [*torchrun_options, "-m", "jobctl.trainer.preflight.ranks", str(report), node, expect]
    parsed = torchrun.parse_args(words)
    try:
        rendezvous.prepare(parsed)
    except UserError as error:
        # The first node, which waits for this one, cannot say it.
        print(error_text(error), file=sys.stderr)
        return error.message

    raised = run_ranks(parsed)

    return "" if raised is None else f"{type(raised).__name__}: {first_line(raised)}"


def announce(
    folder: Folder, nodes: dict[str, Node], measured: Sequence[Measured], problems: Sequence[Problem]
) -> None:
    """Print the result, and write the names of bad nodes for the batch script."""
    for node in nodes.values():
        mine = [rank for rank in measured if rank.node == node.name]
        print(visible(f"preflight: {node.name}: {_hardware(node)}{_speeds(mine)}"))
        if node.gpus and node.xids is None:
            print(
                f"preflight: {node.name}: the kernel's log cannot be read, so the Xids of its GPUs are unknown"
            )

    for problem in problems:
        print(visible(f"preflight: {problem.node or 'all nodes'}: PROBLEM: {problem.reason}"))

    if not problems:
        print("preflight: all is well")

    lines = [f"{problem.node}\t{problem.reason}\n" for problem in problems if problem.node]
    if lines:
        # The list is complete before the verdict, which lets the other nodes end.
        write_whole(folder.bad_nodes, "".join(lines).encode())

    # Once the verdict exists the scheduler may end this node, and with it what is not yet printed.
    sys.stdout.flush()
    write_whole(folder.verdict, b"bad\n" if problems else b"good\n")


def _hardware(node: Node) -> str:
    """Describe the GPUs of a node, if its driver answered."""
    if node.unanswered:
        return "its GPUs are not known"

    if not node.gpus:
        return "no GPU"

    kinds = sorted({gpu.name for gpu in node.gpus})
    return f"{len(node.gpus)} × {', '.join(kinds)}, driver {node.gpus[0].driver}"


def _speeds(ranks: Sequence[Measured]) -> str:
    if not ranks:
        return ""

    slowest = min(rank.tflops for rank in ranks)
    first = ranks[0]
    words = [f"matrix product {slowest:.3g} TFLOP/s or more"]
    if first.node_gb_s is not None:
        words.append(f"all-reduce within {first.node_gb_s:.3g} GB/s")

    if first.network_gb_s is not None:
        words.append(f"between nodes {first.network_gb_s:.3g} GB/s")

    return "; " + ", ".join(words)


def wait_for(path: Path, seconds: float) -> None:
    """Wait until the verdict is written. If one node ends earlier, the scheduler may end the others."""
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        os.listdir(path.parent)
        time.sleep(POLL_SECONDS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobctl.trainer.preflight", description="Check the nodes before a training begins."
    )
    parser.add_argument("--run_dir", type=Path, required=True, help="run directory on the shared volume")
    parser.add_argument("--attempt", type=int, default=1, help="attempt whose log folder is used")
    parser.add_argument("--node", default=os.environ.get("NODE") or socket.gethostname(), help="this node")
    parser.add_argument(
        "--hosts", type=lambda text: text.split(","), help="all nodes, joined by commas; this one alone"
    )
    parser.add_argument("--expect", default='{"gpus": 0}', help="expected values of each node, as JSON")

    return parser


def code_of_main() -> int:
    """Return the exit code of ``main``, and print its error."""
    try:
        return main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code


if __name__ == "__main__":
    # Not by Python's way out: an interrupt may come while torchrun's thread is at work.
    end_with(code_of_main)
