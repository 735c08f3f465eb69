"""An image of a registry is imported once, whatever number of nodes and jobs needs it at the same moment."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.jobs.render import shell_functions
from jobctl.slurm.images import address, file_name, importer, is_fixed
from jobctl.slurm.script import render
from tests.slurm import container_programs
from tests.slurm.conftest import Submitter
from tests.slurm.test_script import GPU, spec_of

FILES = ("messages", "files", "ownership", "slurm/private", "slurm/image")
IMAGE = "nvcr.io#me/jobctl:1"
DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("sets", "program"),
    [
        (("container.runtime=pyxis", f"image={IMAGE}"), "enroot"),
        (("container.runtime=pyxis", "image=/i.sqsh"), ""),
        (("container.runtime=pyxis", "image=dockerd://jobctl:1"), ""),
        (("container.runtime=pyxis", f"image={IMAGE}", "container.share_image=false"), ""),
        (("container.runtime=apptainer", "image=docker://me/jobctl:1"), "apptainer"),
        (("container.runtime=apptainer", "image=/i.sif"), ""),
        (("container.runtime=podman", "image=me/jobctl:1"), ""),
    ],
)
def test_only_an_image_that_each_node_would_import_is_imported_beforehand(
    sets: tuple[str, ...], program: str
) -> None:
    spec = spec_of(*sets)
    assert importer(spec) == program
    assert ("share_image\n" in render(spec)) == bool(program)


@pytest.mark.parametrize(
    ("image", "fixed"),
    [
        ("me/i:1", True),
        ("me/i", False),
        ("me/i:latest", False),
        ("host:5000/i", False),
        (f"me/i@{DIGEST}", True),
    ],
)
def test_a_reference_is_fixed_where_it_has_a_digest_or_a_tag(image: str, fixed: bool) -> None:
    assert is_fixed(spec_of("container.runtime=pyxis", f"image={image}")) == fixed


def test_a_file_is_named_after_its_image() -> None:
    spec = spec_of("container.runtime=pyxis", f"image={IMAGE}")
    assert file_name(spec) == "nvcr.io+me+jobctl+1"
    assert address(spec) == f"docker://{IMAGE}"


class Importers:
    """Jobs on this machine that all need one image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stand_ins = folder / "stand-ins"
        self.stand_ins.mkdir()
        self.path = (
            f"{container_programs.install(folder / 'bin', 'enroot', 'apptainer')}:{os.environ['PATH']}"
        )
        self.root = folder / "root"
        self.root.mkdir()
        self.jobs: list[subprocess.Popen[str]] = []

    def start(self, *, fixed: str = "yes", program: str = "enroot", job: int = 1) -> subprocess.Popen[str]:
        text = (
            f"set -euo pipefail\n{shell_functions(*FILES)}\nEXIT_USAGE=2; JOB_TRUSTED=(); leave_early() {{ :; }}\n"
            f"JOB_ID={job}; JOB_IMAGE={IMAGE}; JOB_IMAGE_ADDRESS=docker://{IMAGE}; JOB_IMAGE_NAME=me; "
            f"JOB_IMAGE_IS_FIXED={fixed}; JOB_IMPORTER={program}; JOB_IMPORT_SECONDS=60\n"
            'share_image; echo "IMAGE $IMAGE"'
        )
        environment = {"PATH": self.path, "STAND_INS": str(self.stand_ins), "JOBCTL_ROOT": str(self.root)}
        started = subprocess.Popen(
            ["bash", "-c", text],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.jobs.append(started)
        return started

    def said(self, job: subprocess.Popen[str]) -> list[str]:
        output, _ = job.communicate(timeout=60)
        assert job.returncode == 0, output
        return output.splitlines()

    def wait_for_import(self) -> None:
        """Until an importer has written half of its file, and waits."""
        while not any(part.stat().st_size for part in self.root.glob("images/*/*.part-*")):
            assert all(job.poll() is None for job in self.jobs)

    @property
    def imports(self) -> int:
        return len((self.stand_ins / "imports").read_text().splitlines())

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.root.glob("images/*/*") if path.suffix != ".lock")


@pytest.fixture
def importers(tmp_path: Path) -> Iterator[Importers]:
    made = Importers(tmp_path)
    yield made
    for job in made.jobs:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()


def test_two_jobs_at_once_make_one_import(importers: Importers) -> None:
    (importers.stand_ins / "hold").touch()
    jobs = [importers.start(job=number) for number in (1, 2, 3)]
    importers.wait_for_import()
    (importers.stand_ins / "hold").unlink()
    said = [importers.said(job) for job in jobs]

    (file,) = importers.root.glob("images/*/me")
    assert file.read_text() == "hsqs-half-whole"
    assert importers.imports == 1
    assert {lines[-1] for lines in said} == {f"IMAGE {file}"}
    assert sum("jobctl: importing" in line for lines in said for line in lines) == 1


def test_a_killed_importer_leaves_no_half_file_and_no_lock(importers: Importers) -> None:
    (importers.stand_ins / "hold").touch()
    first = importers.start()
    importers.wait_for_import()
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert [name.startswith("me.part-") for name in importers.files] == [True]

    (importers.stand_ins / "hold").unlink()
    importers.said(importers.start(job=2))
    assert importers.files == ["me"]
    assert importers.imports == 2


