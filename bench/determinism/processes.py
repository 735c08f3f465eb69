"""Two processes with the same seed: digests of the gradients of the first step and of the parameters after the third.

``python -m bench.determinism.processes JOB`` is one of them. Both run at the same time on one GPU, in each other's way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import msgspec
import torch

from bench.determinism.bits import digest
from bench.determinism.subject import batches, build, configuration
from jobctl.trainer.training.repeatable import choose_repeatable_attention

STEPS = 3


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """What one process sees."""
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    config, train = configuration(job["model"], job.get("layers", 0))
    train = msgspec.structs.replace(train, batch_size=job["batch"], **job.get("train", {}))
    attention = choose_repeatable_attention(train, device, torch.bfloat16, config.head_dim)
    subject = build(config, train, device, attention)
    source = batches(config, job["batch"])
    first = digest(subject.gradients(next(source)).values())
    for parameter in subject.parameters():
        parameter.grad = None
    source = batches(config, job["batch"])
    losses = [float(subject.stepper.run(source, 1e-4, subject.timer).loss) for _ in range(STEPS)]
    return {
        "attention": attention.name,
        "unrepeatable": attention.unrepeatable,
        "gradients": first,
        "parameters": digest(subject.parameters()),
        "losses": losses,
    }


def compare(job: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What two processes see, and whether it is the same."""
    command = [sys.executable, "-m", "bench.determinism.processes", json.dumps(job)]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        seen = [json.loads(process.communicate(timeout=seconds)[0] or "{}") for process in pair]
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        return job | {"error": f"{type(error).__name__}: {error}"[:200]}
    finally:
        for process in pair:
            process.kill()
    return verdict(job, seen)


def verdict(job: dict[str, Any], seen: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether what two processes saw is the same."""
    one, other = seen
    if not (one and other):
        return job | {"error": "a process died"}
    same = {f"same {name}": one[name] == other[name] for name in ("gradients", "parameters", "losses")}
    return job | same | {"seen": seen}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
