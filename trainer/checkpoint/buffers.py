"""A small buffer in host memory for each thread that reads or writes a checkpoint piece by piece."""

from __future__ import annotations

import threading

import torch

PIECE_BYTES = 16 << 20
"""What is hashed, read or written at a time."""


class ThreadBuffers(threading.local):
    """The calling thread's own buffer of ``PIECE_BYTES``, pinned where ``device`` is a GPU."""

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)  # a new thread would begin with the first GPU
        self.buffer = torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=on_gpu)
