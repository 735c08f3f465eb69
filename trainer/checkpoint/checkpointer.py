"""Writes and reads checkpoints: model, optimiser, counters, random state, recipe and data, on any layout."""

from __future__ import annotations

import logging
import pickle
import shutil
import threading
import warnings
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.tensor import DTensor

from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint import files as files
from jobctl.trainer.distributed import World

log = logging.getLogger(__name__)
STATE_FILE = "state.json"
METADATA_FILE = ".metadata"


class SourceRecord(msgspec.Struct, frozen=True):
    path: str
    weight: float


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a checkpoint besides its tensors: ``state.json``."""

    step: int
    samples: int
    """Samples seen: the number of the next one."""
    name: str
    model: ModelConfig
    train: TrainConfig
    sources: tuple[SourceRecord, ...]
    fingerprint: str
    tokenizer: str
    best_val_loss: float | None = None
    bad_streak: int = 0
    random: dict[str, bytes] = {}
    """State of torch's generators on rank 0, by device type."""


class CheckpointReader(FileSystemReader):
    """PyTorch's reader, but its pickled table of contents may only hold the classes of such a table."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with open(Path(self.path) / METADATA_FILE, "rb") as file:
            metadata: Metadata = TableUnpickler(file).load()
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class TableUnpickler(pickle.Unpickler):
    """Refuses to name anything but the plain records of DCP's table and torch's sizes and types."""

    MODULES = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")
    NAMES = frozenset({
        ("torch", "Size"), ("torch.serialization", "_get_layout"), ("collections", "OrderedDict"),
        ("torch.distributed.checkpoint._extension", "StreamTransformExtension"),
        ("pathlib", "PosixPath"), ("pathlib._local", "PosixPath"),
    })  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return enum_member
        found = getattr(torch, name, None) if module == "torch" else None
        records = module in self.MODULES and name.lstrip("_")[0].isupper()
        if records or (module, name) in self.NAMES or isinstance(found, torch.dtype):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a checkpoint's {METADATA_FILE} may not name {module}.{name}")


def enum_member(kind: type[Enum], name: str) -> Enum:
    """A member by its name: what Python 3.11.2, Debian 12's, pickles as a call of getattr, and here all it may be."""
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        raise pickle.UnpicklingError(f"a checkpoint's {METADATA_FILE} may not look into {kind!r}")
    return kind[name]


def random_state() -> dict[str, bytes]:
    """State of torch's generators."""
    states = {"cpu": bytes(torch.get_rng_state().numpy())}
    if torch.cuda.is_available():
        states["cuda"] = bytes(torch.cuda.get_rng_state().numpy())
    return states


def restore_random_state(states: dict[str, bytes]) -> None:
    if "cpu" in states:
        torch.set_rng_state(torch.frombuffer(bytearray(states["cpu"]), dtype=torch.uint8))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.frombuffer(bytearray(states["cuda"]), dtype=torch.uint8))


class Checkpointer:
    """Saves in the background and loads. ``tensors`` gives the live tensors by name, the same names on every rank."""

    def __init__(
        self,
        run: Path,
        world: World,
        tensors: Callable[[], dict[str, torch.Tensor]],
        keep_last: int,
        keep_every: int,
    ) -> None:
        self.run, self.world, self.tensors = run, world, tensors
        self.keep_last, self.keep_every = keep_last, keep_every
        self.on_saved: Callable[[int, Path], None] = lambda step, path: None
        self._thread: threading.Thread | None = None
        self._saved = True

    def claim(self) -> None:
        """From now on this attempt alone writes checkpoints here: what a killed one was writing goes."""
        if self.world.is_main:
            files.clear_leftovers(self.run)
        self.world.barrier()

    # -- saving

    def save(self, state: State, best: bool = False) -> None:
        """Copy everything now, and write it while training goes on. Waits for the save before."""
        self.wait()
        snapshot, self._saved = self._snapshot(), False
        self._thread = threading.Thread(target=self._write, args=(snapshot, state, best), name="checkpoint")
        self._thread.start()

    def wait(self) -> bool:
        """Wait for the save under way; whether the last one succeeded."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self._saved

    def _snapshot(self) -> dict[str, torch.Tensor]:
        """Copies in host memory of what this rank writes: its shards, and its share of what all ranks hold."""
        live = self.tensors()
        load = [0] * self.world.size
        mine = {}
        for name, tensor in live.items():
            if not isinstance(tensor, DTensor):
                owner = load.index(min(load))
                load[owner] += tensor.numel() * tensor.element_size()
                if owner != self.world.rank:
                    continue
            mine[name] = tensor.detach().clone() if tensor.device.type == "cpu" else tensor.detach().cpu()
        return mine

    def _write(self, snapshot: dict[str, torch.Tensor], state: State, best: bool) -> None:
        """The background thread. A save that fails, or that a rank no longer takes part in, is only a warning."""
        try:
            self._saved = self._write_and_publish(snapshot, state, best)
        except Exception as failure:
            log.warning("checkpoint of step %d FAILED, training goes on: %s", state.step, root_cause(failure))

    def _write_and_publish(self, snapshot: dict[str, torch.Tensor], state: State, best: bool) -> bool:
        """All ranks write, rank 0 publishes; whether it is there."""
        temporary = files.temporary_folder(self.run, state.step)
        error, records = "", {}
        try:
            records = self._write_tensors(snapshot, temporary)
        except BaseException as failure:
            error = root_cause(failure)
        outcomes = self.world.gathered((error, records), group=self.world.saving)
        if self.world.is_main:
            error = "; ".join(sorted({problem for problem, _ in outcomes if problem}))
            error = error or self._publish(
                state, best, {k: v for _, part in outcomes for k, v in part.items()}
            )
            if error:
                shutil.rmtree(temporary, ignore_errors=True)
                log.warning("checkpoint of step %d FAILED, training goes on: %s", state.step, error)
        return not self.world.gathered(error, group=self.world.saving)[0]

    def _write_tensors(
        self, snapshot: dict[str, torch.Tensor], temporary: Path
    ) -> dict[str, files.FileRecord]:
        writer = FileSystemWriter(temporary, sync_files=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where there is only one process
            state_dict_saver.save(snapshot, storage_writer=writer, process_group=self.world.saving)
        names = [path.name for path in temporary.glob(f"__{self.world.rank}_*.distcp")]
        return files.records(temporary, names)

    def _publish(self, state: State, best: bool, records: dict[str, files.FileRecord]) -> str:
        """Rank 0's part; returns what went wrong."""
        temporary = files.temporary_folder(self.run, state.step)
        try:
            write_whole(temporary / STATE_FILE, msgspec.json.encode(state))
            own = files.records(temporary, [STATE_FILE, METADATA_FILE])
            files.publish(self.run, state.step, records | own, best)
            files.prune(self.run, self.keep_last, self.keep_every)
            self.on_saved(state.step, files.folder(self.run, state.step))
        except Exception as failure:
            return root_cause(failure)
        return ""

    # -- loading

    def newest_whole(self, set_aside: bool = True) -> tuple[int, State] | None:
        """The newest undamaged checkpoint, all ranks reading a part of each; a damaged one is passed over, loudly.

        With ``set_aside`` it loses its name as well.
        """
        for step in self.world.from_main(files.candidates(self.run)):
            path = files.folder(self.run, step)
            parts = self.world.gathered(files.damage(path, self.world.rank, self.world.size))
            problems = [problem for part in parts for problem in part]
            if not problems:
                return step, read_state(path)
            if self.world.is_main:
                now = f"; it is now {files.set_aside(self.run, step).name}" if set_aside else ""
                what = "; ".join(sorted(set(problems)))
                log.warning("CHECKPOINT %s IS DAMAGED, trying the one before%s: %s", path, now, what)
            self.world.barrier()
        return None

    def load(self, step: int) -> None:
        """Fill the live tensors from the checkpoint of ``step``, whatever layout wrote it."""
        reader = CheckpointReader(files.folder(self.run, step))
        there = reader.read_metadata().state_dict_metadata
        wanted = {name: tensor.detach() for name, tensor in self.tensors().items()}
        missing = [name for name in wanted if name not in there and not name.startswith("guard.")]
        if missing:
            raise UserError(f"checkpoint of step {step} has no {missing[0]} (and {len(missing) - 1} more)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state_dict_loader.load(
                {name: t for name, t in wanted.items() if name in there}, storage_reader=reader
            )


