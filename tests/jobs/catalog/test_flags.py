"""The trainer's flags among the words of a command line."""

from __future__ import annotations

import pytest

from jobctl.jobs.catalog.flags import pairs, separate, settings

OPTIONS = {"--model", "-m", "--set", "--help"}


@pytest.mark.parametrize(
    ("line", "words", "flags"),
    [
        ("--model x", "--model x", ""),
        ("--model x --batch_size 4", "--model x", "--batch_size 4"),
        ("--batch-size=4 --model x", "--model x", "--batch-size=4"),
        ("--no-compile --model x", "--model x", "--no-compile"),
        ("--compile --model x", "--model x", "--compile"),
        ("--compile False --model x", "--model x", "--compile False"),
        ("--use_zero1 --model x", "--model x", "--use_zero1"),
        ("eval --batch_size 4 run", "eval run", "--batch_size 4"),
        ("--batch_size 4 -- --seed 1", "", "--batch_size 4 --seed 1"),
        ("prep -- --workers 2 --batch_size 1", "prep", "--workers 2 --batch_size 1"),
        ("--modle x --batch_sizes 4", "--modle x --batch_sizes 4", ""),
        ("--batch_size", "", "--batch_size"),
        ("--set batch_size=4", "--set batch_size=4", ""),
    ],
)
def test_flags_stand_before_or_after_the_dashes(line: str, words: str, flags: str) -> None:
    assert separate(line.split(), OPTIONS) == (words.split(), flags.split())


def test_an_option_of_jobctl_wins_over_a_flag_of_its_name() -> None:
    assert separate(["--seed", "3"], {"--seed"}) == (["--seed", "3"], [])


def test_what_is_separated_reads_as_settings() -> None:
    _, flags = separate(["--model", "x", "--batch_size", "4", "--no-compile", "--use_fsdp"], OPTIONS)
    assert settings(pairs(flags)) == {"batch_size": 4, "compile": False, "use_fsdp": True}
