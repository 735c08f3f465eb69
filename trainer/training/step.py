"""One optimiser step: micro-steps, clipping, guards and the update, queued on the device without a host sync."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer import distributed as parallel
from jobctl.trainer.data.samples import document_ids
from jobctl.trainer.optim.protocol import Optimizer
from jobctl.trainer.reporting.timing import StepTimer
from jobctl.trainer.training import graphs
from jobctl.trainer.training.gradients import Gradients, clip_factor
from jobctl.trainer.training.guards import LossScale, LossWindow
from jobctl.trainer.training.reduction import OverlappedReduction
from jobctl.trainer.training.replay import Replay, bit_sums

if TYPE_CHECKING:
    from jobctl.trainer.fused.fused_decoder import FusedDecoder


@dataclasses.dataclass(frozen=True)
class StepResult:
    """The results of a step, still on the device: scalars, and the squared gradient norm of each parameter."""

    loss: torch.Tensor
    grad_norm: torch.Tensor
    finite: torch.Tensor
    skipped: torch.Tensor
    squares: torch.Tensor


class Stepper:
    """Takes the steps of a model that ``parallel.distribute`` laid out, through ``fused`` if given."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        train: TrainConfig,
        world: parallel.World,
        sharding: parallel.Sharding,
        eos_id: int,
        fused: FusedDecoder | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.train = train
        self.world = world
        self.sharding = sharding
        self.eos_id = eos_id
        self.dtype = parallel.TORCH_DTYPES[train.dtype]
        # The names are those of the plain model, whatever has wrapped it, so that logs and checkpoints
        # agree.
        self.gradients = Gradients(parallel.named_parameters(model), world)
        self.window = LossWindow(train.skip_loss_spikes, world.device) if train.skip_loss_spikes else None
        self.loss_scale = LossScale(world.device) if self.dtype is torch.float16 else None
        self.fused = fused
        self.reduction = None
        if fused and world.size > 1:
            self.reduction = OverlappedReduction(model, fused.projections, world)
            # The reduction has just sent rank 0's weights, so the rounded copies are made anew.
            fused.refresh()

        self.replay = Replay(train.verify_replay)
        self.without_graphs = graphs.obstacle(train, fused is not None, sharding)
        self.warming = None if self.without_graphs else graphs.WARM_STEPS
        self.graphs: list[graphs.MicroStepGraph] = []
        """For all micro-steps but the last of a step, and for the last."""

    def guard_tensors(self) -> dict[str, torch.Tensor]:
        """Return the state of guards and float8's scales. A checkpoint without it also loads."""
        tensors = {}
        # The rest of float8's state is computed from this history.
        if self.fused and self.fused.scales is not None:
            tensors["guard.float8_history"] = self.fused.scales.history

        if self.window:
            tensors["guard.losses"] = self.window.losses

        if self.loss_scale:
            tensors["guard.loss_scale"] = self.loss_scale.scale
            tensors["guard.good_steps"] = self.loss_scale.good_steps

        return tensors

    def end_evaluation(self) -> None:
        """Bring the model back to training: an evaluation must leave no trace in the next steps."""
        # No backward pass follows, which would otherwise give the gathered weights back.
        parallel.reshard(self.model)
        if self.fused:
            self.fused.end_evaluation()

    def loss(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mean loss of a micro-batch, int64 ``[B, T + 1]`` in host memory."""
        # Batches are in pinned memory, so this copy runs while the host queues the kernels behind it.
        tokens = tokens.to(self.world.device, non_blocking=True)
        inputs = tokens[:, :-1]
        targets = tokens[:, 1:]
        documents = document_ids(inputs, self.eos_id) if self.train.document_masking else None

        with parallel.autocast(self.sharding, self.world.device, self.dtype):
            loss: torch.Tensor = self.model(inputs, targets, documents)

        return loss

    def run(self, batches: Iterator[torch.Tensor], rate: float, timer: StepTimer) -> StepResult:
        """Take one step with learning rate ``rate`` on the next micro-batches."""
        micro_steps = self.train.gradient_accumulation_steps
        # On the device, so that the sum makes the host wait for no micro-step.
        total = torch.zeros((), device=self.world.device)
        for micro in range(micro_steps):
            with timer.waiting_for_data():
                tokens = next(batches)

            last = micro == micro_steps - 1
            # Only now: the first steps compile kernels and measure scales, which a graph cannot do.
            if self.warming == 0 and not self.graphs:
                self.capture(tokens)

            # In the first micro-step the gradients are empty, so both runs begin with the same memory.
            first = self.first_run(tokens, last) if micro == 0 and self.replay.is_due else None
            loss = self.graphs[last](tokens) if self.graphs else self.micro_step(tokens, last, timer)
            if first is not None:
                self.replay.compare(first, self.bits(loss))

            total += loss

        # The marks are events of the device: the host reads them only when it logs.
        timer.mark("compute")
        result = self._update(total, rate)
        timer.mark("optimizer")
        if self.warming:
            self.warming -= 1

        return result

    def micro_step(self, tokens: torch.Tensor, last: bool, timer: StepTimer | None = None) -> torch.Tensor:
        """Add the gradient of a micro-batch, and return its share of the step's loss.

        In the ``last`` micro-step the ranks reduce their gradients.
        """
        # Before the backward pass, which sends each gradient as soon as it is complete.
        if last and self.reduction:
            self.reduction.begin()

        with parallel.gradient_sync(self.model, self.sharding, last):
            # Divided before backward, so that the gradients of all micro-steps add up to those of the mean.
            loss = self.loss(tokens) / self.train.gradient_accumulation_steps
            # float16 has few small numbers: the scaled loss keeps small gradients from becoming zero.
            scaled = loss if self.loss_scale is None else loss * self.loss_scale.scale
            with timer.backward_pass(last) if timer else contextlib.nullcontext():
                scaled.backward()

        if last and self.reduction:
            with timer.reduction() if timer else contextlib.nullcontext():
                self.reduction.finish()

        # Detached, or the sum of the losses would keep the graph of every micro-step.
        return loss.detach()

    def first_run(self, tokens: torch.Tensor, last: bool) -> torch.Tensor | None:
        """Run a micro-step without effect, and return the bits that the real one must give again.

        Return None if ranks reduce the gradients of the real one. Then compare two runs without effect here.
        """
        first = self.trial(tokens)
        if last and self.world.size > 1:
            self.replay.compare(first, self.trial(tokens))
            return None

        return first

    def trial(self, tokens: torch.Tensor) -> torch.Tensor:
        """Do a micro-step without a reduction, forget its gradients, and return their bits."""
        loss = self.graphs[False](tokens) if self.graphs else self.micro_step(tokens, last=False)
        bits = self.bits(loss)
        self.forget_gradients()

        return bits

    def bits(self, loss: torch.Tensor) -> torch.Tensor:
        """Return sums of the bits of this rank's gradients and of its loss."""
        return bit_sums([*self.gradients.local_gradients(), loss])

    def forget_gradients(self) -> None:
        """Clear the gradients. A CUDA graph writes them to the addresses of its capture."""
        if self.graphs and self.fused:
            self.zero_gradients(self.fused)
        else:
            self.gradients.clear()

    def capture(self, tokens: torch.Tensor) -> None:
        """Make the graphs. From now on gradients are zeroed in place."""
        assert self.fused
        self.zero_gradients(self.fused)
        for parameter in self.gradients.parameters:
            if parameter.grad is None:
                # A graph adds to the address of a gradient, so each gradient must exist before the capture.
                parameter.grad = torch.zeros_like(parameter)

        device = self.world.device
        pool = None

        # The last micro-step of a step also reduces the gradients, so it is a graph of its own.
        for last in (False, True):
            micro_step = functools.partial(self.micro_step, last=last)
            graph = graphs.MicroStepGraph(micro_step, tokens, device, pool)
            self.graphs.append(graph)
            # Both graphs take their memory from one pool: they never run at the same time.
            pool = graph.pool

    def zero_gradients(self, fused: FusedDecoder) -> None:
        """Zero them in place, for graphs. Of a sharded sum only this rank's rows are ``.grad``."""
        sums = [projection.gradient()[0] for projection in fused.projections]
        torch._foreach_zero_([*sums, *self.gradients.local_gradients()])

    @torch.no_grad()
    def _update(self, total: torch.Tensor, rate: float) -> StepResult:
        scale = self.loss_scale.scale if self.loss_scale else None
        # Every rank gets the same loss and norms here, so that all ranks skip the same steps.
        loss, squares = self.gradients.measure(total, scale)
        norm = squares.sum().sqrt()
        finite = loss.isfinite() & norm.isfinite()
        skipped = ~finite
        if self.window:
            skipped = skipped | self.window.is_spike(loss)

        factor = clip_factor(norm, self.train.grad_clip) if self.train.grad_clip else torch.ones_like(norm)
        if scale is not None:
            # The gradients are still scaled; the optimiser multiplies by this factor anyway.
            factor = factor / scale

        # All on the device: the host does not know yet if the step is taken, and does not wait to know.
        self.optimizer.step(factor, skipped, rate)

        # The next forward pass multiplies by the working copies, whatever the optimiser knows of them.
        if self.fused:
            self.fused.end_step(copied=self.optimizer.updates_copies)

        # After the update, which reads them.
        self.forget_gradients()
        if self.loss_scale:
            # The scale follows only infinite gradients, for a spike of the loss is no overflow.
            self.loss_scale.update(~finite)

        return StepResult(loss, norm, finite, skipped, squares)
