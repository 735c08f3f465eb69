"""What every architecture promises to the loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.attention import SDPBackend

from jobctl.jobs.catalog.loader import load_family
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.distributed import SHARDS_ON_CPU
from jobctl.trainer.models.attention import ManualAttention, SdpaAttention, SdpaKernel
from jobctl.trainer.models.building import build_model
from tests.trainer.models import tiny

ROTARY = [shape for shape in tiny.SHAPES if load_family(tiny.family(shape).name).rotary_positions]


@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_initial_spread_follows_the_rule(shape: str) -> None:
    torch.manual_seed(0)
    model = build_model(
        tiny.config(shape, num_hidden_layers=8, hidden_size=144, head_dim=36), ManualAttention()
    )
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            assert not bool(parameter.any()), name
        elif parameter.ndim == 1:
            gain = 0.0 if tiny.family(shape).name == "gemma_like" else 1.0
            assert torch.equal(parameter, torch.full_like(parameter, gain)), name
        else:
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            expected = 0.02 / math.sqrt(16) if residual else 0.02
            assert float(parameter.detach().std()) == pytest.approx(expected, rel=0.08), name


@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_a_fresh_model_knows_nothing(shape: str) -> None:
    torch.manual_seed(0)
    model = build_model(tiny.config(shape), ManualAttention())
    with torch.no_grad():
        loss = model(tiny.tokens(), tiny.tokens(seed=5))
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert float(loss) == pytest.approx(math.log(101), abs=0.1)


@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_losses_one_by_one_add_up_to_the_mean(shape: str) -> None:
    model = tiny.model(shape)
    words = tiny.tokens()
    targets = tiny.tokens(seed=2)
    targets[1, 3:] = -100
    losses = model(words, targets, reduction="none")
    assert losses.shape == targets.shape
    assert losses.dtype == torch.float32
    assert torch.all(losses[targets == -100] == 0)
    torch.testing.assert_close(losses.sum() / (targets != -100).sum(), model(words, targets))


@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_a_later_token_changes_no_earlier_logit(shape: str) -> None:
    model = tiny.model(shape)
    words = tiny.tokens()
    changed = words.clone()
    changed[:, 9] = (changed[:, 9] + 1) % 101
    before = model(words)
    after = model(changed)
    torch.testing.assert_close(before[:, :9], after[:, :9], rtol=0, atol=0)
    assert not torch.allclose(before[:, 9:], after[:, 9:])


@pytest.mark.parametrize("shape", ROTARY)
def test_documents_in_one_row_are_as_if_alone(shape: str) -> None:
    """With rotary positions only distances count, so a document may stand anywhere."""
    model = tiny.model(shape)
    words = tiny.tokens(1, 20)
    ids = torch.tensor([[0] * 8 + [1] * 12])
    packed = model(words, document_ids=ids)
    alone = torch.cat([model(words[:, :8]), model(words[:, 8:])], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)


def test_documents_of_learned_positions_do_not_see_each_other() -> None:
    model = tiny.model("gpt2")
    words = tiny.tokens(1, 20)
    changed = words.clone()
    changed[:, :8] = (changed[:, :8] + 1) % 101
    ids = torch.tensor([[0] * 8 + [1] * 12])
    before = model(words, document_ids=ids)
    after = model(changed, document_ids=ids)
    torch.testing.assert_close(before[:, 8:], after[:, 8:], rtol=0, atol=0)


@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_works_under_autocast(shape: str) -> None:
    model = tiny.model(shape)
    words = tiny.tokens()
    targets = tiny.tokens(seed=2)
    exact = model(words, targets).detach()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(words, targets)
        assert model(words).dtype == torch.bfloat16
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(exact), rel=2e-2)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


def test_position_tables_stay_float32_and_out_of_the_state() -> None:
    model = tiny.model("qwen3")
    assert model.rotary is not None
    assert model.rotary.cos.dtype == torch.float32
    assert not [name for name in model.state_dict() if "rotary" in name]
    assert all(block.self_attn.rotary is model.rotary for block in model.blocks)


def test_a_sequence_beyond_the_positions_is_refused() -> None:
    with pytest.raises(UserError, match="65 tokens is longer than the model's 64"):
        tiny.model("gpt2")(tiny.tokens(length=65))


@pytest.mark.parametrize("shape", tiny.ONE_OF_EACH)
def test_compiled_blocks_give_the_same_loss(shape: str) -> None:
    """In one graph a block, with the kernel picked as on a GPU."""
    kernel = SdpaKernel("math", SDPBackend.MATH)
    model = tiny.model(shape, SdpaAttention(kernel, kernel))
    words = tiny.tokens()
    targets = tiny.tokens(seed=2)
    expected = model(words, targets)
    for block in model.blocks:
        block.compile(backend="aot_eager", fullgraph=True)
    loss = model(words, targets)
    loss.backward()
    torch.testing.assert_close(loss, expected)


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.skipif(not SHARDS_ON_CPU, reason="this torch shards on GPUs only")
@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_works_sharded_in_mixed_precision(shape: str, mesh: DeviceMesh) -> None:
    plain = tiny.model(shape)
    sharded = tiny.model(shape)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in sharded.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)  # type: ignore[arg-type]
    fully_shard(sharded, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    words = tiny.tokens()
    targets = tiny.tokens(seed=2)
    loss = sharded(words, targets)
    expected = plain(words, targets)
    (loss * 2).backward()
    (expected * 2).backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.detach(), expected.detach(), rtol=2e-2, atol=0)
    weights = dict(plain.named_parameters())
    for (name, ours), theirs in zip(sharded.named_parameters(), plain.parameters(), strict=True):
        difference = ours.grad.full_tensor() - theirs.grad  # type: ignore[union-attr,operator]

        # The bias of all keys has no gradient but rounding, so that of the queries is the measure.
        measure = weights[name.replace("k_proj.bias", "q_proj.bias")].grad
        assert float(difference.norm() / measure.norm()) < 0.06, name  # type: ignore[union-attr]
    assert sharded.rotary is None or sharded.rotary.cos.dtype == torch.float32


def test_a_block_adds_to_the_stream_and_takes_nothing_from_it() -> None:
    """With its last matrices at zero a block passes on what it gets."""
    model = tiny.model("qwen3")
    (block, _) = model.each_block()
    with torch.no_grad():
        for weight in block.residual_weights():
            weight.zero_()
    x = torch.randn(2, 5, 48)
    assert torch.equal(block(x), x)


def test_a_parameter_that_no_rule_fills_is_refused_by_its_name() -> None:
    """Or it would begin with whatever the memory held before."""
    model = tiny.model("qwen3")
    model.norm.register_parameter("temperature", torch.nn.Parameter(torch.empty(3)))
    with pytest.raises(ValueError, match=r"norm\.temperature is neither a matrix"):
        model.init_weights()


def test_a_tied_head_is_the_table_and_no_second_matrix() -> None:
    model = tiny.model("llama-tied")
    assert model.head_weight is model.embed_tokens.weight
    assert "lm_head.weight" not in model.state_dict()
    untied = tiny.model("llama-mha")
    assert untied.head_weight.data_ptr() != untied.embed_tokens.weight.data_ptr()
