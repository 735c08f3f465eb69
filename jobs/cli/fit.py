"""``jobctl fit``: fit a scaling law to the user's own runs, for ``jobctl plan --fit``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.login import Login, is_here, login_in_force, output_of
from jobctl.jobs.cli.output import STANDARD_OUTPUT, emit, say, table, warn
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.extras import install_hint
from jobctl.jobs.core.reading import read_text_file

if TYPE_CHECKING:
    from jobctl.jobs.scaling.fitting import Fit, Point


@click.command("fit")
@click.argument("subjects", nargs=-1, required=True, metavar="RUN… | POINTS.csv…")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write the law for jobctl plan --fit; - prints it.",
)
@click.option(
    "--level",
    type=click.FloatRange(0.5, 0.999),
    default=0.9,
    show_default=True,
    help="Confidence level of the intervals.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=20),
    default=400,
    show_default=True,
    help="Resamples of the bootstrap.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--keep-outliers", is_flag=True, help="Also fit to outliers.")
@click.option(
    "--max-loss", type=float, help="Leave out points with a higher loss: trainings that have hardly begun."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fit_command(
    subjects: tuple[str, ...],
    output: Path | None,
    level: float,
    resamples: int,
    seed: int,
    keep_outliers: bool,
    max_loss: float | None,
    as_json: bool,
) -> None:
    """Fit L = E + A/N^alpha + B/D^beta to runs of this root, or to points of a CSV file."""
    runs = [word for word in subjects if not _is_file(word)]
    # Points alone are fitted here. Together with a run they are sent to the login node.
    if runs and (login := login_in_force({"subjects": runs})):
        _fit_there(login, subjects, output)
        return

    # Imported here, not at their use: so the message names the extra before any run is read.
    try:
        import numpy  # noqa: F401
        import scipy  # noqa: F401
    except ImportError as error:
        raise UserError(f"jobctl fit needs {error.name}", hint=install_hint("fit")) from None

    from jobctl.jobs.scaling.fitting import fit

    points = [point for subject in subjects for point in _points(subject)]
    if max_loss is not None:
        every = len(points)
        points = [point for point in points if point.loss <= max_loss]
        warn([f"{every - len(points)} of {every} points have a loss above {max_loss:g} and are not used"])

    made = fit(points, level=level, resamples=resamples, seed=seed, keep=keep_outliers)
    # If standard output gets the law, it gets nothing else.
    with contextlib.redirect_stdout(sys.stderr) if _is_printed(output) else contextlib.nullcontext():
        emit(_facts(made), as_json, _page(made))

    if output:
        _write(output, _law(made, subjects))


def _fit_there(login: Login, subjects: tuple[str, ...], output: Path | None) -> None:
    """Fit on the login node, which has the runs. The law becomes a file on this machine."""
    options = {"subjects": subjects}
    if output is None:
        click.echo(output_of(login, "fit", options, as_file=False), nl=False)
    else:
        _write(output, output_of(login, "fit", options))


def _is_printed(output: Path | None) -> bool:
    return str(output) == STANDARD_OUTPUT


def _is_file(subject: str) -> bool:
    return subject.endswith(".csv")


def _points(subject: str) -> list[Point]:
    """Return the points of a file, or the single point of a run."""
    from jobctl.jobs.scaling.points import parse_points

    if not _is_file(subject):
        return [_point_of_run(subject)]

    return parse_points(read_text_file(subject), subject)


def _point_of_run(name: str) -> Point:
    """Return size, tokens and loss of a run. The loss is its last validation, or else its last logged one."""
    from jobctl.jobs.catalog import arithmetic
    from jobctl.jobs.cli.finding import read_copy
    from jobctl.jobs.monitoring.figures import training_of
    from jobctl.jobs.monitoring.logfile import RunLog
    from jobctl.jobs.runs import store
    from jobctl.jobs.scaling.fitting import Point
    from jobctl.jobs.spec.job_spec import TrainSpec

    # A folder that `collect` made is not a run of the root.
    run = read_copy(name) if is_here(name) else store.read(root(), name)
    spec = run.record.edited_spec
    history = RunLog(run.path).read()
    training = training_of(run.path, history)
    if not isinstance(spec, TrainSpec) or training is None:
        raise UserError(f"run '{name}' is not a training", hint="jobctl list shows the runs")

    # The validation is a mean over many batches. A logged step is one batch.
    loss = training.validation_loss or training.last_loss
    if loss is None or not training.iterations:
        raise UserError(f"run '{name}' has not logged a loss yet", hint=f"jobctl wait {name}")

    return Point(
        parameters=arithmetic.parameters(spec.model),
        # The trained tokens count, not the planned ones: a run may have ended early. Its log counts the
        # samples, because an edit may have changed the batch meanwhile.
        tokens=history.tokens or training.iterations * spec.tokens_per_step,
        loss=loss,
        name=name,
    )


def _facts(made: Fit) -> dict[str, Any]:
    return {
        "values": made.values,
        "intervals": made.intervals,
        "level": made.level,
        "points": made.points,
        "scatter": made.scatter,
        "outliers": made.outliers,
    }


def _page(made: Fit) -> str:
    rows = [
        (name, f"{value:.5g}", f"{made.intervals[name][0]:.5g}", f"{made.intervals[name][1]:.5g}")
        for name, value in made.values.items()
    ]
    lines = [
        f"L = E + A / N^alpha + B / D^beta, {made.points} points; losses scatter by {made.scatter:.2%}",
        table(("", "VALUE", f"{made.level:.0%} FROM", "TO"), rows),
    ]

    if made.outliers:
        lines.append(f"{len(made.outliers)} points are far off:")
        lines += [f"  {name}" for name in made.outliers]

    return "\n".join(lines)


def _law(made: Fit, subjects: tuple[str, ...]) -> bytes:
    import yaml

    from jobctl.jobs.scaling.fitting import law_document

    text = yaml.safe_dump(law_document(made, " ".join(subjects)), sort_keys=False, allow_unicode=True)
    return text.encode()


def _write(output: Path, law: bytes) -> None:
    from jobctl.jobs.core.durable import write_named

    if _is_printed(output):
        click.echo(law, nl=False)
        return

    write_named(output, law)
    say(f"jobctl: {output} holds the law: jobctl plan --fit ./{output.name} --flops …", err=True)
