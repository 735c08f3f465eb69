"""From a laptop over a real ssh server to a real Slurm: submitted, watched, cancelled, copied home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.machine import process_ids, process_text
from tests.clusters.sshd import HOST, Laptop, LoginNode, login_node, write_jobctl
from tests.jobs.test_submission import write_meta
from tests.slurm.conftest import PROJECT, UNTIL_STOPPED, Submitter

FOLDER = "our 'sites' é"


class Away:
    """A laptop whose project names the cluster's login node."""

    def __init__(self, node: LoginNode, laptop: Laptop, cluster: Submitter) -> None:
        self.node, self.laptop, self.cluster = node, laptop, cluster
        self.says = laptop.says

    def submit(self, trainer: str, *words: str, run: str | None = "first") -> tuple[int, str, str]:
        return self.says(*self.submission(trainer, *words, run=run))

    def submission(self, trainer: str, *words: str, run: str | None = "first") -> list[str]:
        python = self.cluster.spec(run or "unnamed", trainer).site.python
        name = ["--run", run] if run else []
        return ["submit", "--model", "qwen3_smoke", *name, "--set", f"python={python}", *words]

    def jobs(self) -> list[str]:
        return self.cluster.cluster.run("squeue", "-h", "-o", "%j").split()


@pytest.fixture
def away(slurm_runs: Submitter) -> Iterator[Away]:
    with login_node() as (node, laptop):
        write_meta(slurm_runs.root)
        cluster = {name: slurm_runs.cluster.env[name] for name in ("PATH", "SLURM_CONF")}
        program = write_jobctl(node.folder / "o'clock $(touch evil)", cluster)
        (laptop.work / FOLDER).mkdir()
        (laptop.work / FOLDER / "lab.yaml").write_text(
            f"summary: ours\nsettings:\n  root: {slurm_runs.root}\n  project_dir: {PROJECT}\n"
            f"  login:\n    host: {HOST}\n    jobctl: {json.dumps(str(program))}\n"
            "  slurm:\n    exclusive: false\n"
        )
        (laptop.work / "jobctl.yaml").write_text(
            f"target: slurm\nsite: ./{FOLDER}/lab.yaml\ntime_limit: 00:10:00\n"
        )
        yield Away(node, laptop, slurm_runs)


def test_a_run_is_submitted_watched_and_copied_home(away: Away, tmp_path: Path) -> None:
    code, out, err = away.submit(
        'echo "it is $ODD"; touch "$RUN_DIR/here"', "--set", 'env.ODD=it\'s "$(id)" é'
    )
    assert (code, "submitted run first (job " in out) == (0, True), err
    code, out, err = away.says("wait", "first")
    assert (code, "first: finished" in out) == (0, True), err
    assert 'it is it\'s "$(id)" é' in err
    assert "started 1 on n1" in away.says("logs", "first")[1]
    (line,) = json.loads(away.says("list", "--json")[1])
    assert (line["run"], line["state"], line["attempt"]) == ("first", "finished", 1)
    assert away.says("status", "first")[1].startswith("first: finished")

    copy = tmp_path / "a 'copy'"
    code, out, err = away.says("collect", "first", "-o", str(copy), "--json")
    assert (code, json.loads(out)["refused"]) == (0, 0), err
    source = away.cluster.root / "runs" / "first"
    assert (copy / "run.json").read_bytes() == (source / "run.json").read_bytes()
    assert (copy / "here").is_file()
    assert (copy / "run.json").stat().st_mtime_ns == (source / "run.json").stat().st_mtime_ns
    assert json.loads(away.says("collect", "first", "-o", str(copy), "--json")[1])["copied"] == 0
    away.node.stop()
    code, out, err = away.says("doctor", str(copy))
    assert (code, "no problems" in out) == (0, True), "a run that is named by its folder is on this machine"


def test_a_submission_that_waits_exits_with_the_code_of_the_job(away: Away) -> None:
    code, out, err = away.submit("exit 3", "--wait", run=None)
    assert code == 3, err
    assert out.startswith("submitted run qwen3_smoke-train-20")
    assert ": failed, attempt 1" in out


def test_wrong_usage_is_said_in_the_words_of_the_login_node(away: Away) -> None:
    assert away.submit("true", "--set", "batch_sise=3")[0] == 2
    (away.laptop.work / FOLDER / "lab.yaml").open("a").write("    partitoin: gpu\n")
    code, _, err = away.submit("true")
    assert (code, "lab.yaml:10: unknown key 'slurm.partitoin'" in err) == (2, True), err
    (away.laptop.work / "jobctl.yaml").write_text("target: slurm\nsite: ./none.yaml\n")
    assert "none.yaml: cannot be read" in away.submit("true")[2]


