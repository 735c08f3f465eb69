"""Every operation of the training pass in the shapes and layouts that it has there, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.determinism.attentions import FUSED_WAYS, WAYS, told
from bench.determinism.bits import Outputs
from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.trainer.distributed import World
from jobctl.trainer.fused.activation import gelu_project, swiglu_project
from jobctl.trainer.fused.add_norm import add_norm
from jobctl.trainer.fused.cross_entropy import HeadCrossEntropy
from jobctl.trainer.fused.embedding import look_up
from jobctl.trainer.fused.linear import Projection, project, project_apart
from jobctl.trainer.fused.rotated_heads import rotated
from jobctl.trainer.models.layers.norm import LayerNorm, RMSNorm
from jobctl.trainer.models.loss import CrossEntropy
from jobctl.trainer.optim.fused_adamw import FusedAdamW
from jobctl.trainer.training.gradients import Gradients

Run = Callable[[], Outputs]


class Operations:
    """The operations of a model on ``batch`` sequences, by name; each gives its outputs and gradients."""

    def __init__(self, config: ModelConfig, batch: int, device: torch.device, length: int = 2048) -> None:
        self.config = config
        self.batch = batch
        self.device = device
        self.length = length
        self.rms = config.architecture != "gpt2"
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads

    def random(self, *shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.randn(*shape, device=self.device, dtype=dtype)

    def hidden(self, width: int) -> Tensor:
        return self.random(self.batch, self.length, width)

    def all(self) -> Iterator[tuple[str, Run]]:
        for way in FUSED_WAYS:
            yield f"attention, {way}", self.attention(way)
        yield from self.products()
        yield "add and norm", self.add_norm()
        if self.rms:
            yield "q/k-norm and rotation", self.rotation()
        yield "embedding", self.embedding()
        yield "head and loss", self.head()
        yield "gradient norms", self.norms()
        yield "AdamW", self.adamw()
        yield "plain norm", self.plain_norm()
        yield "plain embedding", self.plain_embedding()
        yield "plain head and loss", self.plain_head()
        yield "plain product", self.plain_product()

    def call(
        self, function: Callable[..., Any], *inputs: Tensor, parameters: tuple[nn.Parameter, ...] = ()
    ) -> Run:
        """Outputs of ``function`` and gradients of its inputs and of ``parameters``, from fixed upstream gradients."""
        leaves = [tensor.requires_grad_(tensor.is_floating_point()) for tensor in inputs]
        wanted = [*(leaf for leaf in leaves if leaf.requires_grad), *parameters]
        upstream: list[Tensor] = []

        def run() -> Outputs:
            for tensor in wanted:
                tensor.grad = None
            result = function(*leaves)
            outputs = list(result) if isinstance(result, tuple) else [result]
            if not upstream:
                upstream.extend(torch.randn_like(output) for output in outputs)
            torch.autograd.backward(outputs, upstream)
            gradients = {f"gradient {i}": t.grad for i, t in enumerate(wanted) if t.grad is not None}
            return {f"output {i}": output.detach() for i, output in enumerate(outputs)} | gradients

        return run

    def projection(self, *rows: int, columns: int) -> Projection:
        weights = [nn.Parameter(self.random(r, columns, dtype=torch.float32)) for r in rows]
        projection = Projection(weights, torch.bfloat16)
        for weight, copy in zip(weights, projection.copies, strict=True):
            copy.copy_(weight.detach())
        return projection

    def attention(self, way: str) -> Run:
        """With the queries and keys where the rotation puts them, and the values where the product does."""
        size = self.config.head_dim
        attention = WAYS[way].make()
        qkv = self.random(self.batch, self.length, self.heads + 2 * self.kv_heads, size)
        q = self.random(self.batch, self.length, self.heads, size)
        k = self.random(self.batch, self.length, self.kv_heads, size)
        run = self.call(attention, q, k, qkv[:, :, self.heads + self.kv_heads :].detach())

        def named() -> Outputs:
            with told(way):
                names = {"output 0": "out", "gradient 0": "dq", "gradient 1": "dk", "gradient 2": "dv"}
                return {names[name]: tensor for name, tensor in run().items()}

        return named

    def products(self) -> Iterator[tuple[str, Run]]:
        c = self.config
        size = self.config.head_dim
        parts = (self.heads * size, self.kv_heads * size, self.kv_heads * size)
        qkv = self.projection(*parts, columns=c.hidden_size)
        multiply = project if self.rms else project_apart
        yield "product of q, k and v", self.product(multiply, qkv, c.hidden_size)
        out = self.projection(c.hidden_size, columns=self.heads * size)
        yield "product after attention", self.product(project, out, self.heads * size)
        rows = (c.intermediate_size, c.intermediate_size) if self.rms else (c.intermediate_size,)
        up = self.projection(*rows, columns=c.hidden_size)
        yield "product up", self.product(project, up, c.hidden_size)
        down = self.projection(c.hidden_size, columns=c.intermediate_size)
        activate = swiglu_project if self.rms else gelu_project
        width = (2 if self.rms else 1) * c.intermediate_size
        yield "activation and product down", self.product(activate, down, width)

    def product(self, multiply: Callable[..., Any], projection: Projection, width: int) -> Run:
        return self.call(lambda x: multiply(x, projection), self.hidden(width), parameters=projection.weights)

    def add_norm(self) -> Run:
        gain = self.random(self.config.hidden_size, dtype=torch.float32)
        x = self.hidden(self.config.hidden_size)
        delta = self.hidden(self.config.hidden_size)
        return self.call(
            lambda a, b, w: add_norm(a, b, w, 1e-6, "rms" if self.rms else "layer"), x, delta, gain
        )

    def rotation(self) -> Run:
        size = self.config.head_dim
        cos, sin = (self.random(self.length, size // 2, dtype=torch.float32) for _ in range(2))
        gains = [self.random(size, dtype=torch.float32) for _ in range(2)]
        return self.call(
            lambda qkv, q, k: rotated(qkv, cos, sin, q, k, self.heads, self.kv_heads, 1e-6),
            self.hidden((self.heads + 2 * self.kv_heads) * size), *gains,
        )  # fmt: skip

    def tokens(self) -> Tensor:
        """As text has them: few ids make most of it."""
        share = torch.rand(self.batch, self.length, device=self.device).pow(6)
        return (share * self.config.vocab_size).long()

    def embedding(self) -> Run:
        table = self.projection(self.config.vocab_size, columns=self.config.hidden_size)
        return self.call(lambda t: look_up(t, table), self.tokens(), parameters=table.weights)

    def head(self) -> Run:
        head = self.projection(self.config.vocab_size, columns=self.config.hidden_size)
        head.working.mul_(0.02)
        loss = HeadCrossEntropy(head)
        targets = self.tokens()
        return self.call(
            lambda x: loss(x, head.weights[0], targets),
            self.hidden(self.config.hidden_size),
            parameters=head.weights,
        )

    def norms(self) -> Run:
        shapes = [(self.config.hidden_size, self.config.hidden_size), (self.config.hidden_size,), (128,)]
        parameters = {
            str(i): nn.Parameter(self.random(*s, dtype=torch.float32)) for i, s in enumerate(shapes)
        }
        for parameter in parameters.values():
            parameter.grad = torch.randn_like(parameter)
        gradients = Gradients(parameters, World(rank=0, size=1, device=self.device))
        return lambda: {"squares": gradients.measure(torch.zeros((), device=self.device), None)[1]}

    def adamw(self) -> Run:
        start = self.random(self.config.intermediate_size, self.config.hidden_size, dtype=torch.float32)
        gradient = torch.randn_like(start)
        one = torch.ones((), device=self.device)
        never = torch.zeros((), dtype=torch.bool, device=self.device)

        def run() -> Outputs:
            weight = nn.Parameter(start.clone())
            weight.grad = gradient
            optimizer = FusedAdamW({"weight": weight}, TrainConfig(), [])
            optimizer.step(one, never, 1e-3)
            return {"weight": weight, "second": optimizer.state()["weight.exp_avg_sq"]}

        return run

    def plain_norm(self) -> Run:
        make = RMSNorm if self.rms else LayerNorm
        norm = make(self.config.hidden_size, 1e-6).to(self.device)
        x = self.random(self.batch, self.length, self.config.hidden_size, dtype=torch.float32)
        return self.call(norm, x, parameters=tuple(norm.parameters()))

    def plain_embedding(self) -> Run:
        weight = nn.Parameter(
            self.random(self.config.vocab_size, self.config.hidden_size, dtype=torch.float32)
        )
        return self.call(lambda t: F.embedding(t, weight), self.tokens(), parameters=(weight,))

    def plain_head(self) -> Run:
        weight = nn.Parameter(
            0.02 * self.random(self.config.vocab_size, self.config.hidden_size, dtype=torch.float32)
        )
        targets = self.tokens()
        loss = CrossEntropy()

        def compute(x: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16):
                return loss(x, weight, targets)

        return self.call(compute, self.hidden(self.config.hidden_size), parameters=(weight,))

    def plain_product(self) -> Run:
        weight = nn.Parameter(
            self.random(self.config.hidden_size, self.config.hidden_size, dtype=torch.float32)
        )

        def compute(x: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16):
                return F.linear(x, weight)

        return self.call(compute, self.hidden(self.config.hidden_size), parameters=(weight,))
