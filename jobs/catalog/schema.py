"""The types of everything the catalogue may say.

Every key is declared once, here, with its type, its bounds and one line of help. The YAML files, ``jobctl
--set``, ``jobctl explain`` and the command lines of the trainer and of prep are all read against these structs.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

AttentionBackend = Literal["auto", "sdpa", "cudnn", "flash_attn_2", "flash_attn_3", "flash_attn_4", "manual"]
Kernels = Literal["auto", "fused", "plain"]
OptimizerName = Literal["adamw", "torch_adamw"]
Deterministic = Literal["auto", "on", "off"]
Dtype = Literal["bfloat16", "float16", "float32"]
InitFrom = Literal["auto", "scratch", "resume"]
CheckpointWhenBusy = Literal["wait", "skip"]
ImageVariant = Literal["cpu", "cu124", "cu132"]
ContainerRuntime = Literal["none", "pyxis", "apptainer", "podman", "docker", "oci"]
Preflight = Literal["off", "report", "stop"]
GpuRequest = Literal["gpus-per-node", "gres"]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Names become folders, job names and labels."""


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An architecture, in the field names of ``transformers``. All of ours are bias-free."""

    architecture: Annotated[
        str, Meta(pattern=NAME, description="model family: an entry of the catalogue's families/")
    ]
    vocab_size: Annotated[int, Meta(ge=1, description="rows of the embedding and of the output head")]
    hidden_size: Annotated[int, Meta(ge=1, description="width of the residual stream")]
    intermediate_size: Annotated[int, Meta(ge=1, description="width inside the feed-forward block")]
    num_hidden_layers: Annotated[int, Meta(ge=1, description="transformer blocks")]
    num_attention_heads: Annotated[int, Meta(ge=1, description="query heads")]
    num_key_value_heads: Annotated[int, Meta(ge=1, description="key and value heads (GQA when fewer)")]
    head_dim: Annotated[int, Meta(ge=2, description="size of one head")]
    max_position_embeddings: Annotated[
        int, Meta(ge=1, description="longest sequence; GPT-2 learns one row each")
    ]
    rope_theta: Annotated[float, Meta(gt=0, description="RoPE base (unused by gpt2)")] = 10000.0
    norm_eps: Annotated[float, Meta(gt=0, description="epsilon of RMSNorm or LayerNorm")] = 1e-5
    tie_word_embeddings: Annotated[bool, Meta(description="the output head is the embedding")] = False
    initializer_range: Annotated[float, Meta(gt=0, description="std of the normal initialisation")] = 0.02


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything ``python -m jobctl.trainer`` can be told besides the architecture; names as in the training guide."""

    # how long, and how much a step
    max_iters: Annotated[int, Meta(ge=1, description="optimiser steps in the whole run")] = 2000
    batch_size: Annotated[int, Meta(ge=1, description="sequences a GPU in one micro-step")] = 4
    gradient_accumulation_steps: Annotated[int, Meta(ge=1, description="micro-steps a GPU in one step")] = 1
    block_size: Annotated[int, Meta(ge=1, description="tokens a sequence")] = 2048
    # optimiser and schedule
    optimizer: Annotated[
        OptimizerName,
        Meta(description="adamw takes the fastest for the kernels; torch_adamw always torch's own"),
    ] = "adamw"
    learning_rate: Annotated[float, Meta(gt=0, description="peak learning rate")] = 3e-4
    min_lr: Annotated[float, Meta(ge=0, description="learning rate at the end of the decay")] = 3e-5
    warmup_iters: Annotated[int, Meta(ge=0, description="steps of linear warm-up")] = 2000
    lr_decay_iters: Annotated[
        int, Meta(ge=0, description="step at which the cosine reaches min_lr; 0: at max_iters")
    ] = 0
    weight_decay: Annotated[float, Meta(ge=0, description="decoupled decay, on matrices only")] = 0.1
    beta1: Annotated[float, Meta(ge=0, lt=1, description="AdamW's first decay rate")] = 0.9
    beta2: Annotated[float, Meta(ge=0, lt=1, description="AdamW's second decay rate")] = 0.95
    adam_eps: Annotated[float, Meta(gt=0, description="AdamW's epsilon")] = 1e-8
    grad_clip: Annotated[float, Meta(ge=0, description="largest gradient norm; 0: no clipping")] = 1.0
    seed: Annotated[int, Meta(ge=0, description="seed of weights and of the order of samples")] = 1337
    # arithmetic
    dtype: Annotated[Dtype, Meta(description="type of the matrix products; weights stay float32")] = (
        "bfloat16"
    )
    use_fp8: Annotated[bool, Meta(description="float8 matrix products in the blocks (tier 4)")] = False
    attention_backend: Annotated[
        AttentionBackend, Meta(description="auto takes the fastest that works on the GPU")
    ] = "auto"
    compile: Annotated[bool, Meta(description="torch.compile of each block")] = True
    kernels: Annotated[
        Kernels,
        Meta(description="auto takes our fused kernels where they run, which leave nothing to compile"),
    ] = "auto"
    deterministic: Annotated[
        Deterministic,
        Meta(description="the same bits in every run: on; auto where it costs less than 1% of a step; off"),
    ] = "auto"
    use_cuda_graphs: Annotated[bool, Meta(description="replay the step as a CUDA graph (tier 3)")] = False
    document_masking: Annotated[bool, Meta(description="no attention across document boundaries")] = False
    # layout over GPUs
    use_zero1: Annotated[bool, Meta(description="shard the optimiser state over the ranks")] = False
    use_fsdp: Annotated[bool, Meta(description="shard weights, gradients and optimiser state")] = False
    # data
    use_dataloader: Annotated[bool, Meta(description="read batches in worker processes")] = False
    dataloader_num_workers: Annotated[int, Meta(ge=0, description="worker processes a rank")] = 4
    # evaluation, logs, checkpoints
    eval_interval: Annotated[int, Meta(ge=1, description="steps between validations")] = 500
    eval_iters: Annotated[
        int, Meta(ge=1, description="validation batches of 8 sequences, over all ranks together")
    ] = 20
    eval_only: Annotated[bool, Meta(description="validate the checkpoint and stop")] = False
    log_interval: Annotated[int, Meta(ge=1, description="steps between lines of the run log")] = 10
    gradient_log_interval: Annotated[
        int, Meta(ge=0, description="steps between per-layer norms; 0: never")
    ] = 50
    checkpoint_interval: Annotated[
        int, Meta(ge=0, description="steps between checkpoints; 0: at the end")
    ] = 500
    always_save_checkpoint: Annotated[
        bool, Meta(description="save after every validation, not only after the best")
    ] = False
    keep_last_checkpoints: Annotated[int, Meta(ge=1, description="newest checkpoints to keep")] = 2
    keep_every_checkpoint: Annotated[
        int, Meta(ge=0, description="also keep checkpoints of steps divisible by this; 0: none")
    ] = 0
    checkpoint_when_busy: Annotated[
        CheckpointWhenBusy,
        Meta(
            description="a save is due while one is being written: skip it, or wait; the last one always waits"
        ),
    ] = "skip"
    init_from: Annotated[
        InitFrom, Meta(description="auto resumes where the run directory has a checkpoint")
    ] = "auto"
    # guards
    max_bad_steps: Annotated[int, Meta(ge=1, description="non-finite steps in a row that end the run")] = 20
    skip_loss_spikes: Annotated[
        float, Meta(ge=0, description="skip a step whose loss is this many robust sigmas high; 0: never")
    ] = 0.0
    hang_timeout: Annotated[
        int, Meta(ge=1, description="seconds without a step after which a rank is reported as hung")
    ] = 1800
    profile: Annotated[bool, Meta(description="write a PyTorch profiler trace of a few steps")] = False


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a job asks of the scheduler."""

    nodes: Annotated[int, Meta(ge=1, description="nodes of the job")] = 1
    gpus_per_node: Annotated[int, Meta(ge=0, description="GPUs on each node; 0 on the cpu hardware")] = 8
    processes_per_node: Annotated[int, Meta(ge=0, description="trainer processes a node; 0: one a GPU")] = 0
    time_limit: Annotated[
        str,
        Meta(pattern=r"^(\d+-)?\d{1,3}:\d{2}:\d{2}$", description="wall time, [days-]hours:minutes:seconds"),
    ] = "24:00:00"
    stop_grace_seconds: Annotated[
        int, Meta(ge=1, description="warning before the time limit, to checkpoint in")
    ] = 300
    max_attempts: Annotated[
        int,
        Meta(
            ge=1,
            description="times a run is stopped by its time limit before it gives up; preemptions do not count",
        ),
    ] = 50
    retries: Annotated[
        int,
        Meta(ge=0, description="failures after which a run starts again by itself; never after wrong usage"),
    ] = 0
    array_limit: Annotated[
        int, Meta(ge=0, description="tasks of a Slurm array at work at once; 0: as many as there is room for")
    ] = 0
    master_port: Annotated[int, Meta(ge=0, le=65535, description="rendezvous port; 0: from the job's id")] = 0


class Inputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a job reads."""

    dataset: Annotated[str, Meta(pattern=NAME, description="a data set of the catalogue")] = "slimpajama_6b"
    tokenizer: Annotated[str, Meta(pattern=NAME, description="a tokenizer of the catalogue")] = "gpt2"
    image_variant: Annotated[ImageVariant, Meta(description="which of our images the hardware needs")] = (
        "cu132"
    )
    image: Annotated[
        str, Meta(description="container image reference; empty: jobctl:<version>-<variant>")
    ] = ""
    sweep_batch_sizes: Annotated[
        tuple[int, ...], Meta(description="the batch sizes that stage sweep tries one after another")
    ] = ()


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one cluster wants. Empty means: leave it to the scheduler's default."""

    root: Annotated[str, Meta(description="shared folder of runs, data sets, tokenizers ($JOBCTL_ROOT)")] = ""
    python: Annotated[
        str,
        Meta(
            description="interpreter that has torch, where no container is used; empty: $JOBCTL_PYTHON or python3"
        ),
    ] = ""
    project_dir: Annotated[
        str, Meta(description="folder of jobctl's source on the nodes, put on PYTHONPATH")
    ] = ""
    env: Annotated[dict[str, str], Meta(description="environment of the job; never secrets")] = {}
    pass_env: Annotated[
        tuple[str, ...],
        Meta(description="variables taken from the submitter's environment, by name (secrets)"),
    ] = ()
    secrets_file: Annotated[
        str,
        Meta(description="file of mode 600 with NAME=value lines, where pass_env is not in the environment"),
    ] = ""
    modules: Annotated[tuple[str, ...], Meta(description="environment modules to load")] = ()
    container_runtime: Annotated[ContainerRuntime, Meta(description="what starts the image on the nodes")] = (
        "none"
    )
    mounts: Annotated[
        tuple[str, ...], Meta(description="further source:target[:ro] mounts of the container")
    ] = ()
    # Slurm
    partition: Annotated[str, Meta(description="Slurm partition")] = ""
    cpu_partition: Annotated[
        str, Meta(description="Slurm partition of jobs without GPUs; empty: the same")
    ] = ""
    account: Annotated[str, Meta(description="Slurm account")] = ""
    qos: Annotated[str, Meta(description="Slurm quality of service")] = ""
    reservation: Annotated[str, Meta(description="Slurm reservation")] = ""
    constraint: Annotated[str, Meta(description="Slurm node features")] = ""
    nodelist: Annotated[str, Meta(description="nodes to use")] = ""
    exclude: Annotated[str, Meta(description="nodes to avoid")] = ""
    mail_user: Annotated[str, Meta(description="who is told of the job's end")] = ""
    mail_type: Annotated[str, Meta(description="what they are told, as sbatch spells it")] = "END,FAIL"
    comment: Annotated[str, Meta(description="words in the job's comment, before jobctl's own")] = ""
    gpu_request: Annotated[GpuRequest, Meta(description="how the site asks for GPUs")] = "gpus-per-node"
    gpu_type: Annotated[
        str, Meta(description="the GPU's name in gres.conf, where the site wants it said")
    ] = ""
    preflight: Annotated[
        Preflight,
        Meta(
            description="look at the nodes before a training: not at all, for the log, or stop at a bad one"
        ),
    ] = "off"
    spare_nodes: Annotated[
        int,
        Meta(ge=0, description="nodes asked for besides, to go on with where the preflight finds bad ones"),
    ] = 0
    exclusive: Annotated[bool, Meta(description="whole nodes")] = True
    memory: Annotated[str, Meta(description="memory a node as sbatch spells it; 0: all of it")] = "0"
    cpus_per_task: Annotated[int, Meta(ge=0, description="CPUs of a node's task; 0: leave it to Slurm")] = 0
    # Kubernetes
    context: Annotated[str, Meta(description="kubeconfig context")] = ""
    namespace: Annotated[str, Meta(description="Kubernetes namespace")] = "jobctl"
    queue: Annotated[str, Meta(description="Kueue LocalQueue; empty: no queue")] = ""
    pvc: Annotated[str, Meta(description="PersistentVolumeClaim that holds $JOBCTL_ROOT")] = (
        "jobctl-workspace"
    )
    pull_secret: Annotated[str, Meta(description="name of the image pull secret")] = ""
    secret: Annotated[str, Meta(description="name of the Secret whose keys become the job's environment")] = (
        ""
    )
    run_as_user: Annotated[
        int, Meta(ge=1, description="user and group id of the pods, who must be able to write the volume")
    ] = 1000
    gpu_resource: Annotated[str, Meta(description="Kubernetes' resource name of a GPU")] = "nvidia.com/gpu"
    rdma_resource: Annotated[str, Meta(description="Kubernetes' resource name of RDMA; empty: none")] = ""
    node_selector: Annotated[dict[str, str], Meta(description="labels a node must have")] = {}
    tolerations: Annotated[tuple[str, ...], Meta(description="taint keys the pods tolerate")] = (
        "nvidia.com/gpu",
    )


