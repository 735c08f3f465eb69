"""Which of the catalogue's GPUs a driver's name means."""

from __future__ import annotations

import re

WORD = re.compile(r"[A-Za-z0-9]+")


def is_device(device: str, driver_name: str) -> bool:
    """Say whether ``device`` of a hardware entry is the GPU that the driver calls ``driver_name``.

    Whole words are compared: "NVIDIA GH200 480GB" is no "H200", "NVIDIA H200 NVL" is one.
    """
    wanted = WORD.findall(device.upper())
    words = WORD.findall(driver_name.upper())
    starts = range(len(words) - len(wanted) + 1)
    return bool(wanted) and any(words[start : start + len(wanted)] == wanted for start in starts)
