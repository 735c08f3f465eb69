"""The training loop: step, log, validate, checkpoint, until it is done or asked to stop."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch

from jobctl.jobs.catalog.arithmetic import flops_per_token
from jobctl.jobs.core.exit_codes import EXIT_CONTINUE, EXIT_FINISHED
from jobctl.trainer.checkpoint.save import Holds, Report
from jobctl.trainer.checkpoint.state import SourceRecord, State, random_state
from jobctl.trainer.data.samples import MicroBatches, micro_batches
from jobctl.trainer.lifecycle.stop import StopRequest
from jobctl.trainer.lifecycle.watchdog import Watchdog
from jobctl.trainer.optim.schedule import learning_rate
from jobctl.trainer.reporting import live_line as progress
from jobctl.trainer.reporting.ledger import Ledger
from jobctl.trainer.reporting.profiling import Profiler
from jobctl.trainer.reporting.ranklog import Console
from jobctl.trainer.reporting.records import iteration_record, number
from jobctl.trainer.reporting.stragglers import Stragglers
from jobctl.trainer.reporting.timing import StepTimer, memory_gb
from jobctl.trainer.reporting.trackers import Trackers
from jobctl.trainer.training.announcement import announce, open_log
from jobctl.trainer.training.assembly import Run
from jobctl.trainer.training.evaluate import Score, evaluate
from jobctl.trainer.training.guards import BadSteps
from jobctl.trainer.training.step import StepResult

log = logging.getLogger(__name__)


class Training:
    """A run in progress on this rank."""

    def __init__(
        self,
        run: Run,
        console: Console,
        stop: StopRequest,
        watchdog: Watchdog,
        *,
        attempt: int = 1,
        ledger: Ledger | None = None,
    ) -> None:
        self.run = run
        self.console = console
        self.stop = stop
        self.watchdog = watchdog
        self.ledger = ledger or Ledger()
        self.on_first_step: Callable[[], None] = lambda: None
        self.on_step: Callable[[int, int, int], None] = lambda step, first_sample, samples: None
        self.train = run.recipe.train
        self.world = run.world
        resumed = run.resumed
        self.step = resumed.step if resumed else 0
        self.samples = resumed.samples if resumed else 0
        self.best_val_loss = resumed.best_val_loss if resumed else None
        self.bad_steps = BadSteps(self.train.max_bad_steps, run.layout, resumed.bad_streak if resumed else 0)
        self.timer = StepTimer(self.world.device)
        if self.world.size > 1 and run.stepper.reduction is None:
            self.timer.time_reduction(run.stepper.model, run.sharding)

        self.stragglers = Stragglers(self.world)
        self.unlogged: list[tuple[int, int, float, StepResult]] = []
        self.saved_step = self.step if resumed else None
        self.tokens_per_step = run.layout.global_batch_size * self.train.block_size
        self.flops = flops_per_token(run.recipe.model, self.train.block_size)
        self.log = open_log(run, attempt) if self.world.is_main else None
        self.trackers: Trackers | None = None
        if self.world.is_main:
            self.trackers = Trackers(run.directory, evaluates=self.train.eval_only)

    # -- the loop

    def train_to_the_end(self) -> int:
        """Train until max_iters or until asked to stop; the exit code says which."""
        batches = self.batches()  # forks its workers: before the trackers have threads that may hold a lock
        announce(self.run, self.log, self.trackers)
        self.run.checkpoints.on_saved = self.note_checkpoint
        profiler = Profiler(self.train.profile, self.run.directory, self.world)
        # All that exists now lives as long as the run, so no later collection looks at it again.
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection in the middle of a step makes every other rank wait for this one
        stopping = False
        self.timer.reset()

        while self.step < self.train.max_iters and not stopping:
            self.take_step(batches)
            self.ledger.started()
            profiler.step()
            # Asked by all ranks after the same step: a rank that stops alone leaves the others waiting.
            stopping = self.stop.is_asked()
            self.after_step(last=stopping or self.step == self.train.max_iters)
            self.progress()

        del batches  # ends the worker processes
        gc.enable()
        gc.unfreeze()
        profiler.close()

        return self.finish(stopping and self.step < self.train.max_iters)

    def progress(self) -> None:
        """Tell the watchdog of a step, or of a part of an evaluation."""
        self.watchdog.beat()
        self.on_first_step()

    def batches(self) -> Iterator[torch.Tensor]:
        """Micro-batches from the next sample on to the end of the run."""
        count = (self.train.max_iters - self.step) * self.train.gradient_accumulation_steps
        workers = self.train.dataloader_num_workers if self.train.use_dataloader else 0
        source = MicroBatches(self.run.data, self.run.layout, self.samples)
        return micro_batches(source, count, workers, pin_memory=self.world.device.type == "cuda")

    def take_step(self, batches: Iterator[torch.Tensor]) -> None:
        rate = learning_rate(self.step, self.train)
        # Before the step: a rank that dies in it has said which samples it was at.
        self.on_step(self.step + 1, self.samples, self.run.layout.global_batch_size)
        self.run.stepper.replay.begin_step(self.step + 1)
        self.timer.begin_step()
        # The result stays on the device, so that the host can queue the next step at once.
        result = self.run.stepper.run(batches, rate, self.timer)
        first = self.samples
        self.step += 1
        self.samples += self.run.layout.global_batch_size
        self.unlogged.append((self.step, first, rate, result))

    def after_step(self, last: bool) -> None:
        """Log, evaluate and save if it is time. Log first: a checkpoint says that its steps are logged."""
        train = self.train
        step = self.step
        evaluating = bool(self.run.validation) and (
            step % train.eval_interval == 0 or step == train.max_iters
        )
        saving = last or (bool(train.checkpoint_interval) and step % train.checkpoint_interval == 0)
        if last or evaluating or saving or step % train.log_interval == 0:
            self.flush()

        best = False
        if evaluating:
            with self.ledger.spending("evaluation"):
                # Before the save, whose state has the best loss.
                best = self.validate()

            saving = saving or train.always_save_checkpoint

        with self.ledger.spending("checkpoint"):
            if saving:
                self.save("everything", best, must=last)
            elif best:
                self.save("weights", best, must=False)

        # Python's own collection is off within steps. Here training pauses anyway.
        if evaluating or saving:
            gc.collect()
            self.timer.reset()

    def finish(self, unfinished: bool) -> int:
        """Wait for the last checkpoint and close the log.

        Raises RuntimeError where that checkpoint could not be written, whatever the end was: a job that
        says "checkpointed, wants to go on" must have checkpointed.
        """
        status = "stopped" if unfinished else "finished"
        reason = self.stop_reason() if unfinished else ""
        with self.watchdog.waiting_for_storage("the last checkpoint"):
            with self.ledger.spending("checkpoint"):
                saved = self.run.checkpoints.wait()

            self.close(status if saved else "failed", reason)

        if not saved:
            raise RuntimeError(f"training has {status}, but its last checkpoint could not be written")

        return EXIT_CONTINUE if unfinished else EXIT_FINISHED

    def stop_reason(self) -> str:
        """Return the reason for the stop, from the first rank that knows it."""
        return next(filter(None, self.world.gathered(self.stop.reason)), "")

    def close(self, status: str, why: str = "") -> None:
        """Rank 0: the last record, and the last words."""
        if not (self.log and self.trackers):
            return

        if not self.train.eval_only:
            self.log.write([self.spent({}, steps=0)])

        facts = self.log.close(
            iter=self.step,
            status=status,
            reason=why,
            samples=self.samples,
            tokens=self.samples * self.train.block_size,
            best_val_loss=self.best_val_loss,
        )
        if self.log.goodput:
            self.trackers.log(self.step, {"goodput": self.log.goodput.share})

        self.trackers.close()
        for line in self.log.goodput.lines() if self.log.goodput else ():
            self.console.line(line)

        losses = (
            f", loss {_rounded(facts['first_loss'])} -> {_rounded(facts['last_loss'])}"
            if "first_loss" in facts
            else ""
        )
        reason = f" ({why})" if why else ""
        self.console.line(
            f"{status} at step {self.step} of {self.train.max_iters}{reason}{losses}; {self.log.path}"
        )

    # -- log

    def flush(self) -> None:
        """Log the steps since the last time, in the one wait for the device; then end the run if too many were bad."""
        if not self.unlogged:
            return

        rows = torch.stack(
            [
                torch.stack([r.loss, r.grad_norm, r.finite.float(), r.skipped.float()])
                for _, _, _, r in self.unlogged
            ]
        ).tolist()
        self.run.stepper.replay.check(self.run.stepper.gradients.names, self.world)
        timing = self.timing()
        news = self.stragglers.gather(self.step, timing)
        records = []
        problem = None

        for (step, first, rate, _), (loss, norm, finite, skipped) in zip(self.unlogged, rows, strict=True):
            samples = first + self.run.layout.global_batch_size
            records.append(iteration_record(step, rate, samples, loss, norm, bool(skipped)))
            if skipped:
                log.warning(
                    "step %d skipped: loss %g, gradient norm %g, samples from %d", step, loss, norm, first
                )

            try:
                self.bad_steps.count(step, first, bool(finite))
            except Exception as error:
                problem = problem or error

        squares = self.unlogged[-1][3].squares
        self.unlogged.clear()
        if self.log:
            self.report(records, timing, rows[-1], squares)
            self.log.write([line for line in news if isinstance(line, dict)])
            for words in news:
                if isinstance(words, str):
                    log.warning("%s", words)

        self.timer.reset()
        if problem:
            raise problem

    def timing(self) -> dict[str, float]:
        facts = self.timer.per_step_ms()
        facts["tokens_per_sec"] = round(self.tokens_per_step / facts["dt_ms"] * 1e3, 1)
        mfu = self.run.peak.mfu(facts["tokens_per_sec"], self.flops, self.world.size)
        return facts | ({} if mfu is None else {"mfu": round(mfu, 4)}) | memory_gb(self.world.device)

    def report(
        self, records: list[dict[str, Any]], timing: dict[str, float], row: list[float], squares: torch.Tensor
    ) -> None:
        """Rank 0: the lines of this interval, the progress line, the trackers."""
        assert self.log
        assert self.trackers
        every = self.train.gradient_log_interval
        lines = [*records, {"kind": "timing", "iter": self.step, "steps": len(records), **timing}]
        if every and self.step % every == 0:
            layers = self.run.stepper.gradients.by_layer(squares.tolist())
            lines.append(
                {
                    "kind": "gradients",
                    "iter": self.step,
                    "layers": {layer: number(norm) for layer, norm in layers.items()},
                }
            )

        lines.append(self.spent(timing, len(records)))
        self.log.write(lines)
        shown = {"loss": row[0], "grad_norm": row[1], "lr": records[-1]["lr"]}
        self.console.progress(
            progress.line(self.step, self.train.max_iters, shown, timing, str(self.run.peak))
        )
        self.trackers.log(self.step, shown | timing)
        if self.log.refresh_document() and self.log.goodput:
            self.trackers.log(self.step, {"goodput": self.log.goodput.share})

    def spent(self, timing: dict[str, float], steps: int) -> dict[str, Any]:
        """Return the record of the time since the last one, by cause."""
        waits = {"data": "data_wait_ms", "communication": "communication_ms"}
        in_steps = {cause: timing.get(name, 0.0) * steps / 1e3 for cause, name in waits.items()}
        return self.ledger.close_interval(self.step, self.samples * self.train.block_size, in_steps, steps)

    # -- validation and checkpoints

    def validate(self) -> bool:
        """Score the validation sets; whether the first one's loss is the best so far."""
        scores = self.scores()
        if self.log and self.trackers:
            self.log.write([{"kind": "eval", "iter": self.step, **score.record()} for score in scores])
            for score in scores:
                self.console.line(f"step {self.step}: validation {score}")
                self.trackers.log(self.step, {f"val_loss/{score.name}": score.loss})

        best = self.best_val_loss is None or scores[0].loss < self.best_val_loss
        if best:
            self.best_val_loss = scores[0].loss

        return best

    def scores(self) -> list[Score]:
        run = self.run
        found = [
            evaluate(
                run.stepper.model,
                chosen,
                self.train,
                self.world,
                run.sharding,
                run.eos_id,
                self.progress,
            )
            for chosen in run.validation
        ]

        run.stepper.end_evaluation()

        return found

    def evaluate_only(self) -> int:
        """Score the checkpoint and stop."""
        announce(self.run, self.log, self.trackers)
        self.validate()
        self.close("evaluated")
        return EXIT_FINISHED

    def save(self, holds: Holds, best: bool, must: bool) -> None:
        """Begin a checkpoint of this step, or one of its weights, unless there is a checkpoint.

        Where storage is still busy with the one before, it is skipped if it need not (``must``) be made.
        A trial has none at all.
        """
        if self.run.is_trial or not self.train.save_checkpoints or self.saved_step == self.step:
            return

        with self.watchdog.waiting_for_storage(f"the checkpoint of step {self.step}"):
            # The log of a step must be durable before its checkpoint: a resumed run goes on from both.
            if self.log:
                self.log.sync()

            begun = self.run.checkpoints.save(self.state(), holds=holds, best=best, must=must)

        if not begun.skipped:
            self.saved_step = self.step if holds == "everything" else self.saved_step
        elif self.log:
            record = {"kind": "checkpoint_skipped", "iter": self.step, "holds": holds}
            self.log.write([{**record, "writing_seconds": round(begun.writing_seconds, 1)}])

    def state(self) -> State:
        """Return the state of the run for a checkpoint of this step, without its tensors."""
        recipe = self.run.recipe

        return State(
            step=self.step,
            samples=self.samples,
            global_batch_size=self.run.layout.global_batch_size,
            name=recipe.name,
            model=recipe.model,
            train=recipe.train,
            sources=tuple(SourceRecord(str(s.path), s.weight) for s in recipe.sources),
            fingerprint=self.run.data.fingerprint,
            sample_order=self.run.data.order,
            tokenizer=self.run.tokenizer,
            best_val_loss=self.best_val_loss,
            bad_streak=self.bad_steps.streak,
            origin=self.run.origin,
            random=random_state(),
        )

    def note_checkpoint(self, report: Report) -> None:
        """Log a checkpoint that the background thread of rank 0 has published."""
        if self.log:
            self.log.write([report.record()])
        log.info("%s", report)


def _rounded(loss: object) -> str:
    """Return a loss to four digits; one that was no number as the log has it."""
    return f"{loss:.4f}" if isinstance(loss, float) else str(loss)
