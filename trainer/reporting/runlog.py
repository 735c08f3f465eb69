"""The run log: one line a record as it happens, and the guide's JSON document made from those lines.

Each attempt writes a file of its own and copies nothing. A resumed attempt begins its file with a
``resumed`` record; ``records_of_run`` joins the files and leaves out the steps that were rolled back.

Records of kind ``iteration`` hold only facts that the same training gives every time. So a run that
was killed and resumed has the same ones as a run that was not. Wall-clock facts are in ``timing``
records.
"""

from __future__ import annotations

import datetime
import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.goodput import Goodput
from jobctl.jobs.core.layout import metrics_dir
from jobctl.jobs.core.log_files import Kind, log_names
from jobctl.jobs.core.run_times import read_goodput

log = logging.getLogger(__name__)
Record = dict[str, Any]
DOCUMENT_SECONDS = 30.0
"""Between rewrites of the run's JSON document, at least; its lines are written at once."""
DOCUMENT_SHARE = 300
"""And at least so many times what the last one took, which is over a second for a run of 300,000 steps."""


def records_of(path: Path) -> list[Record]:
    """Return the records of a ``.jsonl`` file.

    A last line that a kill cut short is left out. A damaged line before it is left out as well,
    with a warning that names it: what comes after it still holds.
    """
    records: list[Record] = []
    # As bytes: a damaged line may be no UTF-8, and must not spoil the others.
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if number < len(lines):
                log.warning("%s:%d is damaged and left out: %s", path, number, error)

            continue

        # A line of JSON without a kind is none of our records.
        if "kind" in record:
            records.append(record)

    return records


def logs(run: Path, kind: Kind = "run") -> list[Path]:
    """Return the log files of ``run`` that a trainer made, oldest first."""
    paths = [metrics_dir(run) / name for name in log_names(run, kind)]
    return [path for path in paths if path.is_file()]


def records_of_run(run: Path, kind: Kind = "run") -> list[Record]:
    """Return the records of all attempts as one log, without the steps that were rolled back."""
    records: list[Record] = []
    for path in logs(run, kind):
        attempt = records_of(path)
        if attempt and attempt[0]["kind"] == "resumed":
            records = kept_on_resume(records, attempt[0]["iter"])
            records += attempt[1:]
        elif attempt:  # from the beginning; versions before this one copied what they resumed from
            records = attempt

    return records


def kept_on_resume(records: Iterable[Record], step: int) -> list[Record]:
    """Return the records of earlier attempts that are still valid when training continues after ``step``."""
    # A summary belongs to the end of its own attempt, and the run has gone on since.
    return [r for r in records if r.get("iter", 0) <= step and r["kind"] != "summary"]


def document(records: Iterable[Record]) -> Record:
    """The guide's schema: each training iteration with the timing of the interval it was logged in."""
    out: Record = {
        "run_name": "",
        "config": {},
        "startup_info": {},
        "training_iterations": [],
        "eval_steps": [],
        "checkpoints": [],
        "summary": {},
    }
    gradients: dict[int, Record] = {}
    for record in records:
        kind = record["kind"]
        body = {k: v for k, v in record.items() if k != "kind"}
        if kind == "start":
            out |= {key: body[key] for key in ("run_name", "config", "startup_info")}
        elif kind == "iteration":
            out["training_iterations"].append(body)
        elif kind == "timing":
            steps = body.pop("steps")
            last = body.pop("iter")
            # From the end, since the interval's iterations came last.
            for iteration in reversed(out["training_iterations"]):
                if iteration["iter"] <= last - steps:
                    break

                iteration.update(body)
        elif kind == "gradients":
            gradients[body["iter"]] = body["layers"]
        elif kind in ("eval", "checkpoint"):
            out["eval_steps" if kind == "eval" else "checkpoints"].append(body)
        elif kind == "summary":
            out["summary"] = body

    for iteration in out["training_iterations"]:
        if iteration["iter"] in gradients:
            iteration["grad_norm_by_layer"] = gradients[iteration["iter"]]

    return out


def totals(records: Iterable[Record]) -> Record:
    """First and last loss, and the mean speed, over all attempts that ``records`` tell of."""
    records = list(records)
    iterations = [r for r in records if r["kind"] == "iteration"]
    timings = [r for r in records if r["kind"] == "timing"]
    if not iterations or not timings:
        return {}

    # Intervals may have different numbers of steps, so each counts with its own.
    seconds = sum(r["dt_ms"] * r["steps"] for r in timings) / 1e3
    tokens = sum(r["tokens_per_sec"] * r["dt_ms"] * r["steps"] for r in timings) / 1e3

    return {
        "first_loss": iterations[0]["loss"],
        "last_loss": iterations[-1]["loss"],
        "tokens_per_sec": round(tokens / seconds, 1),
        "seconds": round(seconds, 1),
        "skipped_steps": sum(r["skipped"] for r in iterations),
    }


