"""The sbatch script of a job spec."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jobctl.jobs.core import layout
from jobctl.jobs.render import (
    EVERY_SCRIPT,
    Verbatim,
    gpu_environment,
    job_environment,
    payload_context,
    quote_shell,
    render_template,
)
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec, seconds
from jobctl.slurm import images
from jobctl.slurm.containers import container_command, container_options, node_checks
from jobctl.slurm.directives import directives
from jobctl.slurm.jobs import run_comment
from jobctl.slurm.options import added, as_words
from jobctl.slurm.runtimes import refuse_unfit

WAIT_SECONDS = 60
"""Seconds for the other nodes to continue after one ended well. If one fails, they end at once."""
LAST_WORDS_SECONDS = 20
"""Seconds that a node waits for another node to report its end, if that one may be at fault."""

ANSWER_SECONDS = 30
"""Seconds for a node to start a process. A living node takes one or two."""
IMPORT_SECONDS = 3600
"""Seconds that a job waits for another job that imports the same image."""
FRUITLESS_ATTEMPTS = 3
"""The number of attempts in a row that may stop before they have saved a step."""
FUNCTIONS = (
    *EVERY_SCRIPT,
    "supervise",
    "slurm/inherited",
    "slurm/controller",
    "slurm/ending",
    "slurm/limits",
    "slurm/nodes",
)
"""Files of shell functions that every job calls."""
KILL_SECONDS = 30
"""Seconds between SIGTERM and SIGKILL in an allocation, like Slurm's KillWait."""


def options_of(spec: JobSpec) -> dict[str, str | int | bool | None]:
    """Return sbatch's options for ``spec``, by their long names. None and empty options are left out."""
    site = spec.site
    resources = spec.resources
    gpus = resources.gpus_per_node
    kind = f"{site.slurm.gpu_type}:{gpus}" if site.slurm.gpu_type else str(gpus)

    own: dict[str, str | int | bool | None] = {
        "job-name": spec.name or spec.run_prefix,
        "array": _array(spec),
        "comment": _comment(spec),
        "nodes": wanted_nodes(spec),
        # One launcher runs on each node, and it starts the ranks there.
        "ntasks-per-node": 1,
        "gpus-per-node": kind if gpus and site.slurm.gpu_request == "gpus-per-node" else None,
        "gres": f"gpu:{kind}" if gpus and site.slurm.gpu_request == "gres" else None,
        "cpus-per-task": site.cpus_per_task or _cpus_of_a_part(spec),
        "exclusive": site.slurm.exclusive,
        # With 0 a job gets all memory of a node, which a part of a node must not take.
        "mem": site.slurm.memory if site.slurm.exclusive or site.slurm.memory != "0" else None,
        "time": resources.time_limit,
        # B: the batch shell alone gets the signal, and asks the ranks itself.
        "signal": f"B:USR2@{resources.stop_grace_seconds}",
        # A job that was preempted continues from its checkpoint.
        "requeue": True,
        # A requeued job must not overwrite its own log.
        "open-mode": "append",
        # Otherwise a job whose predecessor has failed stays in the queue for ever.
        "kill-on-invalid-dep": "yes",
        "clusters": site.slurm.cluster,
        "partition": site.slurm.partition if gpus else site.slurm.cpu_partition or site.slurm.partition,
        "account": site.slurm.account,
        "qos": site.slurm.qos,
        "reservation": site.slurm.reservation,
        "constraint": site.slurm.constraint,
        "nodelist": site.nodelist,
        "exclude": site.exclude,
        "mail-user": site.slurm.mail_user,
        "mail-type": site.slurm.mail_type if site.slurm.mail_user else None,
    }

    return added(own, site.slurm.options, "slurm.options")


def srun_options(spec: JobSpec, variables: Iterable[str], *, allocation: bool = False) -> list[str]:
    """Return srun's options for each run of the payload. ``variables`` are names for a container.

    In an ``allocation`` another step, such as that of Jupyter, may hold all its resources.
    """
    own: dict[str, str | int | bool | None] = {
        "overlap": allocation,
        "ntasks-per-node": 1,
        # One dead task ends the others, which would wait for it until the time limit.
        "kill-on-bad-exit": 1,
        # The ranks get all CPUs of the job and divide them among themselves.
        "cpu-bind": "none",
        "wait": WAIT_SECONDS,
    }
    words = as_words(added(own, spec.site.slurm.srun_options, "slurm.srun_options"))

    return [*words, *container_options(spec, variables)]


def _cpus_of_a_part(spec: JobSpec) -> int | None:
    """Return the CPUs for a job on a part of a node: one a rank, and one a process that reads its batches.

    Return None if the job has whole nodes. Return None also for a job without ranks: Slurm decides its CPUs.
    """
    if spec.site.slurm.exclusive or not spec.job_kind.distributed:
        return None

    readers = 0
    if isinstance(spec, TrainSpec) and spec.train.use_dataloader:
        readers = spec.train.dataloader_num_workers

    return spec.processes_per_node * (1 + readers)


def tasks(spec: JobSpec) -> int:
    """Return the tasks of the job array: one for each node, or for each arm of a sweep. 0: no array."""
    if spec.job_kind.array == "nodes" and spec.resources.nodes > 1:
        return spec.resources.nodes
    return spec.plan.tasks if isinstance(spec, TrainSpec) and spec.plan else 0


