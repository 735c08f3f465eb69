"""Save checkpoints of a run in the background, one at a time, and resume from the newest whole one."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from jobctl.jobs.catalog.schema import CheckpointWhenBusy
from jobctl.trainer.checkpoint import host_memory, publication, resuming
from jobctl.trainer.checkpoint.plan import Rows, divide_into_files, share_of_rank
from jobctl.trainer.checkpoint.save import (
    Begun,
    Holds,
    Report,
    Save,
    Written,
    describe,
    entries_of,
    select,
    streams,
    write_small_files,
)
from jobctl.trainer.checkpoint.staging import Snapshot, Staging, bytes_needed
from jobctl.trainer.checkpoint.state import State
from jobctl.trainer.checkpoint.writer import write_files
from jobctl.trainer.distributed import World

log = logging.getLogger(__name__)


class Checkpointer:
    """Save in the background, and load.

    ``tensors`` returns the live tensors by name, with the same names, types and shapes on every rank.
    ``when_busy`` decides about a save that is due while another one is being written. ``memory_budget`` is
    the host memory in bytes that this rank may keep; None asks the host. ``beat`` is called for each piece
    that was read or written, so that slow storage is not taken for a hang.
    """

    def __init__(
        self,
        run: Path,
        world: World,
        tensors: Callable[[], dict[str, torch.Tensor]],
        keep_last: int,
        keep_every: int,
        when_busy: CheckpointWhenBusy = "wait",
        memory_budget: int | None = None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.run = run
        self.world = world
        self.tensors = tensors
        self.keep_last = keep_last
        self.keep_every = keep_every
        self.when_busy = when_busy
        self.memory_budget = memory_budget
        self.beat = beat
        self.on_saved: Callable[[Report], None] = lambda report: None
        # Taken late: an evaluation saves nothing, and needs no memory for copies.
        self._staging: Staging | None = None
        self._thread: threading.Thread | None = None
        self._current: Save | None = None
        self._saved = True

    def claim(self) -> None:
        """Make this attempt the only writer of checkpoints here.

        Remove the unfinished files of a killed attempt.

        Also begin to take the memory for the first save.
        """
        if self.world.is_main:
            publication.clear_leftovers(self.run)

        # No rank may write before rank 0 has cleared: it would lose its files.
        self.world.barrier()
        # Taking the memory is slow, so it begins now and not at the first save.
        self.staging()

    def staging(self) -> Staging:
        """Return the memory for copies. It is taken at the first call."""
        if self._staging is None:
            needed = bytes_needed(self._share(self.tensors()))
            budget = host_memory.budget() if self.memory_budget is None else self.memory_budget
            self._staging = Staging(self.world.device, needed, budget)

        return self._staging

    def _share(self, tensors: dict[str, torch.Tensor]) -> list[Rows]:
        return share_of_rank(tensors, self.world.rank, self.world.size)

    # -- saving

    def save(
        self, state: State, *, holds: Holds = "everything", best: bool = False, must: bool = True
    ) -> Begun:
        """Copy everything now, and write it while training continues.

        If another save is still being written, a save that ``must`` be made waits for it. For any other save
        ``when_busy`` decides. All ranks decide the same.
        """
        # Storage can be slow for one rank only. All ranks must skip or wait together.
        busy = self.world.any(self._thread is not None and self._thread.is_alive())
        writing = time.perf_counter() - self._current.begun if busy and self._current else 0.0
        if busy and not must and self.when_busy == "skip":
            self._say_skipped(state.step, holds, writing)
            return Begun(skipped=True, writing_seconds=writing)

        # The memory for copies holds one save. The next one may begin when the last one is written.
        begun = time.perf_counter()
        self.wait()
        waited = time.perf_counter() - begun if busy else 0.0
        if busy and self.world.is_main and self._current:
            log.warning(
                "training waited %.1f s at step %d, for storage took %.1f s to write the checkpoint of step %d",
                waited,
                state.step,
                writing + waited,
                self._current.state.step,
            )

        self._begin(state, holds, best, waited)

        return Begun(skipped=False, writing_seconds=writing, waited_seconds=waited)

    def _say_skipped(self, step: int, holds: Holds, writing: float) -> None:
        if self.world.is_main and self._current:
            log.warning(
                "%s of step %d SKIPPED: storage has taken %.1f s so far to write the checkpoint of step %d "
                "(to wait for it: --checkpoint_when_busy=wait)",
                "checkpoint" if holds == "everything" else "best weights",
                step,
                writing,
                self._current.state.step,
            )

    def _begin(self, state: State, holds: Holds, best: bool, waited: float) -> None:
        """Copy the tensors, and start the thread that writes them."""
        begun = time.perf_counter()
        tensors = select(self.tensors(), holds)
        share = self._share(tensors)
        # Weights alone have a name of their own, so that no resume takes them for a checkpoint.
        folder = publication.folder if holds == "everything" else publication.weights_folder
        save = Save(
            state=state,
            holds=holds,
            best=best,
            final=folder(self.run, state.step),
            entries=entries_of(tensors),
            share=share,
            snapshot=self.staging().snapshot(tensors, share),
            begun=begun,
            waited_seconds=waited,
        )

        # Until the thread says otherwise. If it dies, the answer must not be that of the save before.
        self._saved = False
        self._current = save
        self._thread = threading.Thread(target=self._write, args=(save,), name="checkpoint")

        # Live tensors have no room for a copy: the thread writes them directly, and training waits for it.
        if save.snapshot.live:
            self._thread.start()
            save.copied.wait()

        save.pause_seconds = time.perf_counter() - begun
        if not save.snapshot.live:
            self._thread.start()

    def wait(self) -> bool:
        """Wait for the present save. Return True if the last save succeeded."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self._saved

    def _write(self, save: Save) -> None:
        """Run the background thread. A save that fails, or that a rank left, is only a warning."""
        try:
            self._saved = self._write_and_publish(save)
        except Exception as failure:
            log.warning(
                "checkpoint of step %d FAILED, training continues: %s", save.state.step, describe(failure)
            )

    def _write_and_publish(self, save: Save) -> bool:
        """Write on all ranks, and publish on rank 0. Return True if the checkpoint exists."""
        # A failure is kept as text: the other ranks wait in the exchange below, and must hear of it.
        error = ""
        written: Written = []
        try:
            # Several files at a time: one stream does not fill a parallel file system.
            files = divide_into_files(save.share, streams())
            written = write_files(save.temporary, self.world.rank, files, self._with_beats(save.snapshot))
        except BaseException as failure:
            error = describe(failure)
        finally:
            # Also after a failure, or the training would wait for ever.
            save.copied.set()

        # Every rank comes here, also after a failure, because the other ranks wait for its answer.
        # In a group of its own, because the main thread may be in a collective of the training now.
        outcomes = self.world.gathered((error, written, save.pause_seconds), group=self.world.saving)
        if self.world.is_main:
            error = "; ".join(sorted({problem for problem, _, _ in outcomes if problem}))
            segments = [segment for _, part, _ in outcomes for segment in part]
            error = error or self._publish(save, segments, max(pause for _, _, pause in outcomes))
            if error:
                # All ranks have answered, so none of them still writes into the folder.
                shutil.rmtree(save.temporary, ignore_errors=True)
                log.warning("checkpoint of step %d FAILED, training continues: %s", save.state.step, error)

        # Only rank 0 knows if the publication succeeded.
        return not self.world.gathered(error, group=self.world.saving)[0]

    def _with_beats(self, snapshot: Snapshot) -> Callable[[Rows], Iterator[memoryview]]:
        def source(rows: Rows) -> Iterator[memoryview]:
            for piece in snapshot.source(rows):
                yield piece
                self.beat()

        return source

    def _publish(self, save: Save, written: Written, pause: float) -> str:
        """Do the part of rank 0. Return the error, or an empty text."""
        try:
            # The rename comes last: a folder with the final name is always complete.
            write_small_files(save, written)
            publication.publish(save.final, latest=save.holds == "everything", best=save.best)
            report = Report(
                step=save.state.step,
                path=save.final,
                holds=save.holds,
                bytes=sum(segment.end - segment.begin for _, segment in written),
                pause_seconds=pause,
                waited_seconds=save.waited_seconds,
                write_seconds=time.perf_counter() - save.begun,
            )
            self.on_saved(report)
        except Exception as failure:
            return describe(failure)

        # Only after the new checkpoint has its name. Before, the disk could hold no whole one at all.
        self._prune()
        return ""

    def _prune(self) -> None:
        """Remove checkpoints that retention does not keep.

        If that fails, the new checkpoint is good all the same.

        This is part of the save, so the next save begins only when the disk has room again.
        """
        try:
            publication.prune(self.run, self.keep_last, self.keep_every)
        except OSError as error:
            log.warning("old checkpoints of %s could not be removed: %s", self.run, error)

    # -- loading

    def resume(self, check: Callable[[State], None], set_aside: bool = True) -> State | None:
        """Fill the live tensors from the newest undamaged checkpoint. See ``resuming.resume``."""
        return resuming.resume(self.run, self.world, self.tensors(), check, set_aside, self.beat)
