"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.absent import absent
from tests.clusters.slurm import SlurmCluster, missing

if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported

# Read when torch is first imported. Small tensors gain nothing from more threads, and workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell ignores SIGINT for what it runs with `&`, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TRAINER = Path(__file__).parent / "trainer"
SLURM_DAEMONS = {"slurm_daemons", "slurm_accounting_daemons"}

with contextlib.suppress(ModuleNotFoundError):  # a machine with a GPU may have only what its tests need
    from hypothesis import settings

    settings.register_profile("busy", deadline=None)  # a busy machine is no failure
    settings.load_profile("busy")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker for all that need Slurm: it mostly waits, while another one has both cores for the trainer's ranks.

    pytest-xdist begins with the largest groups. Short tests come last, so that all workers end at the same time.
    """
    for item in items:
        grouped = item.get_closest_marker("xdist_group")  # two groups would be a third one
        if not grouped and SLURM_DAEMONS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("slurm"))

    items.sort(key=lambda item: not item.path.is_relative_to(TRAINER))


@pytest.fixture(scope="session")
def slurm_daemons() -> Iterator[SlurmCluster]:
    """Two idle nodes, one cluster a pytest-xdist worker; without accounting."""
    yield from started(accounting=False)


@pytest.fixture(scope="session")
def slurm_accounting_daemons() -> Iterator[SlurmCluster]:
    """The same with slurmdbd, so that ``sacct`` answers."""
    yield from started(accounting=True)


@pytest.fixture
def slurm_cluster(slurm_daemons: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """A real Slurm with an empty queue; this process's ``sbatch`` and the like talk to it."""
    yield from _used(slurm_daemons, monkeypatch)


@pytest.fixture
def slurm_accounting_cluster(
    slurm_accounting_daemons: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SlurmCluster]:
    yield from _used(slurm_accounting_daemons, monkeypatch)


def started(accounting: bool) -> Iterator[SlurmCluster]:
    if reason := missing(accounting):
        absent("JOBCTL_REQUIRE_SLURM", reason)

    cluster = SlurmCluster().start(accounting=accounting)
    yield cluster
    cluster.stop()


def _used(cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    for name in set(os.environ) - set(cluster.env):
        monkeypatch.delenv(name)
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, cluster.env[name])
    yield cluster
    cluster.cancel_all()
