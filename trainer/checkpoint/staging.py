"""Copies of live tensors in host memory, which are written while training goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch

from jobctl.trainer.checkpoint.plan import Rows, local_rows
from jobctl.trainer.distributed import local


class Snapshot:
    """Copies of some rows of the live tensors."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], share: Iterable[Rows]) -> None:
        self.copies = {rows: copied(tensors[rows.name], rows) for rows in share}

    def source(self, rows: Rows) -> Iterator[memoryview]:
        """The bytes of rows that were copied."""
        yield self.copies[rows].numpy().data


def copied(tensor: torch.Tensor, rows: Rows) -> torch.Tensor:
    """The bytes of these rows, in host memory of their own."""
    part = local_bytes(tensor, rows)
    return part.clone() if part.device.type == "cpu" else part.cpu()


def local_bytes(tensor: torch.Tensor, rows: Rows) -> torch.Tensor:
    """The bytes of rows that this rank holds, flat, in the tensor's own memory where it is contiguous."""
    part = local(tensor.detach())
    if part.ndim:
        first, _ = local_rows(tensor)
        part = part[rows.start - first : rows.stop - first]
    return part.reshape(-1).view(torch.uint8)
