from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch

from jobctl.trainer.checkpoint.buffers import PIECE_BYTES, ThreadBuffers


def test_each_thread_has_one_buffer_of_its_own() -> None:
    buffers = ThreadBuffers(torch.device("cpu"))
    both = Barrier(2, timeout=60)

    def addresses() -> set[int]:
        both.wait()
        return {buffers.buffer.data_ptr(), buffers.buffer.data_ptr()}

    with ThreadPoolExecutor(2) as threads:
        first, second = (future.result() for future in [threads.submit(addresses) for _ in range(2)])

    assert len(first) == len(second) == 1
    assert first != second
    assert buffers.buffer.numel() == PIECE_BYTES
