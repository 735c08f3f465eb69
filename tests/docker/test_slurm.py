"""The image inside a real Slurm's jobs: two nodes, with nothing but the image and the shared directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.jobs.runs import store as runs
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.submission import submit
from jobctl.slurm.target import TARGET
from tests.checkout import checkout, patched
from tests.clusters import BUSY
from tests.clusters.containers import Engine
from tests.clusters.slurm import SlurmCluster
from tests.trainer.corpus import write_corpus

SMALL = (
    "exclusive=false", "time_limit=00:10:00", "processes_per_node=1", "max_iters=4", "batch_size=1", "block_size=32",
    "eval_interval=1000", "eval_iters=1", "log_interval=1", "checkpoint_interval=0", "hidden_size=32", "head_dim=16",
    "num_attention_heads=2", "num_key_value_heads=1", "num_hidden_layers=2", "intermediate_size=64",
)  # fmt: skip


def two_nodes(root: Path, runtime: str, image: str, *sets: str) -> JobSpec:
    choices = Choices(
        model="qwen3_smoke", target="slurm", run="two", named={"nodes": 2, "image": image},
        sets=(*SMALL, f"container_runtime={runtime}", *sets),
    )  # fmt: skip
    return resolve(choices, version="0", root=str(root)).spec


def finished(root: Path) -> Path:
    """The run's directory when it has finished."""
    deadline = time.monotonic() + BUSY * 240
    path = root / "runs" / "two"
    while (status := TARGET.statuses([runs.read(root, "two")])[0]).state not in runs.ENDED:
        assert time.monotonic() < deadline, f"{status} {log_of(path)}"
        time.sleep(0.2)
    assert (status.state, status.exit_code) == ("finished", 0), log_of(path)
    return path


def train_on_two_nodes(root: Path, runtime: str, image: str, *sets: str) -> Path:
    """The run directory of a finished two-node training."""
    write_corpus(root / "datasets" / "sotu-gpt2", tokens=20000, vocab=50257, tokenizer="gpt2")
    submit(two_nodes(root, runtime, image, *sets))
    return finished(root)


def log_of(run: Path) -> str:
    return "".join(file.read_text() for file in run.glob("logs/*/batch.log"))


def check(run: Path) -> None:
    assert "step 4/4" in log_of(run)
    assert sorted(file.name for file in run.glob("logs/1/rank-*")) == ["rank-00000.log", "rank-00001.log"]
    attempt = json.loads((run / "attempts/1.json").read_text())
    assert attempt["nodes"] == "n[1-2]"


def test_two_nodes_train_in_podman(
    built_image: str, slurm_cluster: SlurmCluster, podman: Engine, tmp_path: Path
) -> None:
    """Docker's daemon stands outside of the test cluster and does not know the names of its nodes."""
    run = train_on_two_nodes(tmp_path / "root", "podman", built_image)
    check(run)
    assert {file.stat().st_uid for file in run.rglob("*")} == {os.getuid()}


def test_a_patched_job_runs_the_copy_on_every_node_in_the_place_of_the_images_code(
    built_image: str, slurm_cluster: SlurmCluster, podman: Engine, tmp_path: Path
) -> None:
    tree = checkout(tmp_path / "tree", "import os\nprint('patched on', os.environ['NODE'])\n")
    root = tmp_path / "root"
    spec = two_nodes(root, "podman", built_image)
    submit(patched(spec, tree))
    log = log_of(finished(root))
    assert sorted(line for line in log.splitlines() if "patched" in line) == [
        "patched on n1",
        "patched on n2",
    ]


@pytest.fixture
def bundle(built_image: str, podman: Engine, tmp_path: Path) -> Iterator[Path]:
    """The image unpacked as Slurm's own container support wants it: a root file system and its config.json."""
    folder = tmp_path / "bundle"
    (folder / "rootfs").mkdir(parents=True)  # the one name that Slurm 22.05 takes
    container = podman.run("create", "--no-healthcheck", built_image)
    podman.run("export", f"--output={tmp_path}/image.tar", container)
    podman.run("rm", container)
    subprocess.run(["tar", "-xf", f"{tmp_path}/image.tar", "-C", str(folder / "rootfs")], check=True)
    (tmp_path / "image.tar").unlink()
    mounts = [("/proc", "proc", "proc", []), ("/dev", "tmpfs", "tmpfs", ["nosuid", "mode=755"])]
    binds = [
        (str(tmp_path), "bind", str(tmp_path), ["rbind", "rw"]),
        ("/dev/shm", "bind", "/dev/shm", ["rbind"]),
    ]
    binds += [("/etc/hosts", "bind", "/etc/hosts", ["rbind"])]
    config = {
        "ociVersion": "1.0.0",
        "root": {"path": "rootfs", "readonly": False},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/", "env": []},
        "mounts": [
            {"destination": to, "type": kind, "source": source, "options": options}
            for to, kind, source, options in [*mounts, *binds]
        ],
        "linux": {"namespaces": [{"type": "mount"}]},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    yield folder
    shutil.rmtree(folder / "rootfs")


def test_two_nodes_train_in_slurms_own_containers(
    bundle: Path, slurm_cluster: SlurmCluster, tmp_path: Path
) -> None:
    state = tmp_path / "runc"
    runc = f"runc --rootless=false --root={state}"
    (slurm_cluster.conf.parent / "oci.conf").write_text(
        f'RunTimeQuery="{runc} state %n.%u.%j.%s.%t"\n'
        f'RunTimeKill="{runc} kill -a %n.%u.%j.%s.%t"\n'
        f'RunTimeDelete="{runc} delete --force %n.%u.%j.%s.%t"\n'
        f'RunTimeRun="{runc} run %n.%u.%j.%s.%t -b %b"\n'
    )
    # The step's environment, PATH too, is the job's and not the image's.
    check(train_on_two_nodes(tmp_path / "root", "oci", str(bundle), "python=/opt/venv/bin/python3"))
