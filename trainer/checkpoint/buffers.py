"""A small buffer in host memory for each thread that reads or writes a checkpoint piece by piece."""

from __future__ import annotations

import threading

import torch

PIECE_BYTES = 16 << 20
"""Bytes that are hashed, read or written in one piece."""


class ThreadBuffers(threading.local):
    """A buffer of ``PIECE_BYTES`` for each thread, pinned if ``device`` is a GPU."""

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        if on_gpu:
            # A new thread begins with the first GPU.
            torch.cuda.set_device(device)

        self.buffer = torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=on_gpu)
