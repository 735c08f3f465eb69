"""``jobctl collect`` of a run on this host: files alone, over no link."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from jobctl.jobs import submission
from jobctl.jobs.spec.job_spec import JobSpec
from tests.jobs.cli.test_cli import Invoke, jobctl  # noqa: F401 - a fixture


def test_a_link_in_the_run_is_named_and_not_followed(
    jobctl: Invoke,  # noqa: F811
    job: Callable[..., JobSpec],
    tmp_path: Path,
) -> None:
    run, _ = submission.submit(job("exit 0"))
    home = tmp_path / "a-home"
    home.mkdir()
    (home / "secret").write_text("key")
    (run.path / "metrics").symlink_to(home)
    assert jobctl("wait", "r")[0] == 0
    code, out, err = jobctl("collect", "r", "-o", str(tmp_path / "out"), "--json")
    assert (code, json.loads(out)["skipped"]) == (0, 1)
    assert "skipped: 'metrics': a symbolic link" in err
    assert (tmp_path / "out/run.json").is_file()
    assert not list((tmp_path / "out").rglob("secret"))
    assert json.loads(jobctl("collect", "r", "-o", str(tmp_path / "out"), "--json")[1])["copied"] == 0


def test_a_copy_into_the_run_itself_is_refused(
    jobctl: Invoke,  # noqa: F811
    job: Callable[..., JobSpec],
) -> None:
    run, _ = submission.submit(job("exit 0"))
    assert jobctl("wait", "r")[0] == 0
    code, _, err = jobctl("collect", "r", "-o", str(run.path / "copy"))
    assert (code, "is inside the run directory" in err) == (2, True)
