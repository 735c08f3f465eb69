"""The run log: a line a record as it happens, and the guide's one JSON document made from those lines.

Records of kind ``iteration`` hold only what the same training gives every time, so a run that was killed and
resumed has the very same ones as a run that was not; wall-clock facts are in ``timing`` records of their own.
"""

from __future__ import annotations

import datetime
import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.layout import metrics_dir

log = logging.getLogger(__name__)
Record = dict[str, Any]
DOCUMENT_SECONDS = 30.0
"""Between rewrites of the run's JSON document, at least; its lines are written at once."""
DOCUMENT_SHARE = 300
"""And at least so many times what the last one took, which is over a second for a run of 300,000 steps."""
Kind = Literal["run", "eval"]
"""A training's log, or that of an evaluation, which may go on beside the training and must not be taken for it."""


def records_of(path: Path) -> list[Record]:
    """The records of a ``.jsonl`` file; a last line that a kill cut short is left out."""
    records = []
    for line in path.read_bytes().splitlines():
        try:
            records.append(msgspec.json.decode(line))
        except msgspec.DecodeError:
            break
    return records


def newest(run: Path, kind: Kind = "run") -> Path | None:
    """The run's whole log so far: each attempt begins its file with what it resumes from. Or its last evaluation."""
    return max(metrics_dir(run).glob(f"{kind}_*.jsonl"), default=None)


def kept_on_resume(records: Iterable[Record], step: int) -> list[Record]:
    """What of an earlier attempt's log still holds when training goes on after ``step``."""
    return [r for r in records if r.get("iter", 0) <= step and r["kind"] != "summary"]


def document(records: Iterable[Record]) -> Record:
    """The guide's schema: each training iteration with the timing of the interval it was logged in."""
    out: Record = {"run_name": "", "config": {}, "startup_info": {}, "training_iterations": [], "eval_steps": [],
                   "checkpoints": [], "summary": {}}  # fmt: skip
    gradients: dict[int, Record] = {}
    for record in records:
        kind, body = record["kind"], {k: v for k, v in record.items() if k != "kind"}
        if kind == "start":
            out |= {key: body[key] for key in ("run_name", "config", "startup_info")}
        elif kind == "iteration":
            out["training_iterations"].append(body)
        elif kind == "timing":
            steps, last = body.pop("steps"), body.pop("iter")
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

    def __init__(self, run: Path, resumed_step: int | None, kind: Kind = "run") -> None:
        metrics_dir(run).mkdir(parents=True, exist_ok=True)
        earlier = newest(run, kind)
        self.path = metrics_dir(run) / f"{kind}_{new_stamp(earlier)}.jsonl"
        self._lock = threading.Lock()
        self._pending = b""
        kept = kept_on_resume(records_of(earlier), resumed_step) if earlier and resumed_step else []
        write_whole(self.path, encoded(kept))  # in one step, or a kill here would lose the attempts before
        self._descriptor = os.open(self.path, os.O_WRONLY)
        self._size = self.path.stat().st_size
        self._document_due = time.monotonic() + DOCUMENT_SECONDS

    def write(self, records: Iterable[Record]) -> None:
        """Append records in one write, or keep them for the next time."""
        lines = encoded(records)
        with self._lock:
            self._pending += lines
            try:
                while self._pending:
                    written = os.pwrite(self._descriptor, self._pending, self._size)
                    self._pending, self._size = self._pending[written:], self._size + written
            except OSError as error:
                log.warning("the run log waits, it cannot be written: %s: %s", self.path, error.strerror)

    def sync(self) -> None:
        """Make durable what is written, before a checkpoint that says it is there."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            log.warning("the run log may not survive a crash of this node: %s", error.strerror)

    def refresh_document(self) -> None:
        """Write the document where that is due: it grows with the run, and all ranks wait for it."""
        begin = time.monotonic()
        if begin >= self._document_due:
            self.write_document()
            took = time.monotonic() - begin
            self._document_due = begin + max(DOCUMENT_SECONDS, took * DOCUMENT_SHARE)

    def write_document(self) -> None:
        """Write ``run_<stamp>.json`` anew from the lines."""
        try:
            data = msgspec.json.encode(document(records_of(self.path)))
            write_whole(self.path.with_suffix(".json"), data)
        except OSError as error:
            log.warning("%s cannot be written: %s", self.path.with_suffix(".json"), error.strerror)

    def close(self, **summary: Any) -> Record:
        """Write the summary and the document; returns the summary."""
        facts = totals(records_of(self.path)) | summary
        self.write([{"kind": "summary", **facts}])
        self.sync()
        self.write_document()
        os.close(self._descriptor)
        return facts


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