def test_the_next_job_imports_nothing(importers: Importers) -> None:
    importers.said(importers.start())
    assert importers.said(importers.start(job=2)) == [f"IMAGE {next(importers.root.glob('images/*/me'))}"]
    assert importers.imports == 1


def test_a_tag_that_was_moved_is_another_file(importers: Importers) -> None:
    for digest in ("sha256:aa", "sha256:bb", "sha256:aa"):
        (importers.stand_ins / "digest").write_text(digest)
        importers.said(importers.start(fixed=""))
    assert importers.files == ["me-aa", "me-bb"]
    assert importers.imports == 2


def test_what_may_be_another_image_tomorrow_is_not_kept(importers: Importers) -> None:
    said = importers.said(importers.start(fixed=""))
    assert said == [
        f"jobctl: image {IMAGE} may change, so each node imports it; give a tag or a digest",
        f"IMAGE {IMAGE}",
    ]
    assert importers.files == []


def test_where_the_import_fails_the_nodes_try_it_themselves(importers: Importers) -> None:
    (importers.stand_ins / "refuse").touch()
    said = importers.said(importers.start())
    assert said[-1] == f"IMAGE {IMAGE}"
    assert "so each node imports it" in said[-2]
    assert importers.files == []


def test_without_locks_each_job_imports_and_the_file_is_whole(importers: Importers) -> None:
    flock = importers.folder / "bin/flock"
    flock.write_text("#!/bin/bash\necho 'flock: 10: Function not implemented' >&2\nexit 69\n")
    flock.chmod(0o755)
    assert any("has no locks" in line for line in importers.said(importers.start()))
    assert importers.files == ["me"]


def test_apptainer_pulls_into_a_file_of_the_same_kind(importers: Importers) -> None:
    importers.said(importers.start(program="apptainer"))
    assert importers.files == ["me"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which root alone may")
def test_an_image_that_someone_else_put_there_is_not_started(importers: Importers) -> None:
    importers.said(importers.start())
    folder = next(importers.root.glob("images/*"))
    os.chown(folder, 1, 1)
    job = importers.start(job=2)
    output, _ = job.communicate(timeout=60)
    assert (job.returncode, f"{folder} belongs to daemon (1)" in output) == (2, True)


def pyxis(slurm_runs: Submitter, tmp_path: Path) -> dict[str, object]:
    """Settings of a job whose nodes have a stand-in for pyxis, with two nodes."""
    path = container_programs.install(tmp_path / "bin", "srun", "in-container", "enroot")
    (tmp_path / "stand-ins").mkdir()
    return {
        "container.runtime": "pyxis",
        "image": IMAGE,
        "nodes": 2,
        "env.PATH": f"{path}:{slurm_runs.cluster.env['PATH']}",
        "env.STAND_INS": tmp_path / "stand-ins",
    }


def test_two_nodes_of_a_real_slurm_start_from_one_file(slurm_runs: Submitter, tmp_path: Path) -> None:
    sets = pyxis(slurm_runs, tmp_path)
    slurm_runs.submit("shared", 'echo "$NODE $JOBCTL_ROOT $CONTAINER"', **sets)
    slurm_runs.wait("shared", "finished")

    assert sorted((tmp_path / "stand-ins/calls").read_text().splitlines()) == ["n1 create", "n2 create"]
    log = slurm_runs.log("shared")
    assert any(f"n1 {slurm_runs.root} yes" in line for line in log)
    assert any(f"n2 {slurm_runs.root} yes" in line for line in log)


def test_the_preflight_and_the_training_of_an_attempt_share_a_container(
    slurm_runs: Submitter, tmp_path: Path
) -> None:
    sets = pyxis(slurm_runs, tmp_path)
    stand_ins = tmp_path / "stand-ins"
    for name in ("pyxis_jobctl-999999", "pyxis_other"):
        (stand_ins / "n1" / name).mkdir(parents=True)
    job = slurm_runs.submit("checked", "true", **sets, preflight="report")
    slurm_runs.wait("checked", "finished")

    calls = sorted((stand_ins / "calls").read_text().splitlines())
    assert calls == ["n1 create", "n1 reuse", "n2 create", "n2 reuse"]

    def removed() -> list[str]:
        return (stand_ins / "removed").read_text().split()

    slurm_runs.until(lambda: len(removed()) == 3, "containers removed", 60, lambda: slurm_runs.log("checked"))
    assert removed() == ["pyxis_jobctl-999999", f"pyxis_jobctl-{job}", f"pyxis_jobctl-{job}"]

    def kept() -> list[str]:
        return [path.name for path in (stand_ins / "n1").iterdir()]

    # A removal is noted before it is done.
    slurm_runs.until(lambda: kept() == ["pyxis_other"], "one container", 60, lambda: kept())


def test_only_an_attempt_that_starts_the_image_twice_keeps_the_container() -> None:
    once = render(spec_of("container.runtime=pyxis", "image=/i.sqsh", "preflight=off", **GPU))
    twice = render(spec_of("container.runtime=pyxis", "image=/i.sqsh", "preflight=stop", **GPU))
    assert "--container-name" not in once
    assert 'JOB_SRUN_OPTIONS+=("--container-name=$JOB_KEPT_CONTAINER")' in twice
