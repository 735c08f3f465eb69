"""The fused blocks under activation checkpointing: the same bits, and less kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from jobctl.jobs.catalog.schema import ActivationCheckpointing
from jobctl.trainer.fused.fused_decoder import FusedDecoder
from jobctl.trainer.fused.host_stash import HostStash
from jobctl.trainer.fused.linear import Projection
from jobctl.trainer.fused.recompute import Discarding
from jobctl.trainer.models.attention import ManualAttention, choose_attention
from jobctl.trainer.models.layers.decoder import Decoder
from tests.trainer.models import tiny

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if HAS_GPU else torch.device("cpu")
DTYPE = torch.bfloat16 if HAS_GPU else torch.float32
LAYERS = 6
"""Of these, three blocks keep their largest tensor in the host's memory."""
WAYS: tuple[ActivationCheckpointing, ...] = ("selective", "offload", "full")


def fused(shape: str, how: ActivationCheckpointing, attention: str) -> tuple[Decoder, FusedDecoder]:
    """Return a small model of the shape, and what computes it."""
    model = tiny.model(shape, head_dim=16, hidden_size=64, vocab_size=256, num_hidden_layers=LAYERS).to(
        DEVICE
    )
    kernel = ManualAttention() if attention == "manual" else choose_attention(attention, DEVICE, DTYPE, 16)
    decoder = FusedDecoder(model, kernel, DTYPE, checkpointing=how)
    model.fused = decoder.hidden_states
    model.cross_entropy = decoder.cross_entropy
    return model, decoder


def loss_and_gradients(shape: str, how: ActivationCheckpointing, attention: str) -> dict[str, Tensor]:
    """Return the gradients of two micro-steps by name, and the second loss as ``loss``."""
    model, _ = fused(shape, how, attention)
    for seed in (1, 2):
        tokens = tiny.tokens(2, 9, seed=seed).to(DEVICE)
        loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert len(found) == len(list(model.parameters()))
    return {**found, "loss": loss.detach()}


@pytest.mark.parametrize("attention", ["manual", "sdpa"])
@pytest.mark.parametrize("shape", tiny.FUSED)
def test_losses_and_gradients_are_the_same_bits(shape: str, attention: str) -> None:
    expected = loss_and_gradients(shape, "none", attention)
    for how in WAYS:
        got = loss_and_gradients(shape, how, attention)
        for name, tensor in expected.items():
            assert torch.equal(got[name], tensor), (how, name)


