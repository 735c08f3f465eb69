"""The sbatch script of a job spec."""

from __future__ import annotations

from jobs.render import Verbatim, payload_context, render_template
from jobs.spec import JobSpec
from slurm.containers import container_command, container_options
from slurm.directives import directives


def options_of(spec: JobSpec) -> dict[str, str | int | bool | None]:
    """sbatch's options for ``spec``, by their long names; None and empty ones are left out."""
    site, resources = spec.site, spec.resources
    gpus = resources.gpus_per_node
    kind = f"{site.gpu_type}:{gpus}" if site.gpu_type else str(gpus)
    return {
        "job-name": spec.run or spec.run_prefix,
        "comment": f"jobctl:{site.root}/runs/{spec.run}" if spec.run else "jobctl",
        "nodes": resources.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": kind if gpus and site.gpu_request == "gpus-per-node" else None,
        "gres": f"gpu:{kind}" if gpus and site.gpu_request == "gres" else None,
        "cpus-per-task": site.cpus_per_task or None,
        "exclusive": site.exclusive,
        "mem": site.memory or None,
        "time": resources.time_limit,
        "signal": f"B:USR2@{resources.stop_grace_seconds}",
        "requeue": True,
        "open-mode": "append",
        "kill-on-invalid-dep": "yes",
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "reservation": site.reservation,
        "constraint": site.constraint,
        "nodelist": site.nodelist,
        "exclude": site.exclude,
        "mail-user": site.mail_user,
        "mail-type": site.mail_type if site.mail_user else None,
    }


def render(spec: JobSpec) -> str:
    """The whole script: deterministic, and nothing in it but what ``spec`` says."""
    return render_template(
        "slurm.sh.j2",
        payload_context(spec)
        | {
            "directives": Verbatim(directives(options_of(spec))),
            "nodes": spec.resources.nodes,
            "container_options": container_options(spec),
            "container_command": container_command(spec),
        },
    )
