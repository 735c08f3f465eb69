"""The guide's JSON document, ``run_<stamp>.json``: that of jobctl, and those of earlier tools.

Those tools differ. Iterations are in ``training_iterations`` or ``training_progress``, and ``mfu`` is a
number or an object. They rewrite the file in place, so a reader may see the first half of it.
The complete entries of such a file count.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.log_files import Kind
from jobctl.jobs.core.reading import read_regular
from jobctl.jobs.monitoring.history import (
    PARTS,
    Evaluation,
    Gradients,
    History,
    Interval,
    Save,
    Segment,
    Step,
    Summary,
    known,
    number,
    whole,
)

LARGEST = 1 << 30
"""The longest document that is read, in bytes: some millions of iterations."""
ITERATION_KEYS = ("training_iterations", "training_progress")
_MFU_KEYS = ("mfu", "value", "mfu_percent", "percent")

Entry = dict[str, Any]


def newest_document(run: Path, kind: Kind) -> Path | None:
    """Return the last document of a training ("run") or of an evaluation ("eval"); None without any."""
    # The stamp in a name sorts by time, so the last name is the newest.
    return max(layout.metrics_dir(run).glob(f"{kind}_*.json"), default=None)


def read_document(path: Path) -> History:
    """Return the history that a document gives.

    Raises UserError if it cannot be read or has no run.
    """
    try:
        data = read_regular(path, LARGEST)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", code=1) from None

    notes: list[str] = []
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        # The tools rewrite the file in place, so it may be read half-written.
        content = _salvaged(data.decode("utf-8", "replace"))
        notes.append(f"{path}: the file is cut off; only its whole entries were read")

    known = (*ITERATION_KEYS, "eval_steps", "startup_info", "config")
    if not isinstance(content, dict) or not any(key in content for key in known):
        raise UserError(
            f"{path} is not the log of a training: it has none of the keys {', '.join(ITERATION_KEYS)}",
            code=1,
        )

    history = _history(path, content)
    history.notes += notes
    return history


def _history(path: Path, content: Entry) -> History:
    """Return the history of a decoded document. Entries that are not objects are left out."""
    # A tool may write one of the keys with an empty list.
    iterations = next((entries(content, key) for key in ITERATION_KEYS if entries(content, key)), [])
    history = History(
        name=str(content.get("run_name") or path.stem),
        path=path,
        config=_object(content.get("config")),
        startup=_object(content.get("startup_info")),
        last_write=path.stat().st_mtime,
    )

    # An interval reaches back to the entry before it, so the entries must be in order.
    last = 0
    for entry in sorted(iterations, key=_iter):
        step = _iter(entry)
        history.steps.append(step_of(entry))
        if math.isfinite(number(entry.get("dt_ms"))) or math.isfinite(number(entry.get("tokens_per_sec"))):
            # Two entries for one step would make an interval without steps.
            history.intervals.append(interval_of(entry, max(1, step - last)))

        if layers := _object(entry.get("grad_norm_by_layer")):
            history.gradients.append(Gradients(step, layers))

        last = step

    history.evaluations = [evaluation_of(entry) for entry in entries(content, "eval_steps")]
    history.saves = [save_of(entry) for entry in entries(content, "checkpoints")]
    if summary := _object(content.get("summary")):
        status = str(summary.get("status") or "")
        history.summary = Summary(iter=whole(summary.get("iter")), status=status)

    segment = Segment(file=path.name, began=None, resumed_from=None, last=history.last_step)
    history.segments = [segment]
    return history


def entries(content: Entry, key: str) -> list[Entry]:
    """Return the objects in the list ``key``; none if it is no list."""
    listed = content.get(key)
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _object(value: Any) -> Entry:
    return value if isinstance(value, dict) else {}


def _iter(entry: Entry) -> int:
    return whole(_first(entry, "iter", "step", "iteration"))


def _first(entry: Entry, *names: str) -> Any:
    """Return the value of the first name that is present."""
    return next((entry[name] for name in names if entry.get(name) is not None), None)


def _logged(entry: Entry, *names: str) -> float | None:
    """Return the first value that is present as a float; None without one, which is no error."""
    value = _first(entry, *names)
    return None if value is None else number(value)


def step_of(entry: Entry) -> Step:
    return Step(
        iter=_iter(entry),
        loss=_logged(entry, "loss", "train_loss"),
        lr=_logged(entry, "lr", "learning_rate"),
        grad_norm=_logged(entry, "grad_norm"),
        samples=whole(entry.get("samples")),
        skipped=bool(entry.get("skipped")),
    )


def interval_of(entry: Entry, steps: int) -> Interval:
    """Return the timing of an iteration that stands for ``steps`` steps."""
    allocated = number(_first(entry, "memory_allocated_gb", "memory_gb"))
    peak = number(_first(entry, "memory_peak_gb", "memory_max_gb", "memory_reserved_gb"))
    parts = {f"{part}_ms": number(entry.get(f"{part}_ms", 0.0)) for part in PARTS}
    return Interval(
        iter=_iter(entry),
        steps=steps,
        dt_ms=number(_first(entry, "dt_ms", "time_ms")),
        tokens_per_sec=number(_first(entry, "tokens_per_sec", "tokens_per_second")),
        mfu=share(entry.get("mfu")),
        memory_allocated_gb=allocated,
        # A tool without a peak gives at least the memory at that moment.
        memory_peak_gb=allocated if math.isnan(peak) else peak,
        **parts,
    )


def share(mfu: Any) -> float:
    """Return an MFU as a share of 1; NaN if it is missing.

    It comes from a number, a percentage or an object with one of them.
    """
    if isinstance(mfu, dict):
        mfu = _first(mfu, *_MFU_KEYS)

    value = number(mfu)
    # No device reaches one and a half times its peak, so the number is a percentage.
    return value / 100 if value > 1.5 else value


def evaluation_of(entry: Entry) -> Evaluation:
    return Evaluation(
        iter=_iter(entry),
        val_loss=number(_first(entry, "val_loss", "loss")),
        set=str(entry.get("set") or ""),
        perplexity_per_byte=known(number(entry.get("perplexity_per_byte"))),
    )


def save_of(entry: Entry) -> Save:
    return Save(iter=_iter(entry), path=str(entry.get("path") or ""), bytes=whole(entry.get("bytes")))


def _salvaged(text: str) -> Entry:
    """Return the complete entries of a document that ends in the middle."""
    content: Entry = {}
    for key in ("config", "startup_info", "summary"):
        value = _value(text, key)
        if value is not None:
            content[key] = value

    for key in (*ITERATION_KEYS, "eval_steps", "checkpoints"):
        if listed := list(_list(text, key)):
            content[key] = listed

    return content


def _value(text: str, key: str) -> Any:
    """Return the object ``key``; None if it is incomplete."""
    # The lookahead leaves the brace for the decoder.
    match = re.search(rf'"{key}"\s*:\s*(?=\{{)', text)
    if not match:
        return None

    try:
        return json.JSONDecoder().raw_decode(text, match.end())[0]
    except ValueError:
        return None


def _list(text: str, key: str) -> Iterable[Any]:
    """Yield the items of the list ``key``, up to the first incomplete one."""
    match = re.search(rf'"{key}"\s*:\s*\[', text)
    position = match.end() if match else len(text)
    decoder = json.JSONDecoder()
    # A closing bracket does not match, so the list's end ends the loop.
    while separator := re.compile(r"[\s,]*(?=\{)").match(text, position):
        try:
            item, position = decoder.raw_decode(text, separator.end())
        except ValueError:
            return

        yield item
