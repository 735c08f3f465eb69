"""Training on two CPU cores beside the usual ways: ``python -m bench.cpu [--repeats 5] [--steps 8]``.

The same architecture (qwen3_smoke), the same batches, one process. Ours is the trainer's own step (chunked loss,
guards, schedule, norms). ``litgpt`` and ``transformers`` are their models under the plain loop that people write:
forward, cross-entropy, backward, clip, AdamW. The contestants take turns, so that a busy machine is unfair to none;
each round gives a ratio of its own, and the median ratio counts.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.document import of_today, save
from jobctl.jobs.catalog.loader import load_model
from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.trainer.distributed import World
from jobctl.trainer.interop.hf_folder import hf_config
from jobctl.trainer.optim.registry import build_optimizer
from jobctl.trainer.reporting.timing import StepTimer
from jobctl.trainer.training.assembly import build_whole_model
from jobctl.trainer.training.step import Stepper

CPU = torch.device("cpu")
Step = Callable[[Tensor], float]


def ours(config: ModelConfig, train: TrainConfig) -> Step:
    world = World(rank=0, size=1, device=CPU)
    model, _ = build_whole_model(config, train, CPU)
    optimizer = build_optimizer(model, train)
    stepper = Stepper(model, optimizer, train, world, "none", eos_id=0)
    timer = StepTimer(CPU)
    return lambda tokens: float(stepper.run(iter([tokens]), train.learning_rate, timer).loss)


def plain_loop(model: nn.Module, train: TrainConfig, logits_of: Callable[[Tensor], Tensor]) -> Step:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=train.learning_rate, betas=(train.beta1, train.beta2), weight_decay=0.1
    )

    def step(tokens: Tensor) -> float:
        logits = logits_of(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), train.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def transformers(config: ModelConfig, train: TrainConfig) -> Step:
    from transformers import AutoConfig, AutoModelForCausalLM

    values = hf_config(config, "float32", {}) | {"use_cache": False}
    shapes = AutoConfig.for_model(**values)
    model = AutoModelForCausalLM.from_config(shapes, dtype=torch.float32)  # type: ignore[no-untyped-call]
    return plain_loop(model.train(), train, lambda tokens: model(input_ids=tokens).logits)


def litgpt(config: ModelConfig, train: TrainConfig) -> Step:
    from litgpt import GPT, Config  # type: ignore[import-not-found]

    sizes = Config(
        name="smoke", block_size=train.block_size, vocab_size=config.vocab_size,
        padded_vocab_size=config.vocab_size, n_layer=config.num_hidden_layers, n_head=config.num_attention_heads,
        n_query_groups=config.num_key_value_heads, head_size=config.head_dim, n_embd=config.hidden_size,
        intermediate_size=config.intermediate_size, rotary_percentage=1.0, parallel_residual=False, bias=False,
        norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP", norm_eps=config.norm_eps,
        rope_base=int(config.rope_theta), norm_qk=True,
    )  # fmt: skip
    model = GPT(sizes)
    return plain_loop(model, train, model)


CONTESTANTS = {"ours": ours, "litgpt": litgpt, "transformers": transformers}


def timed(step: Step, batches: list[Tensor]) -> float:
    """Seconds."""
    begin = time.perf_counter()
    for tokens in batches:
        step(tokens)
    return time.perf_counter() - begin


def compare(repeats: int, steps: int, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    entry = load_model("qwen3_smoke")
    train = msgspec.structs.replace(
        msgspec.convert(entry.train, TrainConfig), dtype="float32", compile=False, warmup_iters=0
    )
    steppers = {name: make(entry.config, train) for name, make in CONTESTANTS.items()}
    torch.manual_seed(0)
    shape = (train.batch_size, train.block_size + 1)
    batches = [torch.randint(entry.config.vocab_size, shape) for _ in range(steps)]
    losses = {name: step(batches[0]) for name, step in steppers.items()}
    rates: dict[str, list[float]] = {name: [] for name in steppers}
    tokens = steps * train.batch_size * train.block_size
    for turn in range(repeats):
        order = list(steppers)[turn % 3 :] + list(steppers)[: turn % 3]
        for name in order:
            rates[name].append(round(tokens / timed(steppers[name], batches), 1))
    ratios = {
        name: round(statistics.median(a / b for a, b in zip(rates["ours"], rates[name], strict=True)), 3)
        for name in rates
    }
    packages = ("torch", "litgpt", "transformers")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads used",
        "load_average": os.getloadavg()[0],
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "model": entry.name,
        "batch": f"{train.batch_size} x {train.block_size} tokens, float32, {steps} steps a round",
        "first_loss": losses,
        "tokens_per_second": rates,
        "ours_over": ratios,
    }


def table(result: dict[str, Any]) -> str:
    lines = ["contestant     tokens/s (median)   best   ours / it (median of rounds)"]
    for name, rates in result["tokens_per_second"].items():
        ratio = result["ours_over"][name]
        lines.append(f"{name:<14} {statistics.median(rates):>17,.0f} {max(rates):>6,.0f}   {ratio:>5.2f}")
    return "\n".join(lines)


def missing() -> list[str]:
    """Packages of the contestants that are not installed."""
    return [name for name in CONTESTANTS if name != "ours" and not importlib.util.find_spec(name)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cpu", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if missing():
        parser.error(f"not installed: {', '.join(missing())}; docs/training.md says how")
    result = compare(options.repeats, options.steps, options.threads)
    print(table(result))
    path = of_today("cpu")
    save(path, **result)
    print(path)


if __name__ == "__main__":
    main()
