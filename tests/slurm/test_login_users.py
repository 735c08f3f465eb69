"""Two users of one login node and one shared root, over a real ssh server to a real Slurm. Neither is root."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.clusters.sshd import HOST, Laptop, login_node, write_jobctl
from tests.jobs.test_submission import write_meta
from tests.other_user import OTHER, THIRD
from tests.slurm.conftest import PROJECT, UNTIL_STOPPED, Submitter
from tests.slurm.test_login import Away
from tests.slurm.test_users import shared

__all__ = ["shared"]


@pytest.fixture
def both(shared: Submitter) -> Iterator[tuple[Away, Away]]:
    """The laptops of the two users."""
    with login_node(OTHER.pw_name, THIRD.pw_name) as (node, _):
        write_meta(shared.root)
        cluster = {name: shared.cluster.env[name] for name in ("PATH", "SLURM_CONF")}
        program = write_jobctl(node.folder / "bin", cluster)
        laptops = [Laptop(node.folder / user.pw_name, node, user.pw_name) for user in (OTHER, THIRD)]
        for one in laptops:
            (one.work / "lab.yaml").write_text(
                f"summary: ours\nsettings:\n  root: {shared.root}\n  project_dir: {PROJECT}\n"
                f"  login:\n    host: {HOST}\n    jobctl: {program}\n  slurm:\n    exclusive: false\n"
            )
            (one.work / "jobctl.yaml").write_text("target: slurm\nsite: ./lab.yaml\ntime_limit: 00:10:00\n")

        mine, theirs = (Away(node, one, shared) for one in laptops)
        yield mine, theirs


def test_each_submits_sees_both_runs_and_ends_only_a_run_of_his_own(both: tuple[Away, Away]) -> None:
    mine, theirs = both
    for away, run in ((mine, "alpha"), (theirs, "beta")):
        code, out, err = away.submit(UNTIL_STOPPED, run=run)
        assert (code, f"submitted run {run} (job " in out) == (0, True), err

    folders = mine.cluster.root / "runs"
    assert (folders / "alpha").stat().st_uid == OTHER.pw_uid
    assert (folders / "beta").stat().st_uid == THIRD.pw_uid
    for run in ("alpha", "beta"):
        mine.cluster.wait_for_line(run, "started 1")

    for away in both:
        rows = {row["run"]: row["state"] for row in json.loads(away.says("list", "--json")[1])}
        assert rows == {"alpha": "running", "beta": "running"}
        for run in ("alpha", "beta"):
            assert away.says("status", run)[1].startswith(f"{run}: running")

    others = ((mine, "beta", THIRD.pw_name), (theirs, "alpha", OTHER.pw_name))
    for away, run, owner in others:
        for words in (["cancel"], ["cancel", "--graceful"]):
            code, out, err = away.says(*words, run)
            assert (code, out) == (1, "")
            assert err == f"jobctl: run '{run}' belongs to {owner}, so you cannot change it\n"

        code, _, err = away.submit(UNTIL_STOPPED, run=run)
        assert (code, f"run '{run}' exists" in err) == (2, True), err

    for away, run, _ in others:
        assert away.says("status", run)[1].startswith(f"{run}: running")

    assert mine.says("cancel", "alpha")[0] == 0
    assert theirs.says("cancel", "beta")[0] == 0
    for run in ("alpha", "beta"):
        assert mine.cluster.wait(run, "cancelled").state == "cancelled"

    for away, run, owner in others:
        for words in (["resume", run], ["delete", "--yes", run]):
            code, out, err = away.says(*words)
            assert code == 1, err
            assert f"run '{run}' belongs to {owner}, so you cannot change it" in err

    code, out, err = theirs.says("resume", "beta")
    assert code == 0, err
    assert theirs.says("cancel", "beta")[0] == 0
