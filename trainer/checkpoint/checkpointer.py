"""Saves checkpoints of a run in the background, and resumes from the newest one that is whole."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.checkpoint.contents import TABLE_FILE, Contents, read_contents_together
from jobctl.trainer.checkpoint.integrity import CHECKSUMS_FILE, Damaged, encode_checksums
from jobctl.trainer.checkpoint.plan import divide_into_files, share_of_rank
from jobctl.trainer.checkpoint.reader import read_tensors_into
from jobctl.trainer.checkpoint.staging import Snapshot
from jobctl.trainer.checkpoint.state import STATE_FILE, State
from jobctl.trainer.checkpoint.table import DTYPE_NAMES, Segment, Table, TensorEntry
from jobctl.trainer.checkpoint.writer import write_files
from jobctl.trainer.distributed import World

log = logging.getLogger(__name__)

STREAMS_PER_NODE = 16
STREAMS_PER_RANK = 8
"""Files that a rank writes at once, at most; there are fewer where many ranks share a node."""
OPTIONAL = "guard."
"""Tensors with this prefix are new in some run: where a checkpoint has none, they stay as they are."""

Written = list[tuple[str, Segment]]


class Checkpointer:
    """Saves in the background and loads.

    ``tensors`` returns the live tensors by name: the same names, types and shapes on every rank.
    """

    def __init__(
        self,
        run: Path,
        world: World,
        tensors: Callable[[], dict[str, torch.Tensor]],
        keep_last: int,
        keep_every: int,
    ) -> None:
        self.run = run
        self.world = world
        self.tensors = tensors
        self.keep_last = keep_last
        self.keep_every = keep_every
        self.on_saved: Callable[[int, Path], None] = lambda step, path: None
        self._thread: threading.Thread | None = None
        self._saved = True

    def claim(self) -> None:
        """From now on this attempt alone writes checkpoints here; remove what a killed one was writing."""
        if self.world.is_main:
            publication.clear_leftovers(self.run)
        self.world.barrier()

    # -- saving

    def save(self, state: State, best: bool = False) -> None:
        """Copy everything now, and write it while training goes on. Waits for the save before."""
        self.wait()
        tensors = self.tensors()
        share = share_of_rank(tensors, self.world.rank, self.world.size)
        entries = {
            name: TensorEntry(DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), ())
            for name, tensor in tensors.items()
        }
        job = Save(state, best, entries, Snapshot(tensors, share))

        self._saved = False
        self._thread = threading.Thread(target=self._write, args=(job,), name="checkpoint")
        self._thread.start()

    def wait(self) -> bool:
        """Wait for the save under way; whether the last one succeeded."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self._saved

    def _write(self, job: Save) -> None:
        """The background thread. A save that fails, or that a rank no longer takes part in, is only a warning."""
        try:
            self._saved = self._write_and_publish(job)
        except Exception as failure:
            log.warning(
                "checkpoint of step %d FAILED, training goes on: %s", job.state.step, describe(failure)
            )

    def _write_and_publish(self, job: Save) -> bool:
        """All ranks write, rank 0 publishes; whether the checkpoint exists."""
        temporary = publication.temporary_folder(self.run, job.state.step)
        error = ""
        written: Written = []
        try:
            files = divide_into_files(job.snapshot.copies, streams())
            written = write_files(temporary, self.world.rank, files, job.snapshot.source)
        except BaseException as failure:
            error = describe(failure)

        # Every rank comes here, also after a failure: the others wait for its word.
        outcomes = self.world.gathered((error, written), group=self.world.saving)
        if self.world.is_main:
            error = "; ".join(sorted({problem for problem, _ in outcomes if problem}))
            error = error or self._publish(job, [segment for _, part in outcomes for segment in part])
            if error:
                shutil.rmtree(temporary, ignore_errors=True)
                log.warning("checkpoint of step %d FAILED, training goes on: %s", job.state.step, error)
        return not self.world.gathered(error, group=self.world.saving)[0]

    def _publish(self, job: Save, written: Written) -> str:
        """Rank 0's part; returns what went wrong."""
        step = job.state.step
        try:
            write_small_files(publication.temporary_folder(self.run, step), job, written)
            publication.publish(self.run, step, job.best)
            publication.prune(self.run, self.keep_last, self.keep_every)
            self.on_saved(step, publication.folder(self.run, step))
        except Exception as failure:
            return describe(failure)
        return ""

    # -- loading

    def resume(self, check: Callable[[State], None], set_aside: bool = True) -> State | None:
        """Fill the live tensors from the newest undamaged checkpoint, and return its state.

        Whatever layout wrote it. ``check`` raises UserError where the checkpoint is not this run's. A damaged
        checkpoint is passed over, loudly, and with ``set_aside`` loses its name. None where no whole one
        exists. Every rank returns and raises the same.
        """
        tensors = {name: tensor.detach() for name, tensor in self.tensors().items()}
        fresh = {name: tensor.clone() for name, tensor in tensors.items() if name.startswith(OPTIONAL)}

        for step in self.world.from_main(publication.candidates(self.run)):
            path = publication.folder(self.run, step)
            try:
                contents = read_contents_together(self.world, path)
                check(contents.state)
                self._load(contents, tensors, fresh)
                return contents.state
            except Damaged as damage:
                if self.world.is_main:
                    self._pass_over(step, damage, set_aside)
                self.world.barrier()
        return None

    def _load(
        self, contents: Contents, tensors: dict[str, torch.Tensor], fresh: dict[str, torch.Tensor]
    ) -> None:
        """Raises Damaged on every rank where one of them has read a wrong byte."""
        check_names_and_shapes(contents, tensors)
        for name, value in fresh.items():  # a damaged checkpoint may have been loaded before
            tensors[name].copy_(value)

        stored = {name: tensor for name, tensor in tensors.items() if name in contents.table.tensors}
        problems = read_tensors_into(contents.folder, contents.table, stored)
        gathered = self.world.gathered(problems)
        if any(gathered):
            raise Damaged(sorted({line for lines in gathered for line in lines}))

    def _pass_over(self, step: int, damage: Damaged, set_aside: bool) -> None:
        path = publication.folder(self.run, step)
        aside = ""
        if set_aside:
            aside = f"; it is now {publication.set_aside(self.run, step).name}"
        log.warning("CHECKPOINT %s IS DAMAGED, trying the one before%s: %s", path, aside, damage)


