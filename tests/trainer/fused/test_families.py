"""A block that the fused kernels do not compute is never fused, whatever its layers are called."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.distributed import World
from jobctl.trainer.fused import choice as fusing
from jobctl.trainer.fused.choice import fuse
from jobctl.trainer.fused.fused_decoder import FusedDecoder
from jobctl.trainer.models import registry
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.family import BlockForm
from tests.trainer.models import tiny

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
HOST = World(rank=0, size=1, device=DEVICE)
UNFUSED = [shape for shape in tiny.SHAPES if tiny.family(shape).fused_block is None]


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the choice see a machine on which the fused kernels run; Triton's interpreter runs them."""
    monkeypatch.setattr(fusing, "without_triton", lambda _: "")


@pytest.mark.usefixtures("a_gpu")
@pytest.mark.parametrize("shape", UNFUSED)
def test_by_default_it_trains_the_model_that_its_file_describes(shape: str) -> None:
    model = tiny.model(shape).to(DEVICE)
    tokens = tiny.tokens().to(DEVICE)
    plain = model(tokens[:, :-1], tokens[:, 1:]).item()

    choice = fuse(model, ManualAttention(), TrainConfig(), "none", HOST)
    trained = model(tokens[:, :-1], tokens[:, 1:])
    trained.backward()

    assert choice.decoder is None
    assert choice.words == f"plain: the family {shape} declares no fused block; cross-entropy fused"
    assert f"{trained.item():.4f}" == f"{plain:.4f}"
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.usefixtures("a_gpu")
def test_asking_for_the_fused_kernels_is_refused_with_the_reason() -> None:
    train = TrainConfig(kernels="fused")
    with pytest.raises(UserError, match="the family gemma_like declares no fused block"):
        fuse(tiny.model("gemma_like"), ManualAttention(), train, "none", HOST)


def test_a_fused_decoder_cannot_be_made_of_it() -> None:
    with pytest.raises(ValueError, match="gemma_like declares no fused block"):
        FusedDecoder(tiny.model("gemma_like"), ManualAttention(), torch.float32)


def test_a_wrong_declaration_shows_in_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison that every declared family goes through would notice it."""
    model = tiny.model("gemma_like", head_dim=16, hidden_size=64).to(DEVICE)
    tokens = tiny.tokens().to(DEVICE)
    plain = model(tokens[:, :-1], tokens[:, 1:]).item()

    llamas = BlockForm(norm="rms", feed_forward="swiglu")
    wrong = dataclasses.replace(tiny.family("gemma_like"), fused_block=llamas)
    monkeypatch.setitem(registry._families, "gemma_like", wrong)
    decoder = FusedDecoder(model, ManualAttention(), torch.float32)
    model.fused = decoder.hidden_states
    model.cross_entropy = decoder.cross_entropy

    assert abs(model(tokens[:, :-1], tokens[:, 1:]).item() - plain) > 0.1
