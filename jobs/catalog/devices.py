"""Compare the catalogue's names of GPUs with the names that the driver gives."""

from __future__ import annotations

import re

WORD = re.compile(r"[A-Za-z0-9]+")


def is_device(device: str, driver_name: str) -> bool:
    """Return whether ``device`` of a hardware entry is the GPU that the driver calls ``driver_name``.

    Whole words are compared: "NVIDIA H200 NVL" is an "H200", "NVIDIA GH200 480GB" is not.
    """
    # Drivers spell one GPU in several ways, with different marks and letters between the words.
    wanted = WORD.findall(device.upper())
    words = WORD.findall(driver_name.upper())
    starts = range(len(words) - len(wanted) + 1)
    return bool(wanted) and any(words[start : start + len(wanted)] == wanted for start in starts)
