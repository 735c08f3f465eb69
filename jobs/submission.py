"""From a spec to a started job: check what it reads, claim its run, write the record, hand it to the target."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.catalog.loader import names
from jobctl.jobs.core import exit_codes, layout
from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.reading import read_regular
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.store import Run, Started
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec
from jobctl.jobs.spec.patch import ship
from jobctl.jobs.spec.recorded import recorded_spec
from jobctl.jobs.targets import target
from jobctl.jobs.targets.protocol import Remote

ON_THIS_FILE_SYSTEM = ("local", "slurm", "docker")
"""Targets whose shared root the submitting host sees under the same path."""
CLUSTERS = ("k8s", "k8s-trainjob")
"""Targets that keep the record of a run themselves; what lies under this host's root only says where."""


class _Meta(msgspec.Struct):
    """What a submission asks of a data set's ``meta.json``."""

    vocab_size: int


def _dataset(spec: JobSpec) -> Path:
    return layout.dataset_dir(Path(spec.site.root), spec.inputs.dataset, spec.inputs.tokenizer)


def prepared(spec: JobSpec) -> Path | None:
    """The data set or the tokenizer that a job would make, where it is complete already."""
    if spec.target not in ON_THIS_FILE_SYSTEM:
        return None
    tokenizer = layout.tokenizer_dir(Path(spec.site.root), spec.inputs.tokenizer)
    made = {"prep": _dataset(spec) / "meta.json", "tokenizer": tokenizer / "tokenizer.json"}.get(spec.kind)
    return made.parent if made is not None and made.is_file() else None


def check_inputs(spec: JobSpec) -> None:
    """Raises UserError when the text is not known, or the data set absent or another tokenizer's.

    A job that waits for another one is not checked: that one may be making the data set.
    """
    if spec.after or spec.target not in ON_THIS_FILE_SYSTEM:
        return
    if spec.kind == "prep":
        _check_text(spec)
    if not isinstance(spec, TrainSpec):
        return
    folder = _dataset(spec)
    make = f"make it: jobctl submit prep --dataset {spec.inputs.dataset} --tokenizer {spec.inputs.tokenizer}"
    try:
        meta = msgspec.json.decode(read_regular(folder / "meta.json"), type=_Meta)
    except FileNotFoundError:
        raise UserError(f"no data set in {folder}", hint=make) from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / 'meta.json'}: {error}", hint=make) from None
    if meta.vocab_size > spec.model.vocab_size:
        raise UserError(
            f"{folder} has ids up to {meta.vocab_size - 1}, but {spec.model_name} has {spec.model.vocab_size} "
            "rows in its embedding",
            hint="take the data set of the model's own tokenizer",
        )


def _check_text(spec: JobSpec) -> None:
    name = spec.inputs.dataset
    here = layout.source_dir(Path(spec.site.root), name)
    own = any(argument.partition("=")[0] == "--source" for argument in spec.arguments)
    if not (own or here.is_dir() or name in names("datasets")):
        raise UserError(
            f"no data set '{name}': the catalogue does not know it, and {here} does not exist",
            hint=f"{nearest(name, names('datasets'))}; or for text of your own: -- --source=FOLDER",
        )


def submit(spec: JobSpec) -> tuple[Run, str]:
    """Start ``spec``, whose run is named; the run, and the scheduler's job id.

    Of several submissions of one name at once, one wins. Nothing stays behind when the scheduler refuses.
    """
    assert spec.run is not None
    root, name = Path(spec.site.root), spec.run
    if spec.on_a_checkpoint:
        return _submit_on(runs.read(root, name).path, spec)
    spec = _with_code(spec, layout.code_dir(layout.run_dir(root, name)))
    place = target(spec.target)
    script = place.render(spec)
    path = runs.claim(root, name)
    try:
        _ship_code(spec)
        runs.write_submission(path, spec, script)
        run = runs.read(root, name)
        return run, place.submit(run, layout.script_file(path), spec.after)
    except BaseException:
        runs.release(path)
        raise


def _with_code(spec: JobSpec, folder: Path) -> JobSpec:
    """Of a patched job: the one that takes its code from ``folder``."""
    if not spec.patch:
        return spec
    return msgspec.structs.replace(spec, site=msgspec.structs.replace(spec.site, project_dir=str(folder)))


def _ship_code(spec: JobSpec) -> None:
    if spec.patch:
        ship(Path(spec.patch.tree), Path(spec.site.project_dir))


def submit_remotely(place: Remote, spec: JobSpec, home: Path) -> tuple[Run, Started]:
    """Start ``spec`` where the cluster keeps the record, and note under ``home`` which cluster that is.

    Submitting the same again changes nothing.
    """
    assert spec.run is not None
    path = layout.run_dir(home, spec.run)
    if (there := layout.record_file(path)).is_file() and runs.read(home, spec.run).target not in CLUSTERS:
        raise UserError(f"run '{spec.run}' exists: {there.parent}", hint="take another name: --run")
    started = place.start(spec)
    if started.new and not spec.on_a_checkpoint:
        runs.write_submission(path, started.spec, started.script)
    elif path.is_dir():
        write_whole(layout.script_file(path, spec.step), started.script.encode())
    name = layout.job_name(spec.run, spec.step)
    return Run(name, path, json.loads(started.spec.record()), ()), started


