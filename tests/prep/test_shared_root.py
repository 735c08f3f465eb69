"""A root that several users write: what one of them makes first, the others may use as well."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.jobs.catalog.data import PrepConfig
from jobctl.jobs.core.layout import dataset_dir, source_dir, tokenizer_dir
from jobctl.jobs.runs import pipeline, store
from jobctl.prep.encode import tokenizers
from jobctl.prep.mirror import mirror
from jobctl.prep.work.job import Job, create
from tests.other_user import OTHER, as_other
from tests.prep.test_mirror import ENTRY, Hub, hub  # noqa: F401 - a fixture

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user, which root alone may")


@pytest.fixture(params=["everyone", "group"])
def shared(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A root as ``chmod 1777`` makes it, or as ``chmod 2770`` does for a group."""
    root = Path(tempfile.mkdtemp(prefix="jobctl-shared-", dir="/tmp"))
    if request.param == "group":
        os.chown(root, 0, OTHER.pw_gid)
    root.chmod(0o1777 if request.param == "everyone" else 0o2770)
    yield root
    shutil.rmtree(root)


def test_what_one_user_makes_first_the_others_may_use(shared: Path, hub: Hub) -> None:  # noqa: F811
    mirror("texts", ENTRY, shared)
    job = Job(
        dataset="texts",
        entry=ENTRY,
        tokenizer=tokenizers.ensure(shared, "gpt2"),
        tokens=tokenizers.entry_of("gpt2"),
        config=PrepConfig(),
    )
    create(dataset_dir(shared, "texts", "gpt2"), job)
    pipeline.write(shared, pipeline.plan("p"))
    store.claim(shared, "r")

    def use() -> None:
        for path in (
            tokenizer_dir(shared, "theirs"), source_dir(shared, "theirs"), dataset_dir(shared, "theirs", "gpt2"),
            shared / "runs/theirs",
        ):  # fmt: skip
            path.mkdir()
        pipeline.write(shared, pipeline.plan("theirs"))

    assert as_other(use) == ""
    folders = ("tokenizers", "sources", "datasets", "pipelines", "runs")
    modes = {name: stat.S_IMODE((shared / name).stat().st_mode) for name in folders}
    assert modes == dict.fromkeys(folders, stat.S_IMODE(shared.stat().st_mode))
    assert {(shared / name).stat().st_gid for name in folders} == {shared.stat().st_gid}
