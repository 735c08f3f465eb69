"""The nodes of a job find each other by addresses that all of them reach, or say in words why not."""

from __future__ import annotations

import argparse
import errno
import os
import socket

import pytest
from torch.distributed import run as torchrun

from jobctl.jobs.core.errors import UserError
from jobctl.trainer import rendezvous


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what another test or a cluster has chosen. What a test sets goes with it."""
    for name in (rendezvous.INTERFACE, "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def options(*words: str) -> argparse.Namespace:
    parsed: argparse.Namespace = torchrun.parse_args([*words, "-m", "jobctl.trainer"])
    return parsed


def two_nodes(endpoint: str, *, first: bool) -> argparse.Namespace:
    return options(
        "--nnodes=2",
        "--rdzv_backend=c10d",
        f"--rdzv_endpoint={endpoint}",
        f"--rdzv_conf=is_host={int(first)}",
    )


@pytest.mark.parametrize(
    ("words", "address"),
    [
        (["--standalone"], "127.0.0.1"),
        (["--nnodes=1"], "127.0.0.1"),
        (["--nnodes=1", "--local_addr=10.0.0.1"], "10.0.0.1"),
        (["--nnodes=2"], None),
    ],
)
def test_ranks_of_one_node_need_no_host_name(words: list[str], address: str | None) -> None:
    parsed = options(*words)
    rendezvous.prepare(parsed)
    assert parsed.local_addr == address


def test_a_node_tells_the_address_from_which_it_reaches_the_first_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendezvous, "address_towards", lambda host, port: "10.0.0.2")
    monkeypatch.setattr(rendezvous, "interface_of", {"10.0.0.2": "eth7"}.__getitem__)
    parsed = two_nodes("10.0.0.1:20000", first=True)
    rendezvous.prepare(parsed)
    assert parsed.local_addr == "10.0.0.2"
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
    assert "NCCL_SOCKET_IFNAME" not in os.environ, "NCCL finds all of a node's networks by itself"


def test_the_sites_interface_is_taken_by_torchrun_gloo_and_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rendezvous.INTERFACE, "ib0")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth9")
    monkeypatch.setattr(rendezvous, "interface_address", {"ib0": "10.1.0.2"}.__getitem__)
    parsed = two_nodes("10.1.0.1:20000", first=True)
    rendezvous.prepare(parsed)
    assert parsed.local_addr == "10.1.0.2"
    assert os.environ["NCCL_SOCKET_IFNAME"] == "=ib0"
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth9", "what the environment says stays"


def test_an_address_that_means_this_node_is_refused_at_once() -> None:
    """Debian writes 127.0.1.1 for a node's own name into its hosts file."""
    with pytest.raises(UserError, match=r"the name leads to 127\.0\.0\.1, this node itself") as error:
        rendezvous.prepare(two_nodes("127.0.1.1:20000", first=False))
    assert "slurm.interface" in error.value.hint
    assert error.value.code == 1, "a network may come back, so it may be tried again"


def test_an_interface_that_is_missing_is_named_with_those_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(rendezvous.INTERFACE, "nope0")
    with pytest.raises(UserError, match="network interface nope0 of this node has no address") as error:
        rendezvous.prepare(two_nodes("10.0.0.1:20000", first=False))
    assert "lo" in error.value.hint


def test_an_interface_is_known_by_its_address_and_the_other_way_round() -> None:
    assert rendezvous.interface_address("lo") == "127.0.0.1"
    assert rendezvous.interface_of("127.0.0.1") == "lo"
    assert rendezvous.interface_of("192.0.2.77") == ""


def test_a_node_waits_until_the_first_one_listens() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        pauses = []

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            server.listen()

        rendezvous.wait_for("127.0.0.1", port, sleep=sleep)
    assert len(pauses) == 1


@pytest.mark.parametrize(
    ("number", "limit"),
    [
        (errno.ECONNREFUSED, rendezvous.ARRIVAL_SECONDS),
        (errno.EHOSTUNREACH, rendezvous.UNREACHABLE_SECONDS),
    ],
)
def test_the_wait_ends_with_the_reason(monkeypatch: pytest.MonkeyPatch, number: int, limit: float) -> None:
    """A node that refuses is up, and its container may take minutes. One without a route stays without."""
    monkeypatch.setenv("NODE", "n2")
    now = [0.0]

    def refuse(address: object, timeout: float) -> socket.socket:
        raise OSError(number, os.strerror(number))

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(socket, "create_connection", refuse)
    expected = rf"node n2 does not reach the first node at 10\.0\.0\.1:7 in {limit:.0f} s: "
    with pytest.raises(UserError, match=expected + os.strerror(number)):
        rendezvous.wait_for("10.0.0.1", 7, clock=lambda: now[0], sleep=sleep)
