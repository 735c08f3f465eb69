from __future__ import annotations

import argparse

import pytest

from jobctl.jobs.catalog.data import PrepConfig
from jobctl.jobs.core.errors import UserError
from jobctl.prep import options

NEEDED = ["--dataset", "mine", "--tokenizer", "gpt2"]


@pytest.mark.parametrize("separator", ["---", "-- --", "-", "--- next ---"])
def test_a_separator_may_begin_with_a_dash(separator: str) -> None:
    for given in (["--separator", separator], [f"--separator={separator}"]):
        assert options.parsed([*NEEDED, *given, "--json"]).separator == separator


def test_an_option_behind_separator_is_no_separator(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--json", "--text-field=x"):
        with pytest.raises(SystemExit):
            options.parsed([*NEEDED, "--separator", option])

        assert "--separator: expected one argument" in capsys.readouterr().err


def both(parsed: argparse.Namespace) -> None:
    options.dataset_entry(parsed)
    options.prep_config(parsed)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["--shard-bytes", "0"],
            "--shard-bytes: must be a whole number of at least 1 and of at most 1000000000000000, not '0'",
        ),
        (
            ["--min-characters", "abc"],
            "--min-characters: must be a whole number of at least 0 and of at most 1000000000, not 'abc'",
        ),
        (
            ["--workers", "1e300"],
            "--workers: must be a whole number of at least 0 and of at most 4096, not '1e300'",
        ),
        (
            ["--workers", "99999"],
            "--workers: must be a whole number of at least 0 and of at most 4096, not '99999'",
        ),
        (["--duplicates", "nearly"], "--duplicates: must be one of keep, exact, near, not 'nearly'"),
        (["--control-tokens", "x"], "--control-tokens: must be one of ids, text, not 'x'"),
        (
            ["--weights", "books=x"],
            "--weights: must be a mapping from names to values, each value a number of at least 0 and of at "
            "most 1000, not {'books': 'x'}",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_said_in_plain_words(given: list[str], message: str) -> None:
    parsed = options.parsed([*NEEDED, "--source", "x", *given])
    with pytest.raises(UserError) as raised:
        both(parsed)

    assert raised.value.message == message


def test_every_option_of_prep_has_its_type() -> None:
    given = ["--weights", "books=2", "web=0.5", "--shuffle", "7", "--add-bos", "--duplicates", "near"]
    config = options.prep_config(options.parsed([*NEEDED, *given]))
    assert config == PrepConfig(
        weights={"books": 2.0, "web": 0.5}, shuffle=7, add_bos=True, duplicates="near"
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [("--rank", "-1"), ("--rank", "9" * 5000), ("--world-size", "0"), ("--world-size", "1e300")],
)
def test_a_node_has_a_number_that_makes_sense(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        options.parsed([*NEEDED, f"{option}={value}"])

    assert f"argument {option}: must be a whole number of at least" in capsys.readouterr().err


def test_the_number_of_a_node_is_the_schedulers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*options.RANK, *options.COUNT):
        monkeypatch.delenv(name, raising=False)

    assert (options.parsed(NEEDED).rank, options.parsed(NEEDED).world_size) == (0, 1)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "8")
    assert (options.parsed(NEEDED).rank, options.parsed(NEEDED).world_size) == (3, 8)
