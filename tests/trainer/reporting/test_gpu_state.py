"""What NVML says of a GPU, with a library that stands for it."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch

from jobctl.trainer.reporting.gpu_state import GpuState, NoSensor, Nvml, sensor_of, state_of


class Library:
    """Answers as NVML does: 0, and the number where the pointer points."""

    def __init__(self, **values: int) -> None:
        self.values = values

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, device: Any) -> int:
        return 0 if uuid == b"GPU-1" else 6

    def __getattr__(self, name: str) -> Any:
        def answer(device: Any, *arguments: Any) -> int:
            if name not in self.values:
                return 3  # NVML_ERROR_NOT_SUPPORTED
            arguments[-1]._obj.value = self.values[name]
            return 0

        return answer


FULL = Library(
    nvmlDeviceGetPowerUsage=699_400,
    nvmlDeviceGetClockInfo=1980,
    nvmlDeviceGetTemperature=61,
    nvmlDeviceGetCurrentClocksThrottleReasons=0x1 | 0x4,
)


def test_power_clock_temperature_and_reasons_are_read() -> None:
    state = Nvml("GPU-1", FULL).read()
    assert state == GpuState(699.4, 1980.0, 61.0, 0x5)
    assert str(state) == "699 W, 1980 MHz, 61 °C, slowed by power cap"


def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="code 6"):
        Nvml("GPU-2", FULL)


def test_what_a_gpu_does_not_tell_is_left_out() -> None:
    assert str(Nvml("GPU-1", Library()).read()) == ""


def test_it_goes_to_the_others_as_numbers() -> None:
    state = Nvml("GPU-1", FULL).read()
    assert state_of(state.numbers()) == state


def test_a_cpu_has_no_sensor() -> None:
    assert isinstance(sensor_of(torch.device("cpu")), NoSensor)
    assert str(NoSensor().read()) == ""


def test_the_reasons_fit_their_type() -> None:
    assert ctypes.sizeof(ctypes.c_ulonglong) == 8
