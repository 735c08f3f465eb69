"""Start a job from a spec.

Check its inputs, claim its run, write the record, and give it to the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec

from jobctl.jobs.catalog.loader import names
from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core import layout, tokenizer_files
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.datasets import dataset_folder, read_meta, tokenizer_folder, unknown_tokenizer
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.edits import lengthens, make_edit
from jobctl.jobs.runs.places import check_place
from jobctl.jobs.runs.store import Run
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec
from jobctl.jobs.supplies import is_on_the_hub, mirror_is_whole
from jobctl.jobs.targets.directory import DirectoryStore
from jobctl.jobs.targets.machine import check_machine
from jobctl.jobs.targets.protocol import RecordKeeper, RunStore
from jobctl.jobs.targets.registry import load_target, target_entry


def prepared(spec: JobSpec) -> Path | None:
    """Return the data set, text or tokenizer that a job would make, if it is already complete."""
    if not target_entry(spec.target).shares_files:
        return None

    if spec.job_kind.makes == "text":
        folder = layout.source_dir(Path(spec.site.root), spec.inputs.dataset)
        return folder if mirror_is_whole(folder) else None

    last_files = {
        "data set": dataset_folder(spec) / "meta.json",
        "tokenizer": tokenizer_folder(spec) / tokenizer_files.FILE,
    }
    last = last_files.get(spec.job_kind.makes)

    return last.parent if last is not None and last.is_file() else None


def check_inputs(spec: JobSpec) -> None:
    """Raise UserError if the text is unknown, or the data set is missing or has another tokenizer.

    A job that waits for another job is not checked, because that job may be making the data set.
    """
    if spec.after or not target_entry(spec.target).shares_files:
        return

    if spec.job_kind.makes == "data set":
        _check_text(spec)
        _check_tokenizer(spec)

    if not isinstance(spec, TrainSpec):
        return

    folder = dataset_folder(spec)
    make = f"make it: jobctl submit prep --dataset {spec.inputs.dataset} --tokenizer {spec.inputs.tokenizer}"

    try:
        meta = read_meta(folder)
    except FileNotFoundError:
        raise UserError(f"no data set in {folder}", hint=make) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(f"{folder / 'meta.json'}: {error}", hint=make) from None

    if meta.vocab_size > spec.model.vocab_size:
        raise UserError(
            f"{folder} has ids up to {meta.vocab_size - 1}, but {spec.model_name} has {spec.model.vocab_size} "
            "rows in its embedding",
            hint="take the data set of the model's own tokenizer",
        )


def _check_text(spec: JobSpec) -> None:
    name = spec.inputs.dataset
    folder = layout.source_dir(Path(spec.site.root), name)
    has_source = any(argument.partition("=")[0] == "--source" for argument in spec.arguments)
    if not (has_source or folder.is_dir() or name in names("datasets")):
        raise UserError(
            f"no data set '{name}': the catalogue does not know it, and {folder} does not exist",
            hint=f"{nearest(name, names('datasets'))}; or for text of your own: -- --source=FOLDER",
        )

    if not has_source and not folder.is_dir() and is_on_the_hub(name):
        raise UserError(
            f"the text of {name} is not in {folder}", hint=f"fetch it: jobctl submit mirror --dataset {name}"
        )


def _check_tokenizer(spec: JobSpec) -> None:
    """Raise UserError for an unknown tokenizer.

    A known one is in the catalogue, was made under the root, or is a folder.
    """
    made = tokenizer_folder(spec)
    if spec.inputs.tokenizer not in names("tokenizers") and not made.is_dir() and not spec.tokenizer_folder:
        raise unknown_tokenizer(spec)


def check_tokenizer_folder(spec: JobSpec) -> None:
    """Raise UserError if the folder's name is taken.

    The root then has another tokenizer, or ids of another tokenizer, under that name.
    """
    given = spec.tokenizer_folder
    if not given or not target_entry(spec.target).shares_files:
        return

    rename = f"rename the folder {given.folder}, or remove the other one"
    made = tokenizer_folder(spec)
    if (made / tokenizer_files.FILE).is_file() and tokenizer_files.sha256_of(made) != given.sha256:
        raise UserError(f"{made} is another tokenizer of the same name", hint=rename)

    try:
        meta = read_meta(dataset_folder(spec))
    except (OSError, msgspec.MsgspecError):
        # No data set exists yet, or `check_inputs` refuses it.
        return

    if meta.tokenizer.sha256 not in ("", given.sha256):
        raise UserError(
            f"{dataset_folder(spec)} was made with another tokenizer of the same name", hint=rename
        )


def load_store(target: str, site: Site, home: Path) -> RunStore:
    """Return the store of the runs of ``target``: the cluster of ``site``, or the root ``home``."""
    scheduler = load_target(target)
    if target_entry(target).keeps_records:
        return cast(RecordKeeper, scheduler).store(site, home)
    return DirectoryStore(home, scheduler)


def store_of(run: Run) -> RunStore:
    """Return the store that keeps ``run``."""
    return load_store(run.target, run.record.spec.site, run.path.parent.parent)


def store_for(spec: JobSpec, home: Path) -> RunStore:
    """Return the store that will keep the run of ``spec``. ``home`` is the root of this host."""
    shared = target_entry(spec.target).shares_files
    return load_store(spec.target, spec.site, Path(spec.site.root) if shared else home)


def submit(spec: JobSpec) -> tuple[Run, str]:
    """Start ``spec``, whose run has a name, under its root. Return the run and the scheduler's job id."""
    started = store_for(spec, Path(spec.site.root)).start(spec)
    return started.run, started.job_id


