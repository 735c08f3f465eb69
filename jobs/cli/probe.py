"""``jobctl probe``: measure the speed of this machine, and keep it in the root for ``jobctl estimate``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import msgspec

from jobctl.jobs.catalog.devices import is_device
from jobctl.jobs.catalog.entries import Probe
from jobctl.jobs.catalog.loader import load_hardware, names
from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.estimating import probes_dir
from jobctl.jobs.cli.output import emit
from jobctl.jobs.core.durable import make_shared, write_whole
from jobctl.jobs.core.errors import UserError


@click.command("probe")
@click.option("--hardware", metavar="NAME", help="Hardware entry of the figures.  [default: by the device]")
@click.option("--site", metavar="NAME", help="Site; its root keeps the figures.")
@click.option(
    "--python", metavar="FILE", help="Python interpreter with torch.  [default: $JOBCTL_PYTHON or jobctl's]"
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.01),
    default=1.0,
    show_default=True,
    help="Seconds for each operation.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def probe_command(
    hardware: str | None, site: str | None, python: str | None, seconds: float, as_json: bool
) -> None:
    """Measure products, attention and copies. Run it on the machine that will train; it takes a minute at most."""
    text = _measured(python or os.environ.get("JOBCTL_PYTHON") or sys.executable, seconds)
    try:
        probe = msgspec.json.decode(text, type=Probe)
    except msgspec.MsgspecError as error:
        raise UserError(f"the probe printed no figures: {error}", code=1) from None

    name = hardware or hardware_of(probe)
    # This refuses a name that no estimate would use.
    load_hardware(name)
    file = probes_dir(root(site)) / f"{name}.json"
    # Other users of the root also probe their machines.
    make_shared(file.parent)
    # An estimate may read the file at the same time.
    write_whole(file, text)
    emit({"hardware": name, "file": str(file), "probe": probe}, as_json, _page(name, file, probe))


def _measured(python: str, seconds: float) -> bytes:
    """Return the output of the probe. It runs in a separate process, because jobctl has no torch."""
    command = [python, "-m", "jobctl.trainer.probe", f"--seconds={seconds}"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"{python}: {error.strerror}", hint="--python FILE") from None

    if done.returncode:
        # The last line of a traceback has the error.
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
        # A message of the probe itself says what to do. Any other line comes from a Python that could not start it.
        needs = "it needs torch: name a Python interpreter that has torch with --python FILE"
        hint = "" if last[0].startswith("probe: ") else needs
        raise UserError(f"the probe failed with exit code {done.returncode}: {last[0]}", hint=hint, code=1)

    return done.stdout


def hardware_of(probe: Probe) -> str:
    """Return the catalogue's name of the device of a probe.

    Raises UserError for a GPU that the catalogue does not know: its figures are not those of a CPU.
    """
    for name in names("hardware"):
        if is_device(load_hardware(name).facts.device, probe.device):
            return name

    if probe.on_gpu:
        raise UserError(
            f"the catalogue does not know the GPU {probe.device}",
            hint="keep its figures under the nearest name: --hardware NAME (jobctl catalog list hardware)",
            code=1,
        )

    return "cpu"


def _page(name: str, file: Path, probe: Probe) -> str:
    lines = [f"{probe.device}, kept as {name} in {file}"]
    lines += [f"  product {sizes}: {rate:.4g} TFLOP/s" for sizes, rate in probe.product_tflops.items()]
    lines += [f"  float8 {sizes}: {rate:.4g} TFLOP/s" for sizes, rate in probe.float8_tflops.items()]
    lines.append(f"  attention, forward and backward: {probe.attention_tflops:.4g} TFLOP/s")
    lines += [f"  copy of {int(size):,} bytes: {rate:.4g} TB/s" for size, rate in probe.copy_tb_s.items()]
    return "\n".join(lines)
