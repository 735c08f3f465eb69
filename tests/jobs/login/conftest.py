"""A laptop and its login node, of which this process is the laptop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clusters.sshd import Laptop, login_node


@pytest.fixture
def laptop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    """This process is on the laptop."""
    with login_node() as (_, laptop):
        for name, value in laptop.environment.items():
            monkeypatch.setenv(name, value)
        yield laptop
