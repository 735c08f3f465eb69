"""``--tokens`` and ``--epochs``: steps, warm-up and decay follow from the length that a user asks for."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.amounts import short_count
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec
from jobctl.jobs.spec.length import DatasetSize, catalogue_size, parse_tokens
from jobctl.jobs.spec.resolution import Choices, Resolution, resolve

QWEN_OPTIMUM = 81.727e9


def resolved(**choices: object) -> Resolution:
    given: dict[str, object] = {"model": "qwen3_1.8b", "hardware": "b200", **choices}
    return resolve(Choices(**given), version="1", root="/nfs")  # type: ignore[arg-type]


def training(**choices: object) -> TrainSpec:
    spec = resolved(**choices).spec
    assert isinstance(spec, TrainSpec)
    return spec


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("81.7e9", 81.7e9), ("82B", 82e9), ("500M", 5e8), ("1.2T", 1.2e12), ("64k", 64e3), ("optimal", 7e9)],
)
def test_a_number_of_tokens_has_many_spellings(text: str, tokens: float) -> None:
    assert parse_tokens(text, optimal=7e9) == pytest.approx(tokens)


@pytest.mark.parametrize("text", ["", "B", "many", "-5", "0", "nan", "inf", "1e999", "82 BB"])
def test_what_is_no_number_of_tokens_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="not a number of tokens"):
        parse_tokens(text, optimal=7e9)


def test_a_model_without_an_optimum_says_so() -> None:
    with pytest.raises(UserError, match="no optimal_tokens"):
        training(model="gpt2_1.36b", tokens="optimal")


@pytest.mark.parametrize("hardware", ["a6000", "a100", "h100", "h200", "b200"])
@pytest.mark.parametrize("tier", [1, 2, 3])
@pytest.mark.parametrize("model", ["llama2_1.36b", "llama3_1.5b", "qwen3_1.8b"])
def test_the_whole_training_is_whole_on_every_hardware_and_tier(model: str, tier: int, hardware: str) -> None:
    """By the guide's 39,000 steps Qwen3 gets 51.1B of its 81.7B tokens on eight B200, and 25 to 39% on A6000."""
    choices = resolved(model=model, tier=tier, hardware=hardware, tokens="optimal")
    spec = choices.spec
    assert isinstance(spec, TrainSpec)
    optimal = {"llama2_1.36b": 85e9, "llama3_1.5b": 101.909e9, "qwen3_1.8b": QWEN_OPTIMUM}[model]
    trained = spec.tokens_per_step * spec.train.max_iters
    assert optimal <= trained < optimal + spec.tokens_per_step
    assert "100% of the model's optimum" in choices.length


def test_warm_up_and_decay_follow_the_length() -> None:
    train = training(tokens="optimal").train
    assert train.lr_decay_iters == 0, "the decay ends with the run"
    assert train.max_iters == 62_353
    # 2,000 of 39,000 steps is the recipe's share.
    assert train.warmup_iters == pytest.approx(62_353 * 2000 / 39_000, abs=1)


def test_a_short_run_gets_a_short_warm_up() -> None:
    train = training(tokens="100M").train
    assert train.max_iters == 77
    assert train.warmup_iters == 4


def test_what_the_user_sets_stays() -> None:
    train = training(tokens="1B", sets=("warmup_iters=7",), trainer_flags=("--lr_decay_iters=500",)).train
    assert train.warmup_iters == 7
    assert train.lr_decay_iters == 500


@pytest.mark.parametrize("where", [{"sets": ("max_iters=5",)}, {"trainer_flags": ("--max_iters=5",)}])
def test_a_number_of_steps_beside_a_number_of_tokens_is_refused(where: dict[str, object]) -> None:
    with pytest.raises(UserError, match="--tokens 1B and max_iters 5 contradict each other"):
        training(tokens="1B", **where)


def test_epochs_need_the_size_of_the_data_set() -> None:
    def counted(spec: JobSpec) -> DatasetSize:
        return DatasetSize(tokens=13_107_200, is_exact=True)

    choices = Choices(model="qwen3_1.8b", hardware="b200", epochs=2)
    resolution = resolve(choices, version="1", root="/nfs", dataset_size=counted)
    assert isinstance(resolution.spec, TrainSpec)
    assert resolution.spec.train.max_iters == 20
    assert "2 epochs of slimpajama_6b" in resolution.length
    assert "about" not in resolution.length

    with pytest.raises(UserError, match=r"number of tokens of .* is unknown"):
        resolve(choices, version="1", root="/nfs", dataset_size=lambda spec: None)


def test_without_a_data_set_the_catalogue_estimates() -> None:
    spec = training(epochs=1)
    size = catalogue_size(spec)
    assert size is not None
    assert not size.is_exact
    trained = spec.tokens_per_step * spec.train.max_iters
    assert size.tokens <= trained < size.tokens + spec.tokens_per_step
    assert catalogue_size(training(sets=("dataset=mine",))) is None


@pytest.mark.parametrize("epochs", [0.0, -1.0, float("nan"), float("inf")])
def test_no_pass_over_the_data_is_refused(epochs: float) -> None:
    with pytest.raises(UserError, match="not a number of passes"):
        training(epochs=epochs)


@pytest.mark.parametrize(
    "length", [{"epochs": 1e300}, {"epochs": 1.7e308}, {"tokens": "1e308"}, {"tokens": "1e19"}]
)
def test_a_length_of_more_steps_than_a_run_can_have_is_refused(length: dict[str, object]) -> None:
    with pytest.raises(UserError, match="the most is 1,000,000,000 steps"):
        training(**length)


def test_two_lengths_are_refused() -> None:
    with pytest.raises(UserError, match="both set the length"):
        training(tokens="1B", epochs=1.0)


@pytest.mark.parametrize("kind", ["eval", "sweep"])
def test_what_is_no_training_has_no_length(kind: str) -> None:
    with pytest.raises(UserError, match=f"not for {kind}"):
        training(kind=kind, tokens="1B", run="r")


def test_the_guides_stage_gets_its_doubts() -> None:
    """1,000 iterations with a warm-up of 2,000, and a decay that ends at step 39,000."""
    warnings = "\n".join(resolved().warnings)
    assert "the warm-up of 2000 steps is longer than the run of 1000" in warnings
    assert "decays until step 39000" in warnings


def test_a_stage_that_is_short_on_purpose_gets_none() -> None:
    smoke = resolved(stage="smoke")
    assert smoke.warnings == ()
    assert "10 steps" in smoke.length


def test_more_than_four_epochs_are_doubted() -> None:
    (line,) = resolved(tokens="optimal").warnings
    assert "slimpajama_6b is read 13.6 times" in line


@pytest.mark.parametrize(
    ("tokens", "text"), [(81.727e9, "81.7B"), (1e12, "1T"), (2.5e6, "2.5M"), (4096, "4.1k"), (12, "12")]
)
def test_a_number_of_tokens_is_short(tokens: float, text: str) -> None:
    assert short_count(tokens) == text
