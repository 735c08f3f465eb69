"""Two mounts are compared by their places, however these are spelled."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.mounts import check_places, place_of


@pytest.mark.parametrize("path", ["/a/b", "/a/b/", "//a//b", "/a/./b", "/a/c/../b"])
def test_a_place_has_one_spelling(path: str) -> None:
    assert place_of(path) == "/a/b"
    with pytest.raises(UserError, match="'/x:/a/b:ro' is already mounted at /a/b"):
        check_places(["/x:/a/b:ro", f"/y:{path}"])


def test_places_within_each_other_are_two() -> None:
    check_places(["/x:/a", "/y:/a/b", "/c"])