def _submit_on(path: Path, spec: JobSpec) -> tuple[Run, str]:
    """Start ``spec``, which reads the checkpoint of the run in ``path``."""
    runs.check_ours(path, spec.trusted or ())
    spec = _with_code(spec, layout.code_dir(path, spec.step))
    script = target(spec.target).render(spec)
    _ship_code(spec)
    file = layout.script_file(path, spec.step)
    new = not file.exists()
    write_whole(file, script.encode())
    runs.write_record(path, spec, spec.step)
    try:
        run = runs.read(path.parent.parent, layout.job_name(path.name, spec.step))
        return run, target(spec.target).submit(run, file, spec.after)
    except BaseException:
        if new:
            file.unlink()
            layout.record_file(path, spec.step).unlink()
        raise


def start_step(spec: JobSpec, home: Path) -> str:
    """Start ``spec``, or go on with it where an earlier attempt at the same run ended; the job id.

    Raises UserError where its run is another job's, or is alive.
    """
    assert spec.run is not None
    place = target(spec.target)
    if isinstance(place, Remote):
        return _start_remotely(place, spec, home)
    root = Path(spec.site.root)
    if spec.on_a_checkpoint or not layout.record_file(layout.run_dir(root, spec.run)).is_file():
        return submit(spec)[1]
    run = runs.read(root, spec.run)
    if run.record.get("spec_hash") != spec.fingerprint():
        raise UserError(f"run '{spec.run}' was made with other settings", hint="take another name: --run")
    return resume_run(run, spec.trusted or ())[1]


def _start_remotely(place: Remote, spec: JobSpec, home: Path) -> str:
    if not spec.on_a_checkpoint and place.state(spec) in runs.ENDED - {"finished"}:
        run = place.find(spec.site, str(spec.run))
        if run is not None:
            return place.resume(run)
    return submit_remotely(place, spec, home)[1].job_id


def is_done(spec: JobSpec) -> bool:
    """Whether what ``spec`` makes is there, as far as this host or the cluster sees it."""
    if prepared(spec):
        return True
    place = target(spec.target)
    if isinstance(place, Remote):
        return place.state(spec) == "finished"
    root = Path(spec.site.root)
    if spec.name is None or not runs.is_submitted(root, spec.name):
        return False
    mine = {attempt.task: attempt for attempt in runs.read(root, spec.name).attempts}
    return bool(mine) and all(attempt.exit_code == exit_codes.EXIT_FINISHED for attempt in mine.values())


def resume(root: Path, name: str, trusted: Sequence[str] = ()) -> tuple[Run, str]:
    """``resume_run`` of the run called ``name`` under ``root``."""
    return resume_run(runs.read(root, name), trusted)


def resume_run(run: Run, trusted: Sequence[str] = ()) -> tuple[Run, str]:
    """Start another attempt of an ended run, by a script that is rendered anew from the run's record.

    The script that lies in the run directory is not executed: someone else may have written it. Raises UserError
    while the run is alive, when it is finished, when someone else resumes it at this moment, and where it belongs
    to someone who is not among the ``trusted``.
    """
    name, place = run.name, target(run.target)
    (status,) = place.statuses([run])
    if status.state == "finished":
        raise UserError(f"run '{name}' has finished; there is nothing to go on with", code=1)
    if status.state not in runs.ENDED:
        raise UserError(
            f"run '{name}' is {status.state} (job {status.job_id or '?'})", hint=f"jobctl wait {name}", code=1
        )
    if isinstance(place, Remote):
        return run, place.resume(run)
    runs.check_ours(run.path, trusted)
    spec = recorded_spec(name, _record_to_resume(run), trusted)
    claim = run.path / "attempts" / ".resuming"
    busy = UserError(f"run '{name}' is being resumed by someone else", hint=f"jobctl status {name}", code=1)
    try:
        claim.mkdir()
    except FileExistsError:
        raise busy from None
    try:
        now = runs.read_again(run)
        if len(now.attempts) != len(run.attempts) or place.statuses([now])[0].state not in runs.ENDED:
            raise busy
        script = layout.script_file(run.path, run.step)
        write_whole(script, place.render(spec).encode())
        return now, place.submit(now, script, () if run.step else spec.after)
    finally:
        claim.rmdir()


def _record_to_resume(run: Run) -> dict[str, Any]:
    """Return what ``run`` was submitted as. Raises UserError for a step whose record is not there."""
    if run.step and not layout.record_file(run.path, run.step).is_file():
        raise UserError(
            f"{run.name} was not submitted by this jobctl, so there is no record to go on with",
            hint=f"submit it again: jobctl submit {run.step} --run {run.path.name} …",
            code=1,
        )
    return run.record