SITE_SECTIONS: dict[str, tuple[str, ...]] = {
    "slurm": (
        "partition",
        "cpu_partition",
        "account",
        "qos",
        "reservation",
        "constraint",
        "mail_user",
        "mail_type",
        "comment",
        "gpu_request",
        "gpu_type",
        "spare_nodes",
        "exclusive",
        "memory",
    ),
    "kubernetes": (
        "context",
        "namespace",
        "queue",
        "pvc",
        "pull_secret",
        "secret",
        "run_as_user",
        "gpu_resource",
        "rdma_resource",
        "node_selector",
        "tolerations",
    ),
}
"""Keys of ``Site`` that mean something to one scheduler only. All others are general."""


class HardwareFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a node type is; facts, not choices."""

    device: Annotated[str, Meta(description="part of the name that the driver gives the GPU; empty: no GPU")]
    memory_gib: Annotated[float, Meta(gt=0, description="memory of one GPU, or of the node without GPUs")]
    peak_tflops: Annotated[dict[str, float], Meta(description="dense peaks by dtype, TFLOP/s a GPU")]
    compute_capability: Annotated[str, Meta(description="CUDA architecture, as 9.0; empty without GPU")]
    image_variants: Annotated[list[ImageVariant], Meta(description="images with code for this GPU")]
    cpus: Annotated[int, Meta(ge=1, description="CPU cores of a node")]
    node_memory_gib: Annotated[int, Meta(ge=1, description="memory of a node")]
    shm_gib: Annotated[int, Meta(ge=1, description="size of /dev/shm in a container")]
    gpu_product: Annotated[str, Meta(description="nvidia.com/gpu.product label")] = ""
    allreduce_gb_s: Annotated[
        float,
        Meta(ge=0, description="bus bandwidth an all-reduce within a node should reach, GB/s; 0: unknown"),
    ] = 0.0
    allreduce_network_gb_s: Annotated[
        float, Meta(ge=0, description="the same of a node's network, between two nodes; 0: unknown")
    ] = 0.0


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a job expects of each of its nodes, as the preflight is told it."""

    gpus: int
    device: str = ""
    compute_capability: str = ""
    peak_tflops: float = 0.0
    """Of bfloat16, dense, a GPU; 0: unknown."""
    allreduce_gb_s: float = 0.0
    allreduce_network_gb_s: float = 0.0


SECTIONS: tuple[type[msgspec.Struct], ...] = (ModelConfig, TrainConfig, Resources, Inputs, Site)
"""Where a flat key belongs; no name occurs in two of them."""
