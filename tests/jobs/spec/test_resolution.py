"""Choices become specs: the guide's numbers, the layers' order, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.catalog import loader
from jobctl.jobs.catalog.entries import LayerEntry
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.spec.layers import Layer
from jobctl.jobs.spec.patch import Patch
from jobctl.jobs.spec.resolution import Choices, Resolution, load_site, resolve

# The training guide's commands: model, hardware, tier, stage -> batch size, accumulation, iterations, GPUs, ZeRO-1.
GUIDE = [
    ("gpt2_1.36b", "a6000", 1, "mfu", (4, 32, 100, 2, True), 500),
    ("gpt2_1.36b", "a6000", 1, "train", (4, 32, 2000, 2, True), None),
    ("llama2_1.36b", "a6000", 1, "mfu", (6, 32, 100, 2, True), 200),
    ("llama2_1.36b", "a6000", 1, "train", (6, 32, 2000, 2, True), None),
    ("llama2_1.36b", "b200", 1, "train", (24, 8, 1000, 2, False), 100),
    ("llama2_1.36b", "b200", 2, "train", (24, 4, 1000, 8, False), 100),
    ("llama2_1.36b", "b200", 3, "train", (24, 8, 1000, 8, False), 100),
    ("llama3_1.5b", "a6000", 1, "mfu", (8, 24, 100, 2, True), 50),
    ("llama3_2.2b", "a6000", 1, "smoke", (2, 64, 10, 2, True), None),
    ("llama3_2.2b", "a6000", 1, "mfu", (4, 32, 100, 2, True), 50),
    ("llama3_2.2b", "a6000", 1, "train", (4, 32, 2000, 2, True), None),
    ("qwen3_1.8b", "a6000", 1, "mfu", (6, 32, 100, 2, True), 200),
    ("qwen3_1.8b", "a6000", 1, "train", (2, 96, 2000, 2, True), None),
    ("qwen3_1.8b", "b200", 1, "train", (20, 4, 1000, 8, False), 100),
    ("qwen3_1.8b", "b200", 3, "train", (20, 4, 1000, 8, False), 100),
]


def spec_of(**choices: Any) -> TrainSpec:
    spec = found(**choices).spec
    assert isinstance(spec, TrainSpec)
    return spec


def found(project: Layer | None = None, **choices: Any) -> Resolution:
    return resolve(
        Choices(**({"model": "qwen3_1.8b"} | choices)), version="0.0.0", root="/w", project=project
    )


@pytest.mark.parametrize(("model", "hardware", "tier", "stage", "numbers", "eval_interval"), GUIDE)
def test_the_guides_numbers(
    model: str, hardware: str, tier: int, stage: str, numbers: tuple[object, ...], eval_interval: int | None
) -> None:
    spec = spec_of(model=model, hardware=hardware, tier=tier, stage=stage)
    train = spec.train
    assert numbers == (
        train.batch_size, train.gradient_accumulation_steps, train.max_iters,
        spec.resources.gpus_per_node, train.use_zero1,
    )  # fmt: skip
    assert eval_interval is None or train.eval_interval == eval_interval
    assert (train.learning_rate, train.grad_clip, train.warmup_iters) == (3e-4, 1.0, 2000)


def test_the_guides_tier_commands_log_as_it_says() -> None:
    train = spec_of(model="llama2_1.36b", tier=3).train
    assert (train.log_interval, train.gradient_log_interval, train.eval_iters) == (10, 50, 20)
    assert (train.use_dataloader, train.dataloader_num_workers, train.use_cuda_graphs) == (True, 4, True)
    assert not spec_of(tier=1).train.use_dataloader


def test_the_guides_sweep_of_batch_sizes() -> None:
    spec = spec_of(stage="sweep")
    assert spec.inputs.sweep_batch_sizes == (12, 16, 20, 24)
    assert (spec.train.gradient_accumulation_steps, spec.train.use_fsdp, spec.train.max_iters) == (
        8,
        True,
        10,
    )


def test_stronger_layers_win_in_the_documented_order(tmp_path: Path) -> None:
    site = tmp_path / "mine.yaml"
    site.write_text(
        "summary: mine\nsettings:\n  batch_size: 3\n  log_interval: 3\n  seed: 3\n  max_iters: 3\n"
    )
    project = Layer("project file", {"log_interval": 4, "seed": 4, "max_iters": 4, "nodes": 4})
    result = found(
        project, site=str(site), sets=("seed=5", "max_iters=5", "nodes=5"),
        target="slurm", trainer_flags=("--max_iters=6",), named={"nodes": 7},
    )  # fmt: skip
    spec = result.spec
    assert isinstance(spec, TrainSpec)
    train = spec.train
    assert (train.batch_size, train.log_interval, train.seed, train.max_iters) == (3, 4, 5, 6)
    assert spec.resources.nodes == 7
    keys = ("batch_size", "log_interval", "seed", "max_iters", "nodes", "gradient_accumulation_steps")
    assert [result.origins[key] for key in keys] == [
        f"site {site}", "project file", "--set", "trainer flag", "flag", "hardware b200 for qwen3_1.8b (guide)",
    ]  # fmt: skip


def test_hardware_defaults_to_the_guides_for_a_tier_and_to_this_machine_for_a_smoke_model() -> None:
    assert spec_of().hardware == "b200"
    assert spec_of(model="gpt2_smoke").hardware == "cpu"


def test_what_the_hardware_cannot_do_is_switched_off_and_said() -> None:
    result = found(hardware="a100", tier=4)
    assert isinstance(result.spec, TrainSpec)
    assert not result.spec.train.use_fp8
    assert result.warnings[0] == "limits of a100: use_fp8 is False; the tier or the stage asked for True"


def test_a_limit_of_a_key_that_no_tier_sets_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loader._loaded, ("tiers", "4"), LayerEntry(summary="empty"))
    result = found(model="qwen3_smoke", hardware="cpu", tier=4)
    assert isinstance(result.spec, TrainSpec)
    assert not result.spec.train.compile
    assert not [line for line in result.warnings if line.startswith("limits of cpu: compile")]


def test_the_batch_arithmetic() -> None:
    spec = spec_of(named={"nodes": 2}, target="slurm")
    assert (spec.world_size, spec.global_batch_size, spec.tokens_per_step) == (16, 1280, 1280 * 2048)


def test_the_fingerprint_is_of_the_work_and_not_of_the_name() -> None:
    first = spec_of(run="a", target="slurm")
    second = spec_of(run="b", after=("a",), target="slurm")
    assert first.fingerprint() == second.fingerprint()
    assert spec_of().fingerprint() != spec_of(sets=("seed=1",)).fingerprint()


def test_a_spec_is_one_line_of_ascii() -> None:
    record = spec_of(sets=("account=größe €𝄞",)).record()
    assert record.isascii()
    assert "\n" not in record
    assert json.loads(record)["spec"]["site"]["slurm"]["account"] == "größe €𝄞"


def test_a_job_of_another_kind_needs_no_model() -> None:
    spec = resolve(
        Choices(kind="prep", named={"dataset": "sotu", "tokenizer": "gpt2"}), version="0", root="/w"
    ).spec
    assert (spec.run_prefix, spec.hardware) == ("prep-sotu-gpt2", "cpu")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"model": "qwen3_1.9b"}, "did you mean 'qwen3_1.8b'"),
        ({"tier": 5}, "unknown tier '5'; known: 1, 2, 3, 4"),
        ({"stage": "trian"}, "did you mean 'train'"),
        ({"target": "slrum"}, "did you mean 'slurm'"),
        ({"hardware": "b20"}, "did you mean 'b200'"),
        ({"site": "nowhere"}, "unknown site"),
        (
            {"site": "./nowhere.yaml"},
            "nowhere.yaml: cannot be read: No such file or directory\n"
            "  write it: jobctl site new --target slurm > FILE; or --target k8s",
        ),
        ({"model": "./nowhere.yaml"}, "jobctl catalog list models"),
        ({"kind": "trian"}, "did you mean 'train'"),
        ({"run": "a b"}, "run name 'a b'"),
        ({"run": "../../etc"}, "run name"),
        ({"after": ("x;y",)}, "run name 'x;y'"),
    ],
)
def test_an_unknown_choice_is_named_with_the_nearest(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        found(**choices)
    assert message in str(error.value)


def test_a_file_whose_name_is_not_a_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "$(touch pwned).yaml"
    file.write_bytes((Path(__file__).parents[3] / "jobs/catalog/models/qwen3_smoke.yaml").read_bytes())
    with pytest.raises(UserError, match="an entry's name has only letters"):
        found(model=str(file), hardware="cpu")


def test_a_model_of_the_users_own_file_resolves(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_bytes((Path(__file__).parents[3] / "jobs/catalog/models/qwen3_smoke.yaml").read_bytes())
    spec = spec_of(model=str(file), hardware="cpu")
    assert (spec.model_name, spec.model.hidden_size) == ("tiny", 64)


def test_a_submission_completes_the_name_of_a_run_that_nobody_named() -> None:
    choices = Choices(model="qwen3_smoke")
    stamped = resolve(choices, version="0", stamp="20260102-030405").spec
    assert stamped.run == "qwen3_smoke-train-20260102-030405"
    assert resolve(choices, version="0").spec.run is None
    named = Choices(model="qwen3_smoke", run="r")
    assert resolve(named, version="0", stamp="20260102-030405").spec.run == "r"


def test_a_cluster_names_a_rendered_run_by_its_settings_and_decides_its_root() -> None:
    choices = Choices(model="qwen3_smoke", target="k8s")
    specs = [resolve(choices, version="0", root=root).spec for root in ("/a", "/b")]
    assert specs[0] == specs[1]
    assert specs[0].run == f"qwen3_smoke-train-{specs[0].fingerprint()[:8]}"
    assert specs[0].site.root == "/workspace"
    assert resolve(choices, version="0").origins["root"] == "target k8s"


def test_a_root_begins_at_the_top_of_the_file_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")

    def root_of(root: str) -> str:
        return resolve(
            Choices(model="qwen3_smoke"), version="0", root=root, default_root="/default"
        ).spec.site.root

    assert [root_of(root) for root in ("~/jobs", "jobs", "")] == [
        "/home/me/jobs",
        str(tmp_path / "jobs"),
        "/default",
    ]


@pytest.mark.parametrize(("kind", "folder"), [("train", "code"), ("eval", "code.eval")])
def test_a_patched_submission_takes_its_code_from_the_run_directory(kind: str, folder: str) -> None:
    patch = Patch(tree="/tree", revision="1", diff_sha256="2")
    named = {"project_dir": "/tree"}
    choices = Choices(kind=kind, model="qwen3_smoke", run="r", patch=patch, named=named)
    rendered = resolve(choices, version="0", root="/root").spec
    submitted = resolve(choices, version="0", root="/root", stamp="now").spec
    assert rendered.site.project_dir == "/tree"
    assert submitted.site.project_dir == f"/root/runs/r/{folder}"
    assert submitted.patch == patch
    assert submitted.fingerprint() == rendered.fingerprint()


def test_a_job_may_come_after_a_job_on_a_checkpoint() -> None:
    choices = Choices(kind="export", target="slurm", run="r", after=("r:eval",))
    assert resolve(choices, version="0").spec.after == ("r:eval",)


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("r:evil", "--after r:evil: 'evil' is not a job on a checkpoint; did you mean 'eval'"),
        ("r:", "--after r:: '' is not a job on a checkpoint"),
        ("r:train", "--after r:train: 'train' is not a job on a checkpoint"),
        (":eval", "run name ''"),
        ("a/b", "run name 'a/b'"),
    ],
)
def test_a_name_to_come_after_is_a_run_or_a_job_on_its_checkpoint(after: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(Choices(kind="export", target="slurm", run="r", after=(after,)), version="0")


def test_old_flat_keys_are_named_once_for_each_file(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("summary: old\nsettings:\n  seed: 1\n  partition: gpu\n  mounts: [/a:/a]\n")
    result = found(site=str(file), sets=("account=nlp",))
    assert result.warnings[0] == (
        f"{file}:4: the keys of a site are in sections now: "
        "write slurm.partition instead of partition, container.mounts instead of mounts"
    )
    assert len([line for line in result.warnings if str(file) in line]) == 1
    assert result.spec.site.slurm.partition == "gpu"
    assert result.origins["slurm.account"] == "--set"


@pytest.mark.parametrize("site", ["example-slurm", "example-k8s", "local"])
def test_a_shipped_site_needs_no_warning(site: str) -> None:
    assert [line for line in found(site=site).warnings if "sections" in line] == []


def test_a_site_is_read_without_a_job(tmp_path: Path) -> None:
    file = tmp_path / "here.yaml"
    file.write_text("summary: here\nsettings:\n  namespace: team\n  context: one\n")
    site = load_site(str(file), named={"context": "two"})
    assert (site.kubernetes.namespace, site.kubernetes.context) == ("team", "two")
    file.write_text("summary: here\nsettings:\n  namespce: team\n")
    with pytest.raises(
        UserError, match=r"here\.yaml:3: unknown key 'namespce'; did you mean 'kubernetes\.namespace'"
    ):
        load_site(str(file))
    with pytest.raises(UserError, match="unknown site 'lcal'"):
        load_site("lcal")


@pytest.mark.parametrize(("stage", "how"), [("train", "selective"), ("mfu", "selective"), ("smoke", "none")])
def test_a_card_that_needs_it_computes_activations_again(stage: str, how: str) -> None:
    spec = resolve(Choices(model="llama3_2.2b", hardware="a6000", stage=stage), version="0").spec
    assert isinstance(spec, TrainSpec)
    assert spec.train.activation_checkpointing == how


def test_other_models_and_cards_keep_everything() -> None:
    for model, hardware in (("llama3_2.2b", "h200"), ("qwen3_1.8b", "a6000")):
        spec = resolve(Choices(model=model, hardware=hardware), version="0").spec
        assert isinstance(spec, TrainSpec)
        assert spec.train.activation_checkpointing == "none"
