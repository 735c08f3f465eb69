"""A wrong flag of prep is refused at once; the list of flags is that of prep's own parser."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.prep_flags import check_flags, known_flags
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.prep.options import parser


def test_the_flags_are_those_of_preps_parser() -> None:
    actions = parser()._actions
    assert known_flags() == {
        flag for action in actions for flag in action.option_strings if flag.startswith("--")
    }


@pytest.mark.parametrize("flags", [[], ["--workers", "4"], ["--workers=4", "--source", "a", "--", "b"]])
def test_flags_that_prep_knows_pass(flags: list[str]) -> None:
    check_flags(flags)


def test_a_flag_that_prep_does_not_know_is_refused_with_the_nearest_one() -> None:
    choices = Choices(kind="prep", target="slurm", run="x", trainer_flags=("--worker", "4"))
    with pytest.raises(UserError, match=r"prep has no flag --worker; .*--workers"):
        resolve(choices, version="0")
