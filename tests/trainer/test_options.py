from pathlib import Path

import pytest

from jobctl.jobs.catalog.resuming import MAY_BE_ALLOWED
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.options import Recipe, Source, parse, parse_sources, resolve, usage
from tests.trainer.corpus import arguments

BASE = ["--run_dir=/r", "--dataset=/d"]


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--max_iters=10"], "max_iters", 10),
        (["--max_iters", "10"], "max_iters", 10),
        (["--max-iters=10"], "max_iters", 10),
        (["--learning_rate=3e-4"], "learning_rate", 3e-4),
        (["--learning_rate", "1"], "learning_rate", 1.0),
        (["--compile"], "compile", True),
        (["--compile", "--seed=1"], "compile", True),
        (["--compile=True"], "compile", True),
        (["--compile", "False"], "compile", False),
        (["--compile=false"], "compile", False),
        (["--no-compile"], "compile", False),
        (["--no_compile"], "compile", False),
        (["--dtype=bfloat16"], "dtype", "bfloat16"),
        (["--flash_attn=True"], "attention_backend", "flash_attn_2"),
        (["--vocab_size=512"], "vocab_size", 512),
    ],
)
def test_every_spelling_of_a_flag(words: list[str], name: str, value: object) -> None:
    assert parse(BASE + words).flags[name] == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_iter=10"], "did you mean 'max_iters'"),
        (["--max_iters=ten"], "max_iters=ten"),
        (["--max_iters=0"], "at least 1"),
        (["--max_iters"], "needs a value"),
        (["--compile=maybe"], "True or False"),
        (["--dtype=bfloat"], "did you mean 'bfloat16'"),
        (["--device=gpu"], "did you mean 'cpu'"),
        (["config/full_gpt2_1.36b.py"], "--model NAME"),
        (["--nonsense"], "unknown flag --nonsense"),
        (["--no-max_iters"], "unknown flag --no_max_iters"),
    ],
)
def test_a_wrong_flag_says_what_would_be_right(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(BASE + words)
    assert message in str(caught.value)
    assert caught.value.code == 2


def test_flags_beat_the_catalogue() -> None:
    recipe = resolve(parse([*BASE, "--model=qwen3_smoke", "--max_iters=3"]), None)
    assert (recipe.model.architecture, recipe.train.max_iters, recipe.train.block_size) == ("qwen3", 3, 128)


def test_the_checkpoint_says_what_the_command_line_does_not() -> None:
    recorded = resolve(parse([*BASE, "--model=qwen3_smoke", "--seed=7"]), None)
    recipe = resolve(parse(["--run_dir=/r", "--eval_only"]), recorded)
    assert isinstance(recipe, Recipe)
    assert (recipe.train.seed, recipe.train.eval_only, recipe.sources) == (7, True, (Source(Path("/d")),))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_zero1": True, "use_fsdp": True}, "choose one"),
        ({"block_size": 100}, "longer than the model's max_position_embeddings 64"),
        ({"min_lr": 1.0}, "above"),
        ({"num_key_value_heads": 3}, "not a multiple"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(parse(arguments(Path("/d"), Path("/r"), **changes)), None)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UserError, match="--run_dir"):
        parse(["--model=qwen3_smoke"])
    with pytest.raises(UserError, match="--model"):
        resolve(parse(BASE), None)
    with pytest.raises(UserError, match="--dataset"):
        resolve(parse(["--run_dir=/r", "--model=qwen3_smoke"]), None)
    with pytest.raises(UserError, match="did you mean 'qwen3_smoke'"):
        resolve(parse([*BASE, "--model=qwen3_smok"]), None)


@pytest.mark.parametrize("weight", ["nan", "inf", "-inf", "0", "-1", "1e999"])
def test_a_weight_that_is_no_share_is_refused(weight: str) -> None:
    with pytest.raises(UserError, match="finite number above 0"):
        parse(["--run_dir=r", f"--dataset=A={weight},B=1"])


@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "1e999"])
def test_a_number_that_is_not_finite_is_refused(value: str) -> None:
    with pytest.raises(UserError):
        parse(["--run_dir=r", f"--learning_rate={value}"])
    with pytest.raises(UserError, match=r"of at most 1e\+38"):
        parse(["--run_dir=r", "--min_lr=inf"])


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["--allow_changes"], MAY_BE_ALLOWED),
        (["--allow-changes", "--seed=3"], MAY_BE_ALLOWED),
        (["--allow_changes=True"], MAY_BE_ALLOWED),
        (["--allow_changes", "False"], frozenset()),
        (["--allow_changes=beta2,dataset"], {"beta2", "dataset"}),
        ([], frozenset()),
    ],
)
def test_changes_are_allowed_by_name_or_all(words: list[str], allowed: frozenset[str]) -> None:
    assert parse(["--run_dir=r", *words]).allowed_changes == allowed


def test_a_change_that_is_never_allowed_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="'hidden_size' is not among adam_eps, "):
        parse(["--run_dir=r", "--allow_changes=beta1,hidden_size"])


@pytest.mark.parametrize("flag", [f"--seed={2**63}", "--hang_timeout=999999999999"])
def test_a_number_that_no_clock_and_no_generator_takes_is_refused(flag: str) -> None:
    with pytest.raises(UserError, match="of at most"):
        parse(["--run_dir=r", flag])


def test_a_mixture_of_very_long_paths_is_no_path() -> None:
    text = f"/{'a' * 300}=1,/{'b' * 300}=2"
    assert [source.weight for source in parse_sources(text)] == [1.0, 2.0]


def test_mixtures_are_read_with_their_weights(tmp_path: Path) -> None:
    assert parse_sources("/a=2,/b") == (Source(Path("/a"), 2.0), Source(Path("/b"), 1.0))
    odd = tmp_path / "a=1,b"
    odd.mkdir()
    assert parse_sources(str(odd)) == (Source(odd),)
    with pytest.raises(UserError, match="above 0"):
        parse_sources("/a=0,/b")


def test_help_names_every_option() -> None:
    text = usage()
    assert "--dataset" in text
    assert "--use_zero1" in text
    assert "--rope_theta" in text
