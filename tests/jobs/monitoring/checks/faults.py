"""Runs with one fault each, as the trainer, torch, NCCL, the kernel and the job's script leave them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobctl.jobs.core import layout
from tests.jobs.monitoring.runs import TOKENS, start_line, step_line, training_lines, write_attempt, write_log

Line = dict[str, Any]
Fault = Callable[[Path], None]


def healthy(run: Path, steps: int = 400, **changes: Any) -> None:
    """A run that went well; ``changes`` are settings or facts of its start."""
    lines = [start_line(run.name, max_iters=steps, vocab_size=50304, **changes)]
    lines += training_lines(range(1, steps + 1), loss=loss_of_text)
    write_log(run, [*lines, {"kind": "summary", "iter": steps, "status": "finished"}])
    write_attempt(run, 1, end=10.0)


def loss_of_text(step: int) -> float:
    """A loss that begins at ln(50304) and falls."""
    return 2.8 + 8.0 / step**0.5


def log_line(run: Path, text: str, name: str = "rank-00001.log", attempt: int = 1) -> None:
    path = layout.log_dir(run, attempt) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text + "\n")


def failed(run: Path, text: str, exit_code: int = 1, name: str = "rank-00001.log") -> None:
    """A run whose attempt failed after some steps, with a line in a log."""
    write_log(
        run, [start_line(max_iters=400, vocab_size=50304), *training_lines(range(1, 51), loss=loss_of_text)]
    )
    write_attempt(run, 1, end=5.0, exit_code=exit_code)
    log_line(run, "2026-01-02 03:04:05,000 INFO jobctl.trainer: all is well", name)
    log_line(run, text, name)


def curve_of(loss: Callable[[int], float | str], steps: int = 400, **changes: Any) -> Fault:
    """A run with another loss curve."""

    def write(run: Path) -> None:
        lines = [start_line(**{"max_iters": steps, "vocab_size": 50304, **changes})]
        write_log(run, [*lines, *training_lines(range(1, steps + 1), loss=loss)])

    return write


def timed(timing: Callable[[int], Line], **changes: Any) -> Fault:
    """A run with other step times."""

    def write(run: Path) -> None:
        lines = [start_line(max_iters=400, vocab_size=50304, **changes)]
        write_log(run, [*lines, *training_lines(range(1, 401), loss=loss_of_text, timing=timing)])

    return write


def started(**changes: Any) -> Fault:
    return lambda run: healthy(run, **changes)


def said(text: str, exit_code: int = 1, name: str = "rank-00001.log") -> Fault:
    return lambda run: failed(run, text, exit_code, name)


def overfitted(run: Path) -> None:
    lines = [start_line(max_iters=400, vocab_size=50304), *training_lines(range(1, 401), loss=loss_of_text)]
    lines += [
        {"kind": "eval", "iter": step, "set": "v", "val_loss": 4.0 + abs(step - 150) / 300, "perplexity": 1.0}
        for step in range(50, 401, 50)
    ]
    write_log(run, sorted(lines, key=lambda line: line.get("iter", 0)))


def large_norms(run: Path) -> None:
    lines = training_lines(range(1, 401), loss=loss_of_text, grad_norm=85.0)
    write_log(run, [start_line(max_iters=400, vocab_size=50304), *lines])


def slow_storage(run: Path) -> None:
    healthy(run)
    lines = [start_line(max_iters=400, vocab_size=50304), *training_lines(range(1, 401), loss=loss_of_text)]
    lines.append({"kind": "checkpoint_skipped", "iter": 200, "holds": "everything", "writing_seconds": 90.0})
    write_log(run, lines)


def repeated(run: Path) -> None:
    write_log(
        run, [start_line(max_iters=400, vocab_size=50304), *training_lines(range(1, 301), loss=loss_of_text)]
    )
    again = training_lines(range(101, 401), loss=loss_of_text)
    write_log(
        run,
        [{"kind": "resumed", "iter": 100}, start_line(max_iters=400, vocab_size=50304), *again],
        minutes=9,
    )
    write_attempt(run, 1, end=8.0, exit_code=137, reason="node failed")
    write_attempt(run, 2, begin=8.5, end=20.0)


def fruitless(run: Path) -> None:
    for number in range(4):
        head: list[Line] = [{"kind": "resumed", "iter": 60}] if number else []
        steps = [step_line(60, 3.9)] if not number else []
        write_log(run, [*head, start_line(max_iters=400, vocab_size=50304), *steps], minutes=10.0 * number)
        write_attempt(run, number + 1, begin=10.0 * number, end=10.0 * number + 5, exit_code=1)


def gone_silent(run: Path) -> None:
    """Its log was last written when the test made it; ``now`` of the test is an hour later."""
    write_log(
        run, [start_line(max_iters=400, vocab_size=50304), *training_lines(range(1, 51), loss=loss_of_text)]
    )
    write_attempt(run, 1)


def starved(step: int) -> Line:
    return {"dt_ms": 400.0, "data_wait_ms": 290.0, "mfu": 0.15, "tokens_per_sec": TOKENS / 0.4}


def chatty(step: int) -> Line:
    return {"dt_ms": 300.0, "communication_ms": 190.0, "mfu": 0.19}


def throttled(step: int) -> Line:
    late = step > 200
    return {
        "dt_ms": 145.0 if late else 100.0,
        "compute_ms": 140.0 if late else 95.0,
        "mfu": 0.42 if late else 0.6,
    }


def stalling(step: int) -> Line:
    return {"dt_ms": 900.0, "mfu": 0.3} if step % 100 == 0 else {}


def slow_rank(run: Path, slow: float = 1.5) -> None:
    """Rank 2 of four works ``slow`` times as long."""
    lines = [start_line(run.name, max_iters=400, vocab_size=50304, world_size=4)]
    for step in range(1, 401):
        lines += (
            training_lines([step], loss=loss_of_text, every=10)
            if step % 10 == 0
            else [step_line(step, loss_of_text(step))]
        )
        if step % 10 == 0:
            times = {"slowest": 2, "slowest_ms": 100.0 * slow, "median_ms": 100.0}
            lines.append({"kind": "ranks", "iter": step, **times})

    write_log(run, lines)
    write_attempt(run, 1, end=10.0)


def weak(step: int) -> Line:
    return {"mfu": 0.11}


FAULTS: dict[str, tuple[str, Fault]] = {
    "a loss that becomes NaN": (
        "loss_not_a_number",
        curve_of(lambda n: "nan" if n > 390 else loss_of_text(n)),
    ),
    "a learning rate of nothing": ("loss_not_falling", curve_of(lambda n: 10.8 - n / 1e5)),
    "a loss that rises again": (
        "loss_diverged",
        curve_of(lambda n: loss_of_text(n) if n < 200 else min(9.0, 3.4 + (n - 200) / 20)),
    ),
    "ids that wrapped around": ("loss_too_low", curve_of(lambda n: 10.8 * 0.97**n)),
    "weights that are not new": ("loss_starts_wrong", curve_of(lambda n: 3.1 + 1.0 / n)),
    "data learned by heart": ("validation_rises", overfitted),
    "exploding gradients": ("gradients_out_of_range", large_norms),
    "a learning rate of another model": (
        "learning_rate_unusual",
        started(learning_rate=0.02, parameters=1.8e9),
    ),
    "a warm-up longer than the run": ("warmup_too_long", started(warmup_iters=2000)),
    "no clipping": ("no_gradient_clipping", started(grad_clip=0.0)),
    "a small data set": ("data_repeated", started(epochs_planned={"sotu-gpt2": 12.5})),
    "a data loader that is too slow": ("much_data_wait", timed(starved)),
    "a slow network": ("much_communication", timed(chatty, world_size=8)),
    "a GPU that gets hot": ("becomes_slower", timed(throttled)),
    "a storage that stalls": ("uneven_steps", timed(stalling)),
    "a low MFU without a cause": ("low_mfu", timed(weak)),
    "a rank that works longer": ("straggler", slow_rank),
    "no compilation": ("not_compiled", started(compile=False, fused=False, kernels="plain")),
    "attention in its slowest form": ("slow_attention", started(attention_backend="manual")),
    "memory that is nearly full": ("memory_nearly_full", timed(lambda n: {"memory_peak_gb": 149.5})),
    "a storage too slow for saves": ("storage_too_slow", slow_storage),
    "few checkpoints": ("much_repeated", repeated),
    "an attempt that never gets on": ("fruitless_attempts", fruitless),
    "a log that is silent": ("silent", gone_silent),
    "out of GPU memory": (
        "gpu_out_of_memory",
        said(
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.64 GiB. GPU 0 has a total capacity of"
        ),
    ),
    "out of memory": (
        "killed_for_memory",
        said(
            "error: the kernel killed 1 process of this job for memory: its limit is 8.00 GiB; give the job more",
            137,
            "batch.log",
        ),
    ),
    "no memory of the machine": (
        "host_memory",
        said("RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    ),
    "a collective of another size": (
        "ranks_disagree",
        said("terminate called: [enforce fail at pair.cc] op.preamble.length <= op.nbytes. 28 vs 4", 134),
    ),
    "a collective that one rank skipped": (
        "hang",
        said(
            "rank 1 (n2, pid 7) did not arrive at collective 12 of group 0, all_reduce of float[5], in which rank 0 is"
        ),
    ),
    "ranks that disagree": (
        "hang",
        said("the ranks disagree at collective 3 of group 0: rank 0 all_reduce of float[5]"),
    ),
    "a rank that was stopped": (
        "hang",
        said("rank 1 (n1, pid 42) is stopped by a signal (SIGSTOP, or a debugger) and runs no code"),
    ),
    "ids outside of the vocabulary": ("wrong_ids", said("CUDA error: device-side assert triggered", 134)),
    "a full disk": (
        "disk_full",
        said("OSError: [Errno 28] No space left on device: '/root/runs/r/checkpoints'"),
    ),
    "a small /dev/shm": (
        "shared_memory_full",
        said("ERROR: Unexpected bus error. Bus error (core dumped)", 135),
    ),
    "an old driver": (
        "driver_too_old",
        said("RuntimeError: The NVIDIA driver on your system is too old (found version 12020)."),
    ),
    "a broken GPU": ("broken_gpu", said("NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.", 201)),
    "a package that is missing": ("optional_package", said("ModuleNotFoundError: No module named 'xxhash'")),
    "a network that broke": (
        "network",
        said("NCCL WARN socketProgress: Connection closed by remote peer n2"),
    ),
    "a wrong setting": (
        "wrong_configuration",
        said("error: --batch_size: Expected `int` >= 1", 2, "batch.log"),
    ),
    "a process that was killed": (
        "died_by_signal",
        said("error: rank 1 (pid 77) ended with SIGKILL", 137, "batch.log"),
    ),
    "many bad steps": (
        "bad_steps",
        said(
            "jobctl.trainer: loss or gradient was not finite for 20 steps in a row, up to step 70: samples 400 to 559"
        ),
    ),
}
"""Each fault by its name: the check that must name it, and how to make it."""
