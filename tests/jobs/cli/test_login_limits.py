"""What a laptop cannot have of its login node is refused, with what to do instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.cli.login_limits import is_of_the_login, refuse_what_stays_here
from jobctl.jobs.core.errors import UserError


def test_what_would_see_no_run_here_names_another_way() -> None:
    with pytest.raises(UserError, match="tensorboard --logdir first/metrics/tensorboard"):
        is_of_the_login("forward", {"run": "first"}, "lab")

    with pytest.raises(UserError, match="ssh lab, then jobctl exporter"):
        is_of_the_login("exporter", {"once": False, "as_dashboard": False}, "lab")

    assert is_of_the_login("exporter", {"once": True, "as_dashboard": False}, "lab")
    assert not is_of_the_login("exporter", {"once": False, "as_dashboard": True}, "lab")
    assert is_of_the_login("status", {"run": "first"}, "lab")


def test_files_of_this_machine_do_not_go_there(tmp_path: Path) -> None:
    for options in ({"patch": True}, {"tokenizer": str(tmp_path)}, {"notify": True}):
        with pytest.raises(UserError, match="lab"):
            refuse_what_stays_here(options, "lab")

    refuse_what_stays_here({"patch": False, "tokenizer": "gpt2", "notify": False}, "lab")