def test_cancel_and_resume_act_on_the_cluster(away: Away) -> None:
    assert away.submit(f'[ "$ATTEMPT" = 2 ] || {{ {UNTIL_STOPPED}; }}')[0] == 0
    away.cluster.wait_for_line("first", "started 1")
    assert away.says("cancel", "first")[0] == 0
    assert away.cluster.wait("first", "cancelled").state == "cancelled"
    away.cluster.cluster.wait_until_idle()
    code, out, err = away.says("resume", "first", "--wait")
    assert (code, "first: finished, attempt 2" in out) == (0, True), err


def test_a_pipeline_and_the_state_of_its_steps(away: Away) -> None:
    python = away.cluster.spec("p", "sleep 600").site.python
    code, _, err = away.says("pipeline", "--model", "qwen3_smoke", "--run", "p", "--set", f"python={python}")
    assert (code, err.count("submitted run p-")) == (0, 5), err
    assert away.says("status", "p")[1].startswith("STEP ")
    assert away.says("cancel", "p")[0] == 0


def test_the_cluster_is_held_against_the_site(away: Away) -> None:
    code, out, err = away.says("site", "check", "--json")
    assert (code, {row["key"]: row["finding"] for row in json.loads(out)}) == (
        0,
        {"root": "ok", "container.runtime": "ok"},
    ), err
    file = away.laptop.work / "other"
    file.write_text((away.laptop.work / FOLDER / "lab.yaml").read_text() + "    partition: nope\n")
    code, out, err = away.says("site", "check", "other")
    assert (code, "the cluster has: " in out) == (1, True), err

    # The root is a folder of the login node, so it is checked there.
    file.write_text(file.read_text().replace(f"root: {away.cluster.root}", "root: /no/such folder"))
    code, out, err = away.says("site", "check", "other", "--json")
    (row,) = [row for row in json.loads(out) if row["key"] == "root"]
    assert (code, row["finding"]) == (1, "there is no such folder; mkdir -p '/no/such folder' makes it"), err


def test_a_connection_that_breaks_while_slurm_is_asked_submits_once(away: Away) -> None:
    """The run's record and its job are both there afterwards, and the same command again is refused."""
    folder = away.node.folder / "slow"
    folder.mkdir()
    sbatch = folder / "sbatch"
    real = away.cluster.cluster.run("which", "sbatch")
    sbatch.write_text(
        f'#!/bin/bash\ntouch {folder}/asked\nuntil [ -e {folder}/go ]; do sleep 0.05; done\nexec {real} "$@"\n'
    )
    sbatch.chmod(0o755)
    environment = away.cluster.cluster.env
    slow = write_jobctl(
        folder, {"PATH": f"{folder}:{environment['PATH']}", "SLURM_CONF": environment["SLURM_CONF"]}
    )
    words = away.submission("sleep 600", "--set", f"login.jobctl={slow}")
    started = away.laptop.start(*words)
    away.cluster.until((folder / "asked").exists, "the question to Slurm", 60)
    away.node.cut()
    out, err = started.communicate()
    assert (started.returncode, out) == (1, ""), err
    assert "the connection to login broke" in err
    assert "jobctl status first shows whether it was submitted" in err
    (folder / "go").touch()
    away.cluster.until(lambda: away.jobs() == ["first"], "the job", 60, away.jobs)
    away.cluster.until(lambda: away.says("status", "first")[0] == 0, "its record", 60)
    code, _, err = away.submit("sleep 600")
    assert (code, "run 'first' exists" in err) == (2, True), err
    assert away.jobs() == ["first"]
    assert away.says("cancel", "first")[0] == 0


def test_a_connection_that_breaks_while_one_waits_leaves_nothing_behind(away: Away) -> None:
    """A person can say the same again; on the login node no process waits any longer."""
    assert away.submit(UNTIL_STOPPED)[0] == 0
    waits = away.laptop.start("wait", "first")
    away.cluster.wait_for_line("first", "started 1")
    assert waits.stderr is not None
    assert next(iter(waits.stderr)).startswith("first: ")
    assert len(answering(away)) == 1
    away.node.cut()
    assert "running jobs continue; run the command again: jobctl wait first" in waits.communicate()[1]
    assert waits.returncode == 1
    away.cluster.until(lambda: answering(away) == [], "no wait on the login node", 60)
    assert away.says("cancel", "first")[0] == 0


def answering(away: Away) -> list[str]:
    """The processes of the login node that answer the laptop."""
    texts = [process_text(pid) for pid in process_ids()]
    return [text for text in texts if f"{away.node.folder}/o'clock" in text and "\0over-ssh\0" in text]
