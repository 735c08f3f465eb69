"""The keys of a training: its length, schedule, arithmetic, layout, logs and checkpoints."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from jobctl.jobs.core.bounds import LARGEST, MOST, MOST_PROCESSES

AttentionBackend = Literal["auto", "sdpa", "cudnn", "flash_attn_2", "flash_attn_3", "flash_attn_4", "manual"]
Kernels = Literal["auto", "fused", "plain"]
OptimizerName = Literal["adamw", "torch_adamw"]
Deterministic = Literal["auto", "on", "off"]
Dtype = Literal["bfloat16", "float16", "float32"]
ActivationCheckpointing = Literal["none", "selective", "offload", "full"]
CheckpointWhenBusy = Literal["wait", "skip"]


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings of ``python -m jobctl.trainer`` besides the architecture.

    The names are those of the guide.
    """

    # how long, and how much a step
    max_iters: Annotated[int, Meta(ge=1, le=MOST, description="optimiser steps in the whole run")] = 2000
    batch_size: Annotated[int, Meta(ge=1, le=MOST, description="sequences a GPU in one micro-step")] = 4
    gradient_accumulation_steps: Annotated[
        int, Meta(ge=1, le=MOST, description="micro-steps a GPU in one step")
    ] = 1
    block_size: Annotated[int, Meta(ge=1, le=MOST, description="tokens a sequence")] = 2048
    # optimiser and schedule
    optimizer: Annotated[
        OptimizerName,
        Meta(description="adamw: the fastest AdamW for the kernels; torch_adamw: always PyTorch's"),
    ] = "adamw"
    learning_rate: Annotated[float, Meta(gt=0, le=LARGEST, description="peak learning rate")] = 3e-4
    min_lr: Annotated[float, Meta(ge=0, le=LARGEST, description="learning rate at the end of the decay")] = (
        3e-5
    )
    warmup_iters: Annotated[int, Meta(ge=0, le=MOST, description="steps of linear warm-up")] = 2000
    lr_decay_iters: Annotated[
        int, Meta(ge=0, le=MOST, description="step at which the cosine reaches min_lr; 0: at max_iters")
    ] = 0
    weight_decay: Annotated[
        float, Meta(ge=0, le=LARGEST, description="decoupled decay, on matrices only")
    ] = 0.1
    beta1: Annotated[float, Meta(ge=0, lt=1, description="AdamW's first decay rate")] = 0.9
    beta2: Annotated[float, Meta(ge=0, lt=1, description="AdamW's second decay rate")] = 0.95
    adam_eps: Annotated[float, Meta(gt=0, le=LARGEST, description="AdamW's epsilon")] = 1e-8
    grad_clip: Annotated[
        float, Meta(ge=0, le=LARGEST, description="largest gradient norm; 0: no clipping")
    ] = 1.0
    seed: Annotated[
        int, Meta(ge=0, le=2**63 - 1, description="seed of weights and of the order of samples")
    ] = 1337
    # arithmetic
    dtype: Annotated[Dtype, Meta(description="type of the matrix products; weights stay float32")] = (
        "bfloat16"
    )
    use_fp8: Annotated[bool, Meta(description="float8 matrix products in the blocks (tier 4)")] = False
    attention_backend: Annotated[
        AttentionBackend, Meta(description="auto uses the fastest one that works on the GPU")
    ] = "auto"
    compile: Annotated[bool, Meta(description="torch.compile of each block")] = True
    kernels: Annotated[
        Kernels,
        Meta(
            description="auto uses jobctl's fused kernels if they can run; with them, nothing is left to compile"
        ),
    ] = "auto"
    deterministic: Annotated[
        Deterministic,
        Meta(description="identical bits in every run; auto: on if it costs less than 1% of a step"),
    ] = "auto"
    use_cuda_graphs: Annotated[bool, Meta(description="replay the step as a CUDA graph (tier 3)")] = False
    activation_checkpointing: Annotated[
        ActivationCheckpointing,
        Meta(
            description=(
                "recomputation in backward; none: nothing; selective: results that cost one pass over "
                "memory; offload: the same, and large tensors wait in the host's memory; full: whole blocks"
            )
        ),
    ] = "none"
    document_masking: Annotated[bool, Meta(description="no attention across document boundaries")] = False
    # layout over GPUs
    use_zero1: Annotated[bool, Meta(description="shard the optimiser state over the ranks")] = False
    use_fsdp: Annotated[bool, Meta(description="shard weights, gradients and optimiser state")] = False
    # data
    use_dataloader: Annotated[bool, Meta(description="read batches in worker processes")] = False
    dataloader_num_workers: Annotated[
        int, Meta(ge=0, le=MOST_PROCESSES, description="worker processes a rank")
    ] = 4
    # evaluation, logs, checkpoints
    eval_interval: Annotated[int, Meta(ge=1, le=MOST, description="steps between validations")] = 500
    eval_iters: Annotated[
        int, Meta(ge=1, le=MOST, description="validation batches of 8 sequences, over all ranks together")
    ] = 20
    eval_only: Annotated[bool, Meta(description="validate the checkpoint and stop")] = False
    log_interval: Annotated[int, Meta(ge=1, le=MOST, description="steps between lines of the run log")] = 10
    gradient_log_interval: Annotated[
        int, Meta(ge=0, le=MOST, description="steps between per-layer norms; 0: never")
    ] = 50
    checkpoint_interval: Annotated[
        int, Meta(ge=0, le=MOST, description="steps between checkpoints; 0: at the end")
    ] = 500
    save_checkpoints: Annotated[
        bool, Meta(description="write checkpoints; false: only measure, and keep no weights")
    ] = True
    always_save_checkpoint: Annotated[
        bool, Meta(description="save after every validation, not only after the best")
    ] = False
    keep_last_checkpoints: Annotated[int, Meta(ge=1, le=MOST, description="newest checkpoints to keep")] = 2
    keep_every_checkpoint: Annotated[
        int, Meta(ge=0, le=MOST, description="also keep checkpoints of steps divisible by this; 0: none")
    ] = 0
    checkpoint_when_busy: Annotated[
        CheckpointWhenBusy,
        Meta(
            description="what to do if a save is due while another is being written; the last save always waits"
        ),
    ] = "skip"
    init_from: Annotated[
        str,
        Meta(
            pattern=r"^(auto|scratch|resume|(hf|run):.+)$",
            description="auto, scratch, resume, or the first weights of a new run: hf:FOLDER, hf:NAME of the "
            "hub, run:RUN, run:RUN@STEP, run:RUN@best",
        ),
    ] = "auto"
    # guards
    max_bad_steps: Annotated[
        int, Meta(ge=1, le=MOST, description="number of consecutive non-finite steps that ends the run")
    ] = 20
    skip_loss_spikes: Annotated[
        float,
        Meta(
            ge=0,
            le=LARGEST,
            description="skip a step if its loss is this many robust sigmas above the usual loss; 0: never",
        ),
    ] = 0.0
    hang_timeout: Annotated[
        int,
        Meta(
            ge=1, le=31_536_000, description="seconds without a step after which a rank is reported as hung"
        ),
    ] = 1800
    verify_replay: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000_000,
            description="repeat the first micro-step of every N-th step and compare all bits; 0: never",
        ),
    ] = 0
    profile: Annotated[bool, Meta(description="write a PyTorch profiler trace of a few steps")] = False