def kept_of_a_token(shape: str, how: ActivationCheckpointing, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return the elements of storage that a block keeps of a token for backward, weights and tables apart."""
    model, decoder = fused(shape, how, "sdpa")
    weights = [*model.parameters(), *model.buffers(), *(p.working for p in decoder.projections)]
    known = {weight.untyped_storage().data_ptr() for weight in weights}
    tokens = tiny.tokens(2, 32).to(DEVICE)
    x = torch.randn(2, 32, 64, device=DEVICE, dtype=DTYPE, requires_grad=True)
    storages: dict[int, Tensor] = {}

    def note(kept: Any) -> Any:
        pointer = kept.untyped_storage().data_ptr() if isinstance(kept, Tensor) else 0
        if pointer and pointer not in known:
            storages[pointer] = kept
        return kept

    pack = Discarding._pack
    monkeypatch.setattr(Discarding, "_pack", lambda self, tensor: note(pack(self, tensor)))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
        decoder.blocks[0](x, x * 2, None)
    return (
        sum(tensor.untyped_storage().nbytes() for tensor in storages.values()) / tokens.numel() / x.itemsize
    )


@pytest.mark.parametrize("shape", tiny.FUSED)
def test_selective_keeps_neither_norms_nor_activations_nor_rotated_heads(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = kept_of_a_token(shape, "none", monkeypatch)
    less = kept_of_a_token(shape, "selective", monkeypatch)
    config = tiny.config(shape, head_dim=16, hidden_size=64)
    heads = config.num_attention_heads + config.num_key_value_heads
    # On a CPU torch 2.6 keeps copies of the rotated heads, which are no tensor of ours.
    keeps_heads = torch.__version__.startswith("2.6") and DEVICE.type == "cpu"
    rotated = 0 if tiny.family(shape).name == "gpt2" or keeps_heads else heads * config.head_dim
    discarded = 2 * config.hidden_size + config.intermediate_size + rotated
    assert everything - less == pytest.approx(discarded, abs=1)


@pytest.mark.parametrize("shape", tiny.FUSED)
def test_offload_keeps_as_selective_does_without_the_input_of_the_activation(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    selective = kept_of_a_token(shape, "selective", monkeypatch)
    less = kept_of_a_token(shape, "offload", monkeypatch)
    config = tiny.config(shape, head_dim=16, hidden_size=64)
    inputs = 1 if tiny.family(shape).name == "gpt2" else 2
    assert selective - less == pytest.approx(inputs * config.intermediate_size, abs=1)


def test_tensors_leave_in_forward_and_come_back_one_block_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    model, decoder = fused("llama-gqa", "offload", "manual")
    block_of = {id(block.down): index for index, block in enumerate(decoder.blocks)}

    def note(name: str) -> Callable[..., Any]:
        method = getattr(HostStash, name)

        def noted(stash: HostStash, block: int, *tensors: Tensor) -> Any:
            if name != "fetch" or block in stash._like:
                events.append(f"{name} {block}")
            return method(stash, block, *tensors)

        return noted

    def add_product(projection: Projection, *tensors: Tensor) -> None:
        if id(projection) in block_of:
            events.append(f"backward {block_of[id(projection)]}")
        added(projection, *tensors)

    for name in ("leave", "fetch", "take"):
        monkeypatch.setattr(HostStash, name, note(name))
    added = Projection.add_product
    monkeypatch.setattr(Projection, "add_product", add_product)

    tokens = tiny.tokens(2, 9).to(DEVICE)
    model(tokens[:, :-1], tokens[:, 1:]).backward()
    assert events == [
        *("leave 0", "leave 2", "leave 3", "backward 5"),
        *("fetch 3", "backward 4"),
        *("fetch 2", "take 3", "backward 3"),
        *("take 2", "backward 2"),
        *("fetch 0", "backward 1", "take 0", "backward 0"),
    ]


def test_an_evaluation_keeps_nothing_on_the_host() -> None:
    model, decoder = fused("llama-gqa", "offload", "manual")
    tokens = tiny.tokens(2, 9).to(DEVICE)
    with torch.no_grad():
        model(tokens[:, :-1], tokens[:, 1:])

    assert decoder.stash is not None
    assert decoder.stash._arena is None


def test_selective_makes_a_discarded_tensor_again_once_for_all_views() -> None:
    made: list[int] = []

    def double(x: Tensor) -> Callable[[], Sequence[Tensor]]:
        return lambda: (made.append(1), [x * 2, x * 3])[1]

    x = torch.randn(3, 4)
    weight = torch.randn(3, 4, requires_grad=True)
    with Discarding() as discarding:
        twice = x * 2
        thrice = x * 3
        discarding.discard(double(x), twice, thrice)
        out = (weight * twice).sum() + (weight.t() * thrice.t()).sum()
    twice.zero_()  # what was discarded is not looked at any more
    out.backward()
    assert made == [1]
    torch.testing.assert_close(weight.grad, x * 5)


def test_what_was_not_discarded_is_kept() -> None:
    x = torch.randn(3, 4)
    weight = torch.randn(3, 4, requires_grad=True)
    with Discarding() as discarding:
        discarding.discard(lambda: [x], torch.randn(3, 4))
        out = (weight * x).sum()
    out.backward()
    assert torch.equal(weight.grad, x)  # type: ignore[arg-type]


def test_an_error_in_the_block_leaves_no_hook_behind() -> None:
    x = torch.randn(3, 4)
    weight = torch.randn(3, 4, requires_grad=True)

    def broken() -> None:
        with Discarding() as discarding:
            discarding.discard(lambda: [x * 0], x)
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        broken()
    (weight * x).sum().backward()
    assert torch.equal(weight.grad, x)  # type: ignore[arg-type]
