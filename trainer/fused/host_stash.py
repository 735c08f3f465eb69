"""Keep tensors in the host's memory between forward and backward, with ``activation_checkpointing: offload``.

The copies run beside the kernels, on a stream of their own (Rhu et al. 2016, "vDNN", section 3). So they cost
little time if the link carries a tensor while the GPU computes some blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jobctl.jobs.core.amounts import short_bytes
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.host_memory import Arena, PinningRefused, aligned


class Copy:
    """A copy that runs beside the kernels, and the tensor on the GPU that it reads or writes."""

    def __init__(self, tensor: Tensor, done: torch.cuda.Event | None) -> None:
        self.tensor = tensor
        self.done = done

    def finish(self) -> Tensor:
        """Let the kernels that come now wait for the copy. Return the tensor."""
        if self.done is not None:
            torch.cuda.current_stream(self.tensor.device).wait_event(self.done)

        return self.tensor


class HostStash:
    """A place in pinned memory for one tensor of each of the ``blocks``. All these tensors have one size.

    In forward call ``begin``, then ``leave`` for each block, then ``settle``. In backward call ``fetch`` one
    block ahead of ``take``.
    """

    def __init__(self, blocks: Sequence[int], device: torch.device) -> None:
        self.blocks = list(blocks)
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._arena: Arena | None = None
        self._slot = 0
        self._leaving: Copy | None = None
        self._coming: dict[int, Copy] = {}
        self._like: dict[int, Tensor] = {}
        """Tensors without memory that have the shapes of those that left."""

    def begin(self) -> None:
        """Forget a pass that ended in the middle, as after a lack of memory."""
        self.settle()
        for copy in self._coming.values():
            copy.finish()

        self._coming.clear()
        self._like.clear()

    def leave(self, block: int, tensor: Tensor) -> None:
        """Begin to copy the contiguous ``tensor`` of ``block`` to the host.

        The stash keeps it on the GPU until the copy has ended. Raises UserError if the host cannot pin the memory.
        """
        # One at a time: otherwise a slow link would let the tensors pile up on the GPU.
        self.settle()
        self._reserve(tensor.nbytes)
        # Detached, because the copies are no part of the graph.
        tensor = tensor.detach()
        self._like[block] = torch.empty_like(tensor, device="meta")
        self._leaving = self._copy(block, tensor, to_host=True)

    def settle(self) -> None:
        """Release the tensor that leaves. Kernels that come now wait until it has left."""
        if self._leaving is not None:
            self._leaving.finish()
            self._leaving = None

    def fetch(self, block: int) -> None:
        """Begin to copy the tensor of ``block`` back."""
        if block in self._like:
            # Taken out, so that a second request begins no second copy.
            tensor = torch.empty_like(self._like.pop(block), device=self.device)
            self._coming[block] = self._copy(block, tensor, to_host=False)

    def take(self, block: int) -> Tensor:
        """Return the tensor of ``block``, once."""
        # It does nothing if the tensor was fetched one block ahead.
        self.fetch(block)
        return self._coming.pop(block).finish()

    def _reserve(self, size: int) -> None:
        """Take the host's memory at the first step, or again for larger tensors."""
        if size <= self._slot:
            return

        # At the end of the forward pass all of these blocks are on the host at once.
        needed = aligned(size) * len(self.blocks)
        arena = Arena(needed, self.device)
        try:
            arena.reserve()
        except (PinningRefused, OSError) as error:
            raise UserError(
                f"activation_checkpointing=offload: the host does not pin {short_bytes(needed)} for this rank: {error}",
                hint="take activation_checkpointing=selective, or raise the limit of locked memory (ulimit -l)",
                code=1,
            ) from error

        self._arena = arena
        self._slot = aligned(size)

    def _copy(self, block: int, tensor: Tensor, *, to_host: bool) -> Copy:
        assert self._arena is not None
        if self._stream is None:
            self._move(block, tensor, to_host)
            return Copy(tensor, None)

        # After all work so far: it writes the tensor that leaves, or still reads the memory that a fetched
        # tensor gets.
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            self._move(block, tensor, to_host)

        return Copy(tensor, self._stream.record_event())

    def _move(self, block: int, tensor: Tensor, to_host: bool) -> None:
        assert self._arena is not None
        data = tensor.view(-1).view(torch.uint8)
        begin = 0

        for part in self._arena.parts(self.blocks.index(block) * self._slot, tensor.nbytes):
            piece = data[begin : begin + part.numel()]
            if to_host:
                part.copy_(piece, non_blocking=True)
            else:
                piece.copy_(part, non_blocking=True)

            begin += part.numel()
