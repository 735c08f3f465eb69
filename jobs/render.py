"""Turn a spec into text. Templates decide the form of a file.

Every value that they print passes through one quoting function.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from jobctl.jobs.catalog.schema import Expected
from jobctl.jobs.core import exit_codes, layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec

FABRIC = {"NCCL_DEBUG": "WARN"}
"""NCCL prints what is wrong. The trainer itself asks torch for records of collectives."""
TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


class Verbatim(str):
    """Text that is already quoted for its destination."""


def quote_shell(value: object) -> str:
    """Return ``value`` as exactly one word of POSIX shell, whatever it contains."""
    if isinstance(value, Verbatim):
        return value

    text = value if isinstance(value, str) else str(value)
    if "\0" in text:
        raise UserError(f"{text!r}: a NUL character cannot be passed to a process")

    return shlex.quote(text)


def in_quotes(text: str) -> Verbatim:
    """Return ``text`` as one word of POSIX shell, in quotes even if it is a command's name."""
    quoted = quote_shell(text)
    return Verbatim(quoted if quoted != text else f"'{text}'")


def quote_yaml(value: object) -> str:
    """Return ``value`` as one YAML scalar or flow collection. It is JSON, which YAML 1.2 contains."""
    if isinstance(value, Verbatim):
        return value

    text = json.dumps(value).replace(
        "\x7f", "\\u007f"
    )  # the one character that JSON may hold and YAML may not
    return _SURROGATES.sub(_one_character, text) if "\\ud" in text else text


_SURROGATES = re.compile(r"\\\\|\\u(d[89ab]..)\\u(d[c-f]..)")
"""A pair of escapes with which JSON writes a character beyond U+FFFF. YAML does not know such pairs.

The pattern also matches a backslash, to skip it.
"""


def _one_character(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[0]
    return f"\\U{0x10000 + ((int(match[1], 16) - 0xD800) << 10) + int(match[2], 16) - 0xDC00:08x}"


def _environment(quote: Callable[[object], str], folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        # A misspelt name must fail here, and not become an empty word in a script.
        undefined=jinja2.StrictUndefined,
        # Every printed value passes through this function, so no template can forget to quote.
        finalize=quote,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="{##",  # ${#ARRAY[@]} is bash
        comment_end_string="##}",
        auto_reload=False,
    )

    environment.filters["in_quotes"] = in_quotes
    environment.globals["functions"] = shell_functions
    environment.globals["every_script"] = EVERY_SCRIPT
    environment.globals["exit_codes"] = exit_codes

    return environment


@functools.cache
def _template(name: str, folder: Path) -> jinja2.Template:
    quote = quote_yaml if name.endswith(".yaml.j2") else quote_shell
    return _environment(quote, folder).get_template(name)


def render_template(name: str, context: dict[str, Any], *, folder: Path = TEMPLATES) -> str:
    """Return the template ``name`` with ``context``.

    An expression in it prints its value, quoted for that language. ``folder`` holds the templates of another
    package. They may include ours.
    """
    return _template(name, folder).render(context)


EVERY_SCRIPT = ("messages", "files", "exit_codes", "ownership", "record")
"""Files of shell functions that the scripts of all targets call."""


def shell_functions(*names: str) -> Verbatim:
    """Return the text of these files of shell functions, because a rendered script needs no other file.

    ``supervise`` is ``templates/shell/supervise.sh``, and ``slurm/nodes`` is ``templates/slurm/nodes.sh``.
    """
    return Verbatim("\n".join(_shell_file(name) for name in names))


@functools.cache
def _shell_file(name: str) -> str:
    folder = TEMPLATES if "/" in name else TEMPLATES / "shell"
    return (folder / f"{name}.sh").read_text(encoding="utf-8")


def trainer_flags(spec: TrainSpec) -> list[str]:
    """Return all flags of the model and the training. So a job does not need the image's catalogue."""
    settings = {**msgspec.structs.asdict(spec.model), **msgspec.structs.asdict(spec.train)}
    flags = [f"--{name}={value}" for name, value in settings.items()]

    # The user has allowed the edited settings. Any other difference is still refused.
    if spec.edited:
        flags.append(f"--allow_changes={','.join(spec.edited)}")

    return flags


def job_environment(spec: JobSpec) -> dict[str, str]:
    """Return the environment of the payload. The site's settings win."""
    gpu = spec.resources.gpus_per_node > 0
    # A folder called jobs or torch in the current directory is not the package (Python 3.11 and later).
    always = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    defaults = {"OMP_NUM_THREADS": "8" if gpu else "1", **always}
    if gpu:
        # Compiled training fragments the allocator's fixed segments until the memory is full.
        defaults["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"

    return {**defaults, **spec.site.env}


def gpu_environment(spec: JobSpec, cache: str) -> dict[str, str]:
    """Return the environment of a job with GPUs on a cluster.

    ``cache`` holds compiled kernels and outlives the job. The launcher of each node reads both names
    (``trainer/compile_cache``). The site's settings win.
    """
    kept = {"JOBCTL_CACHE": cache, "JOBCTL_CACHE_GIB": f"{spec.site.compile_cache_gib:g}"}
    return {**FABRIC, **kept, **job_environment(spec)}


def expected(spec: JobSpec) -> str:
    """Return, as JSON, the facts with which the preflight compares each node."""
    facts = spec.facts
    node = Expected(
        gpus=spec.resources.gpus_per_node,
        device=facts.device,
        compute_capability=facts.compute_capability,
        peak_tflops=facts.peak_tflops.get("bfloat16", 0.0),
        allreduce_gb_s=facts.allreduce_gb_s,
        allreduce_network_gb_s=facts.allreduce_network_gb_s,
    )

    return msgspec.json.encode(node).decode()


def _stop_file(spec: JobSpec) -> str:
    """Return the name of the job's STOP file. A job on a checkpoint has a separate one, beside a training."""
    return layout.stop_file(Path(), spec.step if spec.on_a_checkpoint else "").name


def payload_context(spec: JobSpec) -> dict[str, Any]:
    """Return the values that the template of every target needs."""
    context: dict[str, Any] = {
        "spec": spec,
        "title": Verbatim(spec.title),
        "root": spec.site.root,
        "record": spec.record(),
        "spec_hash": spec.fingerprint(),
        "trusted": spec.trusted or (),
        "environment": job_environment(spec),
        "dataset": f"{spec.inputs.dataset}-{spec.inputs.tokenizer}",
        "stop_file": _stop_file(spec),
        "check": False,
        "sweep": "",
        "launch": [f"--nnodes={spec.resources.nodes}", f"--nproc_per_node={spec.processes_per_node}"],
        "expected": expected(spec),
    }

    if isinstance(spec, TrainSpec):
        plan = msgspec.json.encode(spec.plan).decode() if spec.plan else ""
        return context | {"flags": trainer_flags(spec), "stage": spec.stage, "sweep": plan}

    return context | {"arguments": list(spec.arguments), "stage": ""}
