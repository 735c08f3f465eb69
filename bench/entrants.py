"""The trainers that the benchmark compares, each behind the same two calls: the loss of a batch, and an update.

Peers are driven through their own public modules, as their own training scripts drive them on one GPU: compiled the
way they compile, AdamW fused, gradients clipped to 1. ``master`` is the type of the weights that the optimiser keeps:
float32 (products in bfloat16 by autocast) or bfloat16 throughout.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig

if TYPE_CHECKING:
    from jobctl.trainer.training.step import Stepper

Master = Literal["float32", "bfloat16"]


class Entrant(Protocol):
    """A trainer. ``step`` queues one optimiser step on the device: ``micro_steps`` batches, clipping, update."""

    def step(self, batches: Iterator[Tensor], micro_steps: int) -> Tensor: ...


class Ours:
    """The trainer's own Stepper, with the catalogue's settings."""

    def __init__(self, config: ModelConfig, device: torch.device, train: TrainConfig) -> None:
        from jobctl.trainer import distributed as parallel
        from jobctl.trainer.fused.choice import fuse
        from jobctl.trainer.optim.registry import build_optimizer
        from jobctl.trainer.reporting.timing import StepTimer
        from jobctl.trainer.training.assembly import build_whole_model
        from jobctl.trainer.training.step import Stepper

        model, attention = build_whole_model(config, train, device)
        world = parallel.World(rank=0, size=1, device=device)
        kernels = fuse(model, attention, train, "none", world)
        self.note = kernels.words
        optimizer = build_optimizer(model, train, "none", kernels.decoder)
        self.timer = StepTimer(device)
        self.train = train
        self.world = world
        self.make: Callable[[TrainConfig], Stepper] = lambda t: Stepper(
            model, optimizer, t, world, "none", eos_id=0, fused=kernels.decoder
        )
        self.steppers: dict[int, Stepper] = {}

    def stepper(self, micro_steps: int) -> Stepper:
        """The one that takes steps of so many micro-steps."""
        import msgspec

        if micro_steps not in self.steppers:
            changed = msgspec.structs.replace(self.train, gradient_accumulation_steps=micro_steps)
            self.steppers[micro_steps] = self.make(changed)
        return self.steppers[micro_steps]

    def step(self, batches: Iterator[Tensor], micro_steps: int) -> Tensor:
        return self.stepper(micro_steps).run(batches, 1e-4, self.timer).loss


class Peer:
    """A model and the ordinary training step around it."""

    def __init__(
        self, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], master: Master, note: str
    ) -> None:
        self.model = model
        self.loss = loss
        self.note = note
        self.autocast = master == "float32"
        self.parameters = list(model.parameters())
        decayed = [p for p in self.parameters if p.ndim >= 2]
        others = [p for p in self.parameters if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=True)

    def step(self, batches: Iterator[Tensor], micro_steps: int) -> Tensor:
        total = torch.zeros((), device=self.parameters[0].device)
        for _ in range(micro_steps):
            tokens = next(batches).to(total.device, non_blocking=True)
            with torch.autocast("cuda", torch.bfloat16, enabled=self.autocast):
                loss = self.loss(tokens[:, :-1], tokens[:, 1:]) / micro_steps
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total


def torchtitan(config: ModelConfig, device: torch.device, master: Master) -> Peer:
    """Its LLaMA-3 and Qwen3 models, blocks and loss compiled as its ``apply_compile`` and ``build_…_loss`` do."""
    model = torchtitan_model(config, device, master)
    for name, block in model.layers.named_children():
        model.layers.register_module(name, torch.compile(block, fullgraph=True))
    from torchtitan.components.loss import cross_entropy_loss

    compiled = torch.compile(cross_entropy_loss)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return compiled(model(x), y) / y.numel()

    return Peer(model, loss, master, "blocks and loss compiled")


def torchtitan_model(config: ModelConfig, device: torch.device, master: Master) -> Any:
    shape = {
        "dim": config.hidden_size, "n_layers": config.num_hidden_layers, "n_heads": config.num_attention_heads,
        "n_kv_heads": config.num_key_value_heads, "vocab_size": config.vocab_size, "norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta, "max_seq_len": config.max_position_embeddings,
    }  # fmt: skip
    default = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, master))
    try:
        with torch.device(device):
            if config.architecture == "qwen3":
                from torchtitan.models.qwen3.model.args import Qwen3ModelArgs
                from torchtitan.models.qwen3.model.model import Qwen3Model

                extra = {"head_dim": config.head_dim, "hidden_dim": config.intermediate_size}
                model: Any = Qwen3Model(Qwen3ModelArgs(**shape, **extra))
            else:
                from torchtitan.models.llama3.model.args import TransformerModelArgs
                from torchtitan.models.llama3.model.model import Transformer

                narrow = int(
                    8 * config.hidden_size / 3
                )  # its own rule for the feed-forward width, made to fit
                factor = (config.intermediate_size - 64) / narrow
                model = Transformer(TransformerModelArgs(**shape, ffn_dim_multiplier=factor))
                assert model.layers["0"].feed_forward.w1.weight.shape[0] == config.intermediate_size
            with torch.no_grad():
                model.init_weights(buffer_device=device)
    finally:
        torch.set_default_dtype(default)
    return model


def litgpt(config: ModelConfig, device: torch.device, master: Master) -> Peer:
    """Its GPT, compiled whole, with its chunked cross-entropy, as ``litgpt pretrain`` does."""
    from litgpt.config import Config
    from litgpt.model import GPT
    from litgpt.utils import chunked_cross_entropy

    with torch.device(device):
        model = GPT(
            Config(
                name="bench", block_size=config.max_position_embeddings, n_layer=config.num_hidden_layers,
                n_embd=config.hidden_size, n_head=config.num_attention_heads,
                n_query_groups=config.num_key_value_heads, head_size=config.head_dim, bias=False,
                padded_vocab_size=config.vocab_size, vocab_size=config.vocab_size, rotary_percentage=1.0,
                parallel_residual=False, norm_class_name="RMSNorm", norm_eps=config.norm_eps,
                norm_qk=config.architecture == "qwen3", mlp_class_name="LLaMAMLP",
                intermediate_size=config.intermediate_size, rope_base=int(config.rope_theta),
            )
        )  # fmt: skip
    model = model.to(getattr(torch, master))
    compiled = torch.compile(model)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return chunked_cross_entropy(compiled(x), y.contiguous(), chunk_size=0)

    return Peer(model, loss, master, "compiled whole")


def transformers(config: ModelConfig, device: torch.device, master: Master) -> Peer:
    """The model class of ``transformers``, compiled whole, with SDPA attention."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from jobctl.trainer.interop.hf_folder import hf_config

    values = hf_config(config, master, {})
    kind = values.pop("model_type")
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(kind, **values), attn_implementation="sdpa", dtype=getattr(torch, master)
        )
    compiled = torch.compile(model)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        logits = compiled(input_ids=x, use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), y.flatten())

    return Peer(model, loss, master, "compiled whole")


def nanogpt(config: ModelConfig, device: torch.device, master: Master, path: str) -> Peer:
    """nanoGPT's model file, compiled whole as its ``train.py`` does."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.device(device):
        model = module.GPT(
            module.GPTConfig(
                block_size=config.max_position_embeddings, vocab_size=config.vocab_size,
                n_layer=config.num_hidden_layers, n_head=config.num_attention_heads, n_embd=config.hidden_size,
                dropout=0.0, bias=False,
            )
        )  # fmt: skip
    model = model.to(getattr(torch, master))
    compiled = torch.compile(model)
    return Peer(model, lambda x, y: compiled(x.contiguous(), y.contiguous())[1], master, "compiled whole")
