"""Power, clock and temperature of this process's GPU, and why it runs below its clock.

The figures come from NVML, where that is there. NVML comes with the driver. It is called directly, so no
package is needed.
"""

from __future__ import annotations

import ctypes
import dataclasses
import math
from typing import Any, Protocol

import torch

LIBRARY = "libnvidia-ml.so.1"
SM_CLOCK = 1
GPU_TEMPERATURE = 0
REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal limit",
    0x40: "hardware thermal limit",
    0x80: "power brake",
}
"""Bits of nvmlClocksThrottleReasons (nvml.h) that make a GPU slow. Being idle is none of them."""
NUMBERS = 4
"""Length of ``GpuState.numbers``."""


@dataclasses.dataclass(frozen=True)
class GpuState:
    """The driver's report about a GPU; NaN and 0 for missing values."""

    watts: float = math.nan
    megahertz: float = math.nan
    celsius: float = math.nan
    reasons: int = 0

    def numbers(self) -> list[float]:
        """Return it as numbers, which ranks can gather."""
        return [self.watts, self.megahertz, self.celsius, float(self.reasons)]

    def __str__(self) -> str:
        if math.isnan(self.watts):
            return ""

        words = [word for bit, word in REASONS.items() if self.reasons & bit]
        slowed = f", slowed by {' and '.join(words)}" if words else ""
        return f"{self.watts:.0f} W, {self.megahertz:.0f} MHz, {self.celsius:.0f} °C{slowed}"


def state_of(numbers: list[float]) -> GpuState:
    """Return the state that these ``GpuState.numbers`` describe."""
    watts, megahertz, celsius, reasons = numbers
    return GpuState(watts, megahertz, celsius, int(reasons))


class Sensor(Protocol):
    """Reads the state of one GPU."""

    def read(self) -> GpuState: ...


class NoSensor:
    """A CPU, or a machine without NVML."""

    def read(self) -> GpuState:
        return GpuState()


class Nvml:
    """NVML's view of one GPU. Raises OSError if the library or the GPU is missing."""

    def __init__(self, uuid: str, library: Any = None) -> None:
        self.library = ctypes.CDLL(LIBRARY) if library is None else library
        self.device = ctypes.c_void_p()
        # NVML's functions answer 0 for success, so `or` goes on to the next one.
        code = self.library.nvmlInit_v2() or self.library.nvmlDeviceGetHandleByUUID(
            uuid.encode(), ctypes.byref(self.device)
        )
        if code:
            raise OSError(f"NVML answers with code {code}")

    def read(self) -> GpuState:
        """Return the state; a value that this GPU does not tell is left out."""
        reasons = self._number(self.library.nvmlDeviceGetCurrentClocksThrottleReasons, ctypes.c_ulonglong)
        return GpuState(
            watts=self._number(self.library.nvmlDeviceGetPowerUsage, ctypes.c_uint) / 1e3,
            megahertz=self._number(self.library.nvmlDeviceGetClockInfo, ctypes.c_uint, SM_CLOCK),
            celsius=self._number(self.library.nvmlDeviceGetTemperature, ctypes.c_uint, GPU_TEMPERATURE),
            reasons=0 if math.isnan(reasons) else int(reasons),
        )

    def _number(self, function: Any, kind: Any, *arguments: int) -> float:
        value = kind()
        code = function(self.device, *arguments, ctypes.byref(value))
        return math.nan if code else float(value.value)


def sensor_of(device: torch.device) -> Sensor:
    """Return the reader of the state of ``device``."""
    if device.type != "cuda":
        return NoSensor()

    try:
        # CUDA_VISIBLE_DEVICES changes torch's numbers of the GPUs, but not NVML's.
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        return Nvml(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
    except (OSError, AttributeError):  # no library, no such GPU, or a torch that does not tell the UUID
        return NoSensor()