def nodes_of(spec: JobSpec) -> int:
    """Return the nodes of the job, or of each task of an array."""
    return 1 if spec.job_kind.array == "nodes" else spec.resources.nodes


def wanted_nodes(spec: JobSpec) -> int:
    """Return the same number plus the spare nodes, which replace bad ones."""
    return nodes_of(spec) + (spec.site.slurm.spare_nodes if spec.checked else 0)


def _comment(spec: JobSpec) -> str:
    """Return the comment. A script that is piped into sbatch before its run has a name gets a general one."""
    if spec.run:
        return run_comment(layout.run_dir(Path(spec.site.root), spec.run), spec.site.slurm.comment)
    return f"{spec.site.slurm.comment} jobctl".strip()


def _array(spec: JobSpec) -> str | None:
    count = tasks(spec)
    limit = spec.resources.array_limit
    return f"0-{count - 1}{f'%{limit}' if limit else ''}" if count else None


def environment(spec: JobSpec) -> dict[str, str]:
    """Return the job's environment, with variables that every node needs. The site's settings win."""
    if spec.resources.gpus_per_node:
        # The next job can reuse kernels that a job has compiled. But no user runs kernels of another user.
        variables = gpu_environment(spec, Verbatim('"$CACHE"'))
        if "OMP_NUM_THREADS" not in spec.site.env:
            # Only the job knows how many CPUs Slurm has given it.
            variables["OMP_NUM_THREADS"] = Verbatim('"$THREADS"')

        return variables

    own = job_environment(spec)
    # Without GPUs the runtime must not look for their driver.
    return (
        {"NVIDIA_VISIBLE_DEVICES": "void", **own} if spec.site.container.runtime in ("pyxis", "edf") else own
    )


def home_path(path: str) -> str:
    """Return ``path`` as one word of shell. A leading ``~`` is the home folder of the job's user."""
    return Verbatim('"$HOME"' + quote_shell(path[1:])) if path.startswith("~/") else path


def core_kib(spec: JobSpec) -> str:
    """Return the KiB that ``ulimit -c`` allows a core file."""
    mib = spec.site.slurm.core_file_mib
    return "unlimited" if mib < 0 else str(mib * 1024)


def reads_secrets(spec: JobSpec) -> bool:
    """Return whether the job reads variables from a file of the user."""
    return bool(spec.site.secrets_file and spec.site.pass_env)


def function_files(spec: JobSpec, *, allocation: bool, keeps_container: bool) -> list[str]:
    """Return the files of shell functions that the job calls, for ``functions`` of a template."""
    image = bool(images.importer(spec))
    site = spec.site
    needed = {
        "slurm/allocation": allocation,
        "retries": not allocation,
        "slurm/requeue": not allocation,
        "slurm/private": image or spec.resources.gpus_per_node > 0,
        "slurm/image": image,
        "slurm/containers": keeps_container,
        **dict.fromkeys((name.removeprefix("check_") for name in node_checks(spec)), True),
        "environment": bool(site.modules or site.project_dir),
        "secret_file": reads_secrets(spec),
        "slurm/meeting": spec.job_kind.distributed,
        "slurm/preflight": spec.checked,
    }

    return [*FUNCTIONS, *(name for name, is_needed in needed.items() if is_needed)]


def _image_values(spec: JobSpec) -> dict[str, object]:
    """Return the values for a job that imports its image."""
    return {
        "importer": images.importer(spec),
        "import_seconds": IMPORT_SECONDS,
        "image_address": images.address(spec),
        "image_name": images.file_name(spec),
        "image_is_fixed": images.is_fixed(spec),
    }


def render(spec: JobSpec, *, allocation: bool = False) -> str:
    """Return the whole script. It is deterministic, and contains only what ``spec`` says.

    It is for sbatch, or for bash in an ``allocation``, where one job does the work of an array's tasks.
    Raises UserError for anything that the site's container runtime cannot do.
    """
    refuse_unfit(spec)
    variables = environment(spec)
    # Another run in the allocation may need another image under the same name.
    keeps_container = images.keeps_container(spec) and not allocation

    return render_template(
        "slurm/script.sh.j2",
        payload_context(spec)
        | _image_values(spec)
        | {
            "allocation": allocation,
            "how": "slurm/allocation" if allocation else "slurm/batch",
            "function_files": function_files(spec, allocation=allocation, keeps_container=keeps_container),
            "directives": "" if allocation else Verbatim(directives(options_of(spec))),
            "at_warning": spec.job_kind.at_warning,
            "nodes": nodes_of(spec),
            "wanted_nodes": wanted_nodes(spec),
            "kill_seconds": KILL_SECONDS,
            "tasks": 0 if allocation else tasks(spec),
            "gpus": spec.resources.gpus_per_node > 0,
            "check": spec.checked,
            "core_kib": core_kib(spec),
            "environment": variables,
            "reads_secrets": reads_secrets(spec),
            "secrets_file": home_path(spec.site.secrets_file),
            "avoided": f"{spec.site.exclude}," if spec.site.exclude else "",
            "limit_seconds": seconds(spec.resources.time_limit),
            "retries": spec.retries,
            "answer_seconds": ANSWER_SECONDS,
            "fruitless_attempts": FRUITLESS_ATTEMPTS,
            "last_words_seconds": LAST_WORDS_SECONDS,
            "srun_options": srun_options(spec, variables, allocation=allocation),
            "container_command": container_command(spec, variables),
            "node_checks": node_checks(spec),
            "keeps_container": keeps_container,
        },
    )
