"""The text of a batch script: what each container runtime is told, and what must not stand in it."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from jobctl.jobs.render import TEMPLATES, shell_functions
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.slurm.script import options_of, render


def spec_of(*sets: str, **choices: object) -> JobSpec:
    given = {"model": "qwen3_smoke", "target": "slurm", "run": "x", **choices}
    return resolve(Choices(**given, sets=sets), version="1", root="/shared/root").spec  # type: ignore[arg-type]


def container_words(spec: JobSpec) -> str:
    """The options of srun and the words before the command, as bash has them when it comes to srun."""
    script = render(spec)
    data = script[script.index("JOB_SRUN_OPTIONS=(") : script.index("LAUNCH=(")]
    forget = f"{shell_functions('slurm/inherited')}\nforget_inherited\n"
    show = 'echo "${JOB_SRUN_OPTIONS[*]} ${CONTAINER_COMMAND[*]}"'
    return subprocess.run(
        ["bash", "-c", data + forget + show], capture_output=True, text=True, check=True
    ).stdout


GPU = {"hardware": "h100"}


@pytest.mark.parametrize(
    ("sets", "choices", "expected"),
    [
        (("container_runtime=pyxis", "image=/shared/images/jobctl.sqsh"), GPU,
         "--container-image=/shared/images/jobctl.sqsh --container-mounts=/shared/root:/shared/root "
         "--no-container-mount-home --container-writable --container-env="),
        (("container_runtime=apptainer", "image=/i.sif", "mounts=[/data:/data:ro]"), GPU,
         "apptainer exec --nv --bind /shared/root:/shared/root --bind /data:/data:ro /i.sif"),
        (("container_runtime=apptainer", "image=/i.sif"), {}, "apptainer exec --bind /shared/root"),
        (("container_runtime=podman",), GPU, "podman run --rm --network=host --ipc=host"),
        (("container_runtime=podman",), GPU, "--device nvidia.com/gpu=all"),
        (("container_runtime=docker",), GPU, "--gpus all"),
        (("container_runtime=oci", "image=/bundles/jobctl"), {}, "--container=/bundles/jobctl"),
    ],
)  # fmt: skip
def test_each_runtime_is_told_in_its_own_way(
    sets: tuple[str, ...], choices: dict[str, object], expected: str
) -> None:
    assert expected in container_words(spec_of(*sets, **choices))


def test_a_job_without_gpus_asks_enroot_for_none() -> None:
    """Its hook would fail on a node without a driver."""
    assert "NVIDIA_VISIBLE_DEVICES=void" in render(spec_of("container_runtime=pyxis"))
    assert "NVIDIA_VISIBLE_DEVICES" not in render(spec_of("container_runtime=pyxis", **GPU))
    assert "NVIDIA_VISIBLE_DEVICES" not in render(spec_of("container_runtime=none"))


@pytest.mark.parametrize("runtime", ["pyxis", "podman", "docker"])
def test_all_of_the_environment_goes_into_the_container(runtime: str) -> None:
    spec = spec_of(f"container_runtime={runtime}", "env.NCCL_IB_HCA=mlx5", "pass_env=[HF_TOKEN]", **GPU)
    inside = container_words(spec)
    for name in ("NCCL_IB_HCA", "HF_TOKEN", "PYTORCH_CUDA_ALLOC_CONF", "NCCL_DEBUG"):
        assert name in inside


def test_a_gpu_job_has_the_sites_settings_and_a_cache_of_its_users_own() -> None:
    script = render(spec_of("env.NCCL_DEBUG=INFO", **GPU))
    assert "export NCCL_DEBUG=INFO" in script, "the site's own setting wins"
    assert "CACHE=$JOBCTL_ROOT/cache/$(id -un)\n" in script
    assert 'export JOBCTL_CACHE="$CACHE"' in script
    assert "TORCHINDUCTOR_CACHE_DIR" not in script, "the launcher of each node sets it"
    assert "ulimit -l unlimited" in script
    assert "TORCH_NCCL" not in script, "the trainer sets it for every target"


def test_where_a_job_runs_is_the_sites_word() -> None:
    sets = (
        "partition=gpu", "cpu_partition=cpu", "account=a", "qos=q", "reservation=r", "constraint=c&d",
        "nodelist=n[1-4]", "exclude=n3", "mail_user=me@x", "comment=for us", "gpu_request=gres", "gpu_type=h100",
        "spare_nodes=1",
    )  # fmt: skip
    options = options_of(spec_of(*sets, hardware="h100", named={"nodes": 2}))
    assert (options["partition"], options["nodes"], options["gres"]) == ("gpu", 3, "gpu:h100:8")
    assert options["gpus-per-node"] is None
    assert [options[k] for k in ("account", "qos", "reservation", "constraint", "nodelist", "exclude")] == [
        "a", "q", "r", "c&d", "n[1-4]", "n3",
    ]  # fmt: skip
    assert (options["comment"], options["mail-user"]) == ("for us jobctl:/shared/root/runs/x", "me@x")
    assert options_of(spec_of(*sets, run=None))["comment"] == "for us jobctl"
    assert options_of(spec_of(*sets))["partition"] == "cpu"
    assert options_of(spec_of(*sets, hardware="h100", stage="eval"))["nodes"] == 1, (
        "no spare without a preflight"
    )


def test_prep_is_an_array_of_one_node_tasks_and_a_sweep_one_of_batch_sizes() -> None:
    prep = spec_of("array_limit=4", kind="prep", model="", named={"nodes": 32})
    assert (options_of(prep)["array"], options_of(prep)["nodes"]) == ("0-31%4", 1)
    sweep = spec_of(stage="sweep", hardware="h100", named={"nodes": 2})
    assert options_of(sweep)["array"] == "0-2"
    assert options_of(sweep)["nodes"] == 2
    assert options_of(spec_of())["array"] is None


def test_no_value_of_a_secret_is_ever_in_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    script = render(spec_of("pass_env=[HF_TOKEN]", "secrets_file=~/odd name/s", "container_runtime=podman"))
    assert "hf_secret" not in script
    assert "set -x" not in script
    assert "read_secrets \"$HOME\"'/odd name/s'" in script


def said_on_a_node(root: Path, tmp_path: Path) -> tuple[int, str]:
    """Exit code and errors of a GPU job's script, which ends where Slurm's commands would be needed."""
    spec = resolve(
        Choices(model="qwen3_smoke", target="slurm", run="x", **GPU), version="1", root=str(root)
    ).spec
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin/scontrol").write_text('#!/bin/bash\n[ "$2" != hostnames ] || echo n1\n')
    (tmp_path / "bin/scontrol").chmod(0o755)
    variables = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NODELIST": "n1",
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash"], input=render(spec), env=variables, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which root alone may")
def test_compiled_code_that_someone_else_left_is_not_executed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o1777)
    said_on_a_node(root, tmp_path)
    cache = root / "cache/root"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert stat.S_IMODE(cache.parent.stat().st_mode) == 0o1777
    os.chown(cache, 1, 1)
    code, said = said_on_a_node(root, tmp_path)
    assert (code, f"{cache} belongs to daemon (1)" in said) == (2, True)
    cache.rmdir()
    cache.symlink_to(tmp_path)
    code, said = said_on_a_node(root, tmp_path)
    assert (code, f"{cache} is a symbolic link" in said) == (2, True)


def functions_of(text: str) -> set[str]:
    return set(re.findall(r"^(\w+)\(\) [{(]", text, re.MULTILINE))


@pytest.mark.parametrize("allocation", [False, True])
@pytest.mark.parametrize(
    ("sets", "choices"),
    [
        ((), {}),
        (("container_runtime=pyxis", "image=a.registry/jobctl:1"), GPU),
        (("container_runtime=apptainer", "image=docker://a.registry/jobctl:1"), GPU),
        (("container_runtime=podman", "secrets_file=~/.keys", "pass_env=[HF_TOKEN]"), GPU),
        (("modules=[cuda]", "project_dir=/p", "preflight=stop"), {"named": {"nodes": 2}}),
        ((), {"kind": "sweep"}),
    ],
)
def test_a_script_has_the_functions_that_it_calls(
    sets: tuple[str, ...], choices: dict[str, object], allocation: bool
) -> None:
    script = render(spec_of(*sets, **choices), allocation=allocation)
    files = [file for folder in ("shell", "slurm") for file in (TEMPLATES / folder).glob("*.sh")]
    known = set().union(*(functions_of(file.read_text()) for file in files))
    # Only in a job that keeps its container, which the function asks first.
    known -= {"remove_containers"}

    lines = [line for line in script.splitlines() if not line.lstrip().startswith(("#", "JOB_RECORD="))]
    code = "\n".join(lines)
    called = set(re.findall(r"(?<![-\w./=])(\w+)(?![-\w=.(])", code))
    assert sorted(called & known - functions_of(code)) == []
