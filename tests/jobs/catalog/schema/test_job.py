"""The keys of any job: bounds of resources, and names that may become folders."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobctl.jobs.catalog.schema import Inputs, Resources
from jobctl.jobs.spec.job_spec import seconds


@pytest.mark.parametrize("text", ["0:30:00", "24:00:00", "100:00:00", "7-00:00:00"])
def test_a_time_limit_that_is_accepted_is_a_time(text: str) -> None:
    resources = msgspec.convert({"time_limit": text}, Resources)
    assert seconds(resources.time_limit) > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"time_limit": "a day"},
        {"time_limit": "-1:00:00"},
        {"nodes": 0},
        {"gpus_per_node": -1},
        {"stop_grace_seconds": 0},
        {"max_attempts": 0},
        {"master_port": 65536},
        {"gpus": 8},
    ],
    ids=str,
)
def test_what_no_scheduler_could_give_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, Resources)


@pytest.mark.parametrize("name", ["../etc", "a/b", "", ".hidden", "a b", "$(id)"])
@pytest.mark.parametrize("key", ["dataset", "tokenizer"])
def test_a_name_cannot_leave_its_folder(key: str, name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({key: name}, Inputs)
