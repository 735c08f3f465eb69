"""A run says whether its bits repeat, and takes what repeats where it was asked for or costs next to nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import torch

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models.attention import Attention, ManualAttention
from jobctl.trainer.training import repeatable

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave torch and the environment as they were."""
    monkeypatch.setenv(*repeatable.CUBLAS_WORKSPACE)
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


class Chooser:
    """Stands for ``choose_attention`` and notes what it is asked for."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses = refuses
        self.asked: list[tuple[str, bool]] = []

    def __call__(self, backend: str, deterministic: bool = False, **_: Any) -> Attention:
        self.asked.append((backend, deterministic))
        if deterministic:
            assert torch.are_deterministic_algorithms_enabled()
            if self.refuses:
                raise UserError(self.refuses)
        return ManualAttention()


def choose(
    monkeypatch: pytest.MonkeyPatch,
    chooser: Chooser,
    device: torch.device = GPU,
    capability: tuple[int, int] = (9, 0),
    installed: bool = True,
    **changes: Any,
) -> Attention:
    monkeypatch.setattr(repeatable, "choose_attention", chooser)
    monkeypatch.setattr(repeatable, "find_spec", lambda _: object() if installed else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    train = msgspec.structs.replace(TrainConfig(), **changes)
    return repeatable.choose_repeatable_attention(train, device, torch.bfloat16, 128)


def test_on_hopper_cudnn_s_attention_that_repeats_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    chooser = Chooser()
    assert choose(monkeypatch, chooser).unrepeatable == ""
    assert chooser.asked == [("cudnn", True)]
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"capability": (8, 0)}, "Hopper only"),
        ({"capability": (10, 0)}, "Hopper only"),
        ({"installed": False}, "'nvidia-cudnn-frontend' is not installed"),
        ({"attention_backend": "sdpa"}, "sdpa would take longer"),
        ({"deterministic": "off"}, "as asked"),
    ],
)
def test_where_it_would_cost_time_a_run_does_not_repeat_and_says_why(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], reason: str
) -> None:
    chooser = Chooser()
    assert reason in choose(monkeypatch, chooser, **changes).unrepeatable
    assert chooser.asked == [(changes.get("attention_backend", "auto"), False)]
    assert not torch.are_deterministic_algorithms_enabled()


def test_where_cudnn_has_no_plan_the_fastest_runs_and_the_reason_is_cudnn_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chooser = Chooser(refuses="no plan for heads of 128")
    assert choose(monkeypatch, chooser).unrepeatable == "no plan for heads of 128"
    assert chooser.asked == [("cudnn", True), ("auto", False)]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("capability", [(8, 0), (9, 0), (10, 0)])
def test_on_takes_one_that_repeats_whatever_it_costs(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]
) -> None:
    chooser = Chooser()
    attention = choose(monkeypatch, chooser, capability=capability, installed=False, deterministic="on")
    assert attention.unrepeatable == ""
    assert chooser.asked == [("auto", True)]


def test_on_where_nothing_repeats_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="none"):
        choose(monkeypatch, Chooser(refuses="none"), deterministic="on")


@pytest.mark.parametrize("deterministic", ["auto", "on", "off"])
def test_on_a_cpu_every_run_repeats(monkeypatch: pytest.MonkeyPatch, deterministic: str) -> None:
    chooser = Chooser()
    assert choose(monkeypatch, chooser, CPU, deterministic=deterministic).unrepeatable == ""
    assert chooser.asked == [("auto", False)]


def test_torch_is_told_without_the_cost_of_filling_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    repeatable.tell_torch(deterministic=True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