def start_step(spec: JobSpec, home: Path) -> str:
    """Start ``spec``, or resume its run if an earlier attempt has ended. Return the job id.

    Raises UserError if its run belongs to another job, or is alive.
    """
    assert spec.name is not None
    # A job on a checkpoint shares the directory of its run, so its record does not show an earlier attempt.
    store = store_for(spec, home)
    run = None if spec.on_a_checkpoint else store.find(spec.name)
    if run is None:
        return store.start(spec).job_id

    if target_entry(spec.target).keeps_records:
        # The cluster compares the settings itself, and answers for a job that is alive.
        # start finds a job that is alive or has finished, and makes no other one.
        resumable = store.state(spec) in runs.ENDED - {"finished"}
        return store.resume(run) if resumable else store.start(spec).job_id

    if run.record.spec.fingerprint() != spec.fingerprint():
        raise UserError(f"run '{spec.run}' was made with other settings", hint="choose another name: --run")

    return resume_run(run, spec.trusted or ())[1]


def is_done(spec: JobSpec, home: Path) -> bool:
    """Return whether the product of ``spec`` exists, as far as this host or the cluster sees it."""
    return prepared(spec) is not None or store_for(spec, home).state(spec) == "finished"


def resume(root: Path, name: str, trusted: Sequence[str] = ()) -> tuple[Run, str]:
    """Do the same as ``resume_run`` for the run called ``name`` under ``root``."""
    return resume_run(runs.read(root, name), trusted)


def resume_run(run: Run, trusted: Sequence[str] = (), sets: Sequence[str] = ()) -> tuple[Run, str]:
    """Start another attempt of an ended run. From now on it has the settings ``sets`` (``KEY=VALUE``).

    Return the run and the job id. Raises UserError while the run is alive, or if it is finished and not made
    longer. Raises it also if another user resumes the run at this moment, or if a setting is impossible.
    Raises it also if the run's owner is not among the ``trusted``, or if its directory was copied or renamed.
    """
    spec = run.record.edited_spec
    # Check this before the scheduler is asked: its answer would be about the run of that name.
    check_place(run)
    edit = make_edit(spec, sets, run.last.attempt if run.last else 0) if sets else None
    # Ask the scheduler and not the record: a record may lack the end of an attempt that was killed.
    (status,) = load_target(run.target).statuses([run])
    if status.state == "finished" and not (edit and lengthens(spec, edit)):
        raise UserError(
            f"run '{run.name}' has finished: nothing to resume",
            hint=f"jobctl resume {run.name} --set max_iters=N makes a training longer",
            code=1,
        )

    if status.state not in runs.ENDED:
        job = f" (job {status.job_id})" if status.job_id else ""
        raise UserError(
            f"run '{run.name}' is {status.state}{job}",
            hint=f"jobctl wait {run.name}",
            code=1,
        )

    # Accept less memory: the run was once submitted for this machine, and a resume does not ask again.
    check_machine(spec, force=True)

    return run, store_of(run).resume(run, trusted, edit)
