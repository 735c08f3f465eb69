"""What a person should look at, by what Slurm says."""

from __future__ import annotations

import pytest

from jobctl.slurm.hints import NEVER_STARTS, REFUSALS, Hint, refusal_hint
from jobctl.slurm.reasons import waiting_words


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ("Requested node configuration is not available", Hint.NODE_SHAPE),
        ("invalid partition specified: nope", Hint.PARTITION),
        ("Invalid account or account/partition combination specified", Hint.PARTITION),
        ("Job violates accounting/QOS policy (job submit limit)", Hint.ACCOUNT),
        ("ReqNodeNotAvail, PartitionTimeLimit", Hint.TIME_LIMIT),
    ],
)
def test_the_first_words_that_fit_choose_the_hint(answer: str, hint: Hint) -> None:
    assert refusal_hint(answer) == hint.value


def test_words_that_nobody_knows_have_no_hint() -> None:
    assert refusal_hint("Something new from 2027") == ""


def test_no_entry_is_hidden_by_one_before_it() -> None:
    for number, refusal in enumerate(REFUSALS):
        assert not any(before.words in refusal.words for before in REFUSALS[:number]), refusal


def test_each_hint_belongs_to_something() -> None:
    used = {refusal.hint for refusal in REFUSALS} | set(NEVER_STARTS.values())
    assert used == set(Hint)


@pytest.mark.parametrize("reason", NEVER_STARTS)
def test_a_reason_that_never_passes_is_said_in_words(reason: str) -> None:
    assert " " in waiting_words(reason)
