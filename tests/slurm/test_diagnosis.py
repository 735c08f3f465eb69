"""What ``jobctl doctor --target slurm`` sees of a cluster from its login node."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.catalog.schema import ContainerSection, Site
from jobctl.jobs.core.errors import UserError
from jobctl.slurm.client import Slurm
from jobctl.slurm.diagnosis import examine
from tests.clusters.slurm import SlurmCluster
from tests.slurm import container_programs


def site(runtime: str, *modules: str) -> Site:
    return Site(container=ContainerSection(runtime=runtime), modules=modules)  # type: ignore[arg-type]


def test_a_machine_without_slurm_is_left_to_the_checks_of_the_machine() -> None:
    def ask(_: list[str]) -> str:
        raise UserError("srun is not on the PATH", hint="is it a login node?")

    assert examine(site("pyxis"), ask).troubles == ()


@pytest.mark.parametrize(
    ("runtime", "evidence"),
    [
        ("pyxis", "srun --help does not name --container-image"),
        ("edf", "srun --help does not name --environment"),
        ("podman-hpc", "podman-hpc is not on the PATH"),
        ("shifter", "shifter is not on the PATH"),
    ],
)
def test_a_real_slurm_without_the_sites_runtime(
    slurm_cluster: SlurmCluster, runtime: str, evidence: str
) -> None:
    (trouble,) = examine(site(runtime), Slurm().answer).troubles
    assert trouble.check == "container_runtime_missing"
    assert evidence in trouble.evidence


@pytest.mark.parametrize("chosen", [site("none"), site("oci"), site("shifter", "shifter/1")])
def test_what_is_here_or_comes_with_a_module_is_no_trouble(slurm_cluster: SlurmCluster, chosen: Site) -> None:
    assert examine(chosen, Slurm().answer).troubles == ()


def test_a_program_that_is_here_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", container_programs.install(tmp_path))
    assert examine(site("podman-hpc"), lambda _: "").troubles == ()
