"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.clusters.slurm import SlurmCluster, missing

if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported

with contextlib.suppress(ModuleNotFoundError):  # a machine with a GPU may have only what its tests need
    from hypothesis import settings

    settings.register_profile("busy", deadline=None)  # a busy machine is no failure
    settings.load_profile("busy")


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
        if os.environ.get("JOBCTL_REQUIRE_SLURM") == "1":
            pytest.fail(f"JOBCTL_REQUIRE_SLURM=1, but: {reason}")
        pytest.skip(reason)
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