def root_cause(error: BaseException) -> str:
    """The one line that says what went wrong, out of DCP's collected exceptions and what they came from."""
    failures = getattr(error, "failures", None)
    prefix = ""
    if failures:
        rank, (error, _) = next(iter(failures.items()))
        prefix = f"rank {rank}: "
    while not isinstance(error, OSError) and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return f"{prefix}{type(error).__name__}: {error}"


def read_state(path: Path) -> State:
    """Raises UserError where it is whole, but not what this version writes."""
    try:
        return msgspec.json.decode((path / STATE_FILE).read_bytes(), type=State)
    except msgspec.ValidationError as error:
        raise UserError(
            f"checkpoint {path} was written by another version of the trainer: {error}",
            hint="go on with that version, or choose another --run_dir",
        ) from None


def differences(saved: State, model: ModelConfig, train: TrainConfig, fingerprint: str) -> list[str]:
    """What makes a checkpoint unfit to be resumed: another architecture, other data, another order of samples."""
    found = []
    if saved.fingerprint != fingerprint:
        found.append(
            f"data: the checkpoint's fingerprint is {saved.fingerprint[:12]}, now it is {fingerprint[:12]}"
        )
    for field in ModelConfig.__struct_fields__:
        before, now = getattr(saved.model, field), getattr(model, field)
        if before != now:
            found.append(f"{field}: {before} in the checkpoint, {now} now")
    for field in ("block_size", "seed"):
        before, now = getattr(saved.train, field), getattr(train, field)
        if before != now:
            found.append(f"{field}: {before} in the checkpoint, {now} now")
    return found


def recorded_state(run_dir: Path) -> State | None:
    """What the run's newest readable checkpoint says of itself; None where there is none. Sums are not checked."""
    for step in files.candidates(run_dir):
        try:
            return read_state(files.folder(run_dir, step))
        except (OSError, ValueError):  # damaged; loading will say so
            continue
    return None


def load_model_weights(run_dir: Path) -> tuple[ModelConfig, dict[str, torch.Tensor]]:
    """(architecture, whole float32 weights by name) of a run's newest undamaged checkpoint, in this one process.

    Raises UserError where there is none.
    """
    for step in files.candidates(run_dir):
        path = files.folder(run_dir, step)
        problems = files.damage(path)
        if problems:
            log.warning("checkpoint %s is damaged, trying the one before: %s", path, "; ".join(problems))
            continue
        return read_state(path).model, read_tensors(path, "model.")
    raise UserError(f"run {run_dir} has no checkpoint", hint="train it first, or check the path")


def read_tensors(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with ``prefix``, whole, by the rest of their names."""
    reader = CheckpointReader(path)
    wanted: dict[str, Any] = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in reader.read_metadata().state_dict_metadata.items()
        if name.startswith(prefix) and isinstance(entry, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state_dict_loader.load(wanted, storage_reader=reader)
    return {name.removeprefix(prefix): tensor for name, tensor in wanted.items()}
