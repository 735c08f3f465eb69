"""Choose the blocks whose largest tensor waits in the host's memory, with ``activation_checkpointing: offload``."""

from __future__ import annotations


def offloaded_blocks(layers: int) -> list[int]:
    """Return the numbers of the blocks: half of them, spread evenly.

    The last two are never among them. Their backward pass begins before a copy could have left and come back.
    """
    # The link carries one such tensor in about the time in which the GPU computes two blocks.
    count = min(layers // 2, layers - 2)
    if count <= 0:
        return []

    last = layers - 3
    pause = last / max(1, count - 1)

    return [round(index * pause) for index in range(count)]
