"""Combinations that no single key can know to be wrong."""

import pytest

from jobctl.jobs.core.errors import UserError
from tests.jobs.spec.test_resolution import spec_of


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["image_variant=cu124"], "CUDA 12.4 has no code for compute capability 10.0"),
        (["image_variant=cpu"], "image_variant cpu cannot run on b200: it has no CUDA"),
        (["image_variant=cu128"], "image_variant"),
        (["use_zero1=true", "use_fsdp=true"], "use_zero1 and use_fsdp are both on"),
        (["num_key_value_heads=3"], "not a multiple"),
        (["head_dim=63"], "RoPE rotates pairs"),
        (["block_size=4096"], "longer than the model's max_position_embeddings"),
        (["min_lr=1"], "above learning_rate"),
        (["lr_decay_iters=10"], "before the end of warmup_iters"),
        (["gpus_per_node=9"], "a node of b200 has only 8 GPUs"),
        (["gpus_per_node=0"], "gpus_per_node 0 on b200"),
        (["attention_backend=flash_attn_3"], "for Hopper only"),
        (["vocab_size=32000"], "rows in its embedding"),
        (["env.HF_TOKEN=abc"], "looks like a secret"),
        (["env.A B=1"], "not the name of an environment variable"),
        (["pass_env=[A;B]"], "not the name of an environment variable"),
        (["project_dir=a\0b"], "NUL"),
        (["time_limit=tomorrow"], "time_limit"),
        (["max_attempts=1000001"], "max_attempts"),
        (["retries=1000001"], "retries"),
        (["stop_grace_seconds=65536"], "stop_grace_seconds"),
        (["kubernetes.run_as_user=2147483648"], "kubernetes.run_as_user"),
        (["dataset=../x"], "dataset"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(sets: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        spec_of(sets=tuple(sets))
    assert message in str(error.value)
    assert error.value.code == 2


def test_a_training_without_a_gpu_does_not_offload() -> None:
    with pytest.raises(UserError, match="activation_checkpointing=offload needs a GPU"):
        spec_of(hardware="cpu", sets=("activation_checkpointing=offload", "dtype=bfloat16"))


def test_grouped_queries_are_not_for_gpt2() -> None:
    with pytest.raises(UserError, match="gpt2 has no grouped queries"):
        spec_of(model="gpt2_1.36b", sets=("num_key_value_heads=9",))


def test_fp8_asked_for_by_hand_where_there_is_none_is_an_error_and_not_a_note() -> None:
    with pytest.raises(UserError, match="a100 has no float8"):
        spec_of(hardware="a100", sets=("use_fp8=true",))


def test_gpu_kernels_are_refused_without_a_gpu() -> None:
    with pytest.raises(UserError, match="needs a GPU"):
        spec_of(model="qwen3_smoke", sets=("attention_backend=cudnn",))


def test_cu124_is_right_where_it_has_code() -> None:
    assert spec_of(hardware="h100", sets=("image_variant=cu124",)).inputs.image_variant == "cu124"


@pytest.mark.parametrize("hardware", ["h100", "h200", "b200"])
def test_the_current_variant_is_the_default_of_hopper_and_blackwell(hardware: str) -> None:
    assert spec_of(hardware=hardware).inputs.image_variant == "cu132"


def test_only_a_queue_can_hold_a_job_back() -> None:
    assert spec_of(target="slurm", after=("prep",)).after == ("prep",)
    with pytest.raises(UserError, match=r"no queue(.|\n)*jobctl wait prep && jobctl submit"):
        spec_of(target="local", after=("prep",))


GRACE = pytest.mark.parametrize("hardware", ["gb200", "gb300"])


@GRACE
@pytest.mark.parametrize(
    ("target", "sets"),
    [("docker", ()), ("k8s", ()), ("k8s-trainjob", ()), ("slurm", ("container.runtime=pyxis",))],
)
def test_hosts_with_arm_processors_get_no_image_of_ours(
    hardware: str, target: str, sets: tuple[str, ...]
) -> None:
    with pytest.raises(UserError, match=r"ARM processors \(arm64\)[^\n]*\n.*--image"):
        spec_of(hardware=hardware, target=target, sets=sets)


@GRACE
def test_hosts_with_arm_processors_take_an_image_of_the_users_or_none(hardware: str) -> None:
    named = {"image": "mine:arm64"}
    assert spec_of(hardware=hardware, target="docker", named=named).image == "mine:arm64"
    assert spec_of(hardware=hardware, target="slurm").site.container.runtime == "none"
    assert spec_of(hardware=hardware, target="local")


@pytest.mark.parametrize(
    ("target", "most", "words"),
    [
        ("local", 1, "the local target is one machine"),
        ("docker", 1, "the docker target is one machine"),
        ("k8s", 10_000, "a job on target k8s can have at most 10,000 nodes"),
        ("k8s-trainjob", 10_000, "a job on target k8s-trainjob can have at most 10,000 nodes"),
        ("slurm", 65_533, "a job on target slurm can have at most 65,533 nodes"),
        ("allocation", 65_533, "a job on target allocation can have at most 65,533 nodes"),
    ],
)
def test_a_job_has_no_more_nodes_than_its_target_can_name(target: str, most: int, words: str) -> None:
    assert spec_of(target=target, named={"nodes": most}).resources.nodes == most
    with pytest.raises(UserError, match=words):
        spec_of(target=target, named={"nodes": most + 1})