class Save:
    """One checkpoint on its way to the disk."""

    def __init__(self, state: State, best: bool, entries: dict[str, TensorEntry], snapshot: Snapshot) -> None:
        self.state = state
        self.best = best
        self.entries = entries
        """Every tensor of the checkpoint, without its segments."""
        self.snapshot = snapshot


def streams() -> int:
    """Files that this rank writes at once."""
    ranks_of_node = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(STREAMS_PER_RANK, STREAMS_PER_NODE // ranks_of_node))


def write_small_files(folder: Path, job: Save, written: Written) -> None:
    """Write table, state and checksums, durable on return; the data files of all ranks are written already."""
    segments: dict[str, list[Segment]] = {name: [] for name in job.entries}
    for name, segment in written:
        segments[name].append(segment)
    table = Table(
        {
            name: msgspec.structs.replace(entry, segments=tuple(segments[name]))
            for name, entry in job.entries.items()
        }
    )

    small_files = {TABLE_FILE: msgspec.json.encode(table), STATE_FILE: msgspec.json.encode(job.state)}
    for name, data in small_files.items():
        write_whole(folder / name, data)

    data_files = {segment.file for _, segment in written}
    sizes = {name: (folder / name).stat().st_size for name in data_files}
    write_whole(folder / CHECKSUMS_FILE, encode_checksums(small_files, sizes))


def check_names_and_shapes(contents: Contents, tensors: dict[str, torch.Tensor]) -> None:
    """Raise UserError where the checkpoint does not hold the tensors that the run has."""
    stored = contents.table.tensors
    missing = [name for name in tensors if name not in stored and not name.startswith(OPTIONAL)]
    if missing:
        raise UserError(
            f"checkpoint {contents.folder} has no {missing[0]} (and {len(missing) - 1} more are missing)"
        )

    for name, tensor in tensors.items():
        if name in stored and stored[name].shape != tuple(tensor.shape):
            raise UserError(
                f"checkpoint {contents.folder}: {name} has shape {list(stored[name].shape)}, "
                f"this run's has {list(tensor.shape)}"
            )


def describe(error: BaseException) -> str:
    """One line that says what went wrong: the error that others came from."""
    while not isinstance(error, OSError) and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return f"{type(error).__name__}: {error}"