class RunLog:
    """Rank 0's log. A file system that is full or away delays lines; it never stops the training."""

    def __init__(
        self, run: Path, resumed_step: int | None, kind: Kind = "run", began: Record | None = None
    ) -> None:
        metrics_dir(run).mkdir(parents=True, exist_ok=True)
        earlier = logs(run, kind)
        self.run = run
        self.kind = kind
        # Names decide the order of logs, so the new stamp must be later than all others.
        self.path = metrics_dir(run) / f"{kind}_{new_stamp(earlier[-1] if earlier else None)}.jsonl"
        self._lock = threading.Lock()
        self._pending = b""

        # The first line comes with the file, in one step. Without it a reader would take this
        # attempt for one that began anew, and drop the attempts before.
        first: list[Record] = [{"kind": "resumed", "iter": resumed_step}] if resumed_step else []
        if began:
            first.append({"kind": "began", **began})

        write_whole(self.path, encoded(first))
        # Without O_APPEND, with which Linux ignores the offset of pwrite.
        self._descriptor = os.open(self.path, os.O_WRONLY)
        self._size = self.path.stat().st_size
        self._document_due = time.monotonic() + DOCUMENT_SECONDS
        self.goodput: Goodput | None = None
        """The goodput of the run at its last document."""

    def write(self, records: Iterable[Record]) -> None:
        """Append records in one write, or keep them for the next time."""
        lines = encoded(records)
        # The checkpoint's thread writes its record too, and lines of two threads must not mix.
        with self._lock:
            self._pending += lines
            try:
                # A write may be short when the disk becomes full. The rest is kept for the next call.
                while self._pending:
                    # At an offset of our own: the next try writes over what a failed one left.
                    written = os.pwrite(self._descriptor, self._pending, self._size)
                    self._pending = self._pending[written:]
                    self._size = self._size + written
            except OSError as error:
                log.warning("the run log cannot be written yet: %s: %s", self.path, error.strerror)

    def sync(self) -> None:
        """Make the written records durable, before a checkpoint that relies on them."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            log.warning("the run log may not survive a crash of this node: %s", error.strerror)

    def refresh_document(self) -> bool:
        """Write the document if it is due. It grows with the run, and all ranks wait for it.

        Return whether it was written.
        """
        begin = time.monotonic()
        if begin < self._document_due:
            return False

        self.write_document()
        took = time.monotonic() - begin
        self._document_due = begin + max(DOCUMENT_SECONDS, took * DOCUMENT_SHARE)

        return True

    def write_document(self) -> None:
        """Write ``run_<stamp>.json`` again from the lines of all attempts.

        It holds what the documents of earlier attempts held, so those are removed.
        """
        path = self.path.with_suffix(".json")
        try:
            write_whole(path, msgspec.json.encode(document(self.records())))
            self.goodput = self.read_goodput()
            # Only now: a kill in between leaves two documents, but never none.
            if self.kind == "run":
                for earlier in logs(self.run):
                    if earlier != self.path:
                        earlier.with_suffix(".json").unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be written: %s", path, error.strerror)

    def read_goodput(self) -> Goodput | None:
        """Return the goodput of the run so far; an evaluation has none."""
        return read_goodput(self.run, time.time()) if self.kind == "run" else None

    def records(self) -> list[Record]:
        """Return the records so far: of all attempts, or of this one evaluation."""
        return records_of_run(self.run) if self.kind == "run" else records_of(self.path)

    def close(self, **summary: Any) -> Record:
        """Write the summary and the document; returns the summary."""
        facts = totals(self.records()) | summary
        self.goodput = self.read_goodput()
        if self.goodput:
            facts["goodput"] = goodput_record(self.goodput)

        self.write([{"kind": "summary", **facts}])
        # The lines are durable before the document, which can be made again from them.
        self.sync()
        self.write_document()
        os.close(self._descriptor)
        return facts


def goodput_record(goodput: Goodput | None) -> Record:
    """Return the goodput of a run for the summary; empty if it is unknown."""
    if goodput is None:
        return {}

    return {
        "share": round(goodput.share, 4),
        "wall_seconds": round(goodput.wall_seconds, 1),
        "tokens_per_sec_of_wall_time": round(goodput.tokens_per_second, 1),
        "seconds": {cause: round(seconds, 2) for cause, seconds in goodput.seconds.items()},
        "attempts": goodput.attempts,
        "starts": goodput.starts,
    }


def encoded(records: Iterable[Record]) -> bytes:
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def new_stamp(earlier: Path | None) -> str:
    """UTC to the millisecond, and later than the log before, whatever another node's clock said."""
    now = datetime.datetime.now(datetime.timezone.utc)
    form = "%Y%m%d-%H%M%S-%f"
    if earlier:
        before = datetime.datetime.strptime(earlier.stem.partition("_")[2] + "000", form)
        now = max(now, before.replace(tzinfo=datetime.timezone.utc) + datetime.timedelta(milliseconds=1))

    return now.strftime(form)[:-3]
