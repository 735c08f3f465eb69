"""Loss of bfloat16 and float8 on real text: ``python -m bench.curves MODEL bfloat16|float8 DATASET OUT.json``.

300 steps of 4 sequences from the same weights and in the same order; the rate rises over 50 steps to 3e-4.
``python -m bench.curves plot RESULTS.json OUT.png`` draws the curves of a file of ``bench/results`` (needs matplotlib).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from jobctl.jobs.catalog.loader import load_model
from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.prep.shards.format import read_meta
from jobctl.trainer.models.attention import choose_attention
from jobctl.trainer.models.building import build_model
from jobctl.trainer.optim.registry import build_optimizer
from jobctl.trainer.training.gradients import clip_factor

STEPS = 300
BATCH = 4
BLOCK = 2048
WARMUP = 50
RATE = 3e-4


def batches(path: Path, device: torch.device) -> Iterator[torch.Tensor]:
    """int64 ``[BATCH, BLOCK + 1]`` of a data set, shuffled anew in each epoch."""
    ids = np.memmap(path / "train.bin", dtype=read_meta(path).dtype, mode="r")
    count = (len(ids) - 1) // BLOCK
    for step in range(STEPS):
        order = np.random.default_rng(step * BATCH // count).permutation(count)
        blocks = order[np.arange(step * BATCH, (step + 1) * BATCH) % count]
        rows = np.stack([ids[i * BLOCK : (i + 1) * BLOCK + 1] for i in blocks]).astype(np.int64)
        yield torch.from_numpy(rows).to(device)


def train(name: str, arithmetic: str, path: Path) -> list[float]:
    """The loss of each step."""
    from jobctl.trainer.fused.fused_decoder import FusedDecoder

    device = torch.device("cuda", 0)
    config = load_model(name).config
    attention = choose_attention("auto", device, torch.bfloat16, config.head_dim)
    torch.manual_seed(0)
    with torch.device(device):
        model = build_model(config, attention)
    fused = FusedDecoder(model, attention, torch.bfloat16)
    optimizer = build_optimizer(model, TrainConfig(), "none", fused)
    if arithmetic == "float8":
        fused.use_fp8()
    never = torch.zeros((), dtype=torch.bool, device=device)
    losses = []
    for step, tokens in enumerate(batches(path, device)):
        hidden = fused.hidden_states(tokens[:, :-1])
        loss = fused.cross_entropy(hidden, model.head_weight, tokens[:, 1:])
        loss.backward()
        losses.append(loss.detach())
        norms = torch._foreach_norm([p.grad for p in model.parameters() if p.grad is not None], 2)
        factor = clip_factor(torch.stack(norms).norm(), 1.0)
        optimizer.step(factor, never, RATE * min(1.0, (step + 1) / WARMUP))
        for parameter in model.parameters():
            parameter.grad = None
        fused.end_step(copied=optimizer.updates_copies)
    return [float(loss) for loss in torch.stack(losses)]


def plot(results: Path, out: Path) -> None:
    """A panel for each model, both arithmetics in it."""
    import matplotlib.pyplot as plt

    curves = json.loads(results.read_text())["curves"]
    models = list(dict.fromkeys(curve["model"] for curve in curves))
    figure, panels = plt.subplots(1, len(models), figsize=(5 * len(models), 3.5), sharey=True, squeeze=False)
    for panel, model in zip(panels[0], models, strict=True):
        for curve in curves:
            if curve["model"] == model:
                panel.plot(curve["losses"], label=curve["arithmetic"], linewidth=0.9)
        panel.set(title=model, xlabel="step")
        panel.legend()
    panels[0][0].set_ylabel("loss")
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def main() -> None:
    match sys.argv[1:]:
        case ["plot", results, out]:
            plot(Path(results), Path(out))
        case [name, "bfloat16" | "float8" as arithmetic, data, out]:
            losses = train(name, arithmetic, Path(data))
            facts = {"model": name, "arithmetic": arithmetic, "losses": losses}
            Path(out).write_text(json.dumps(facts) + "\n")
            print(f"{name} {arithmetic}: mean loss of the last 50 steps {sum(losses[-50:]) / 50:.4f}")
        case _:
            print(__doc__, file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
