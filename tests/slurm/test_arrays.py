"""Prep on several nodes and sweeps are arrays, on a real Slurm: each task makes attempts of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from jobctl.jobs import submission
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.spec.tokenizer_folder import describe
from jobctl.prep.shards.format import read_meta
from jobctl.slurm.target import TARGET
from tests.prep.encode.test_folders import END, byte_level, written
from tests.slurm.conftest import PROJECT, Submitter
from tests.slurm.test_attempts import ENDED


def submit_prep(runs: Submitter, run: str, body: str, tasks: int, *flags: str, **sets: object) -> str:
    model = runs.spec(run, body, **sets)
    site, settings = model.site, {"exclusive": "false", "time_limit": "00:10:00"} | sets
    choices = Choices(
        kind="prep", target="slurm", run=run, named={"nodes": tasks, "dataset": "sotu"}, trainer_flags=flags,
        sets=(f"python={site.python}", *(f"{key}={value}" for key, value in settings.items())),
    )  # fmt: skip
    return submission.submit(resolve(choices, version="0", root=str(runs.root)).spec)[1]


def test_prep_on_nodes_is_an_array_of_which_so_many_run_at_once(slurm_runs: Submitter) -> None:
    body = 'until [ -e "$RUN_DIR/go" ]; do sleep 0.1; done; [ "$2" = jobctl.prep ]'
    job = submit_prep(slurm_runs, "prep", body, 3, array_limit=2)
    slurm_runs.until(lambda: len(slurm_runs.read("prep").attempts) == 2, "two tasks", 60)
    time.sleep(2)
    assert len(slurm_runs.read("prep").attempts) == 2
    status = slurm_runs.status("prep")
    assert (status.state, status.job_id.split("_")[0]) == ("running", job)
    assert "1 of 3 tasks waiting" in status.detail
    (slurm_runs.root / "runs/prep/go").touch()
    assert slurm_runs.wait("prep", *ENDED).state == "finished"
    assert sorted(a.task for a in slurm_runs.read("prep").attempts) == [0, 1, 2]


def test_only_the_tasks_that_failed_are_resumed(slurm_runs: Submitter) -> None:
    body = '[ "$SLURM_ARRAY_TASK_ID" != 1 ] || [ -e "$RUN_DIR/mended" ] || exit 1'
    submit_prep(slurm_runs, "prep", body, 3)
    slurm_runs.until(lambda: len(slurm_runs.read("prep").attempts) == 3, "three tasks", 60)
    assert slurm_runs.wait("prep", *ENDED).state == "failed"
    (slurm_runs.root / "runs/prep/mended").touch()
    slurm_runs.cluster.wait_until_idle()
    submission.resume(slurm_runs.root, "prep")
    slurm_runs.until(lambda: slurm_runs.status("prep").state == "finished", "its end", 60)
    assert [a.task for a in slurm_runs.read("prep").attempts][3:] == [1]


def test_a_task_that_starts_again_leaves_the_others_alone(slurm_runs: Submitter) -> None:
    """The last task has the array's id for its own. Slurm takes that id for all tasks."""
    body = """
if [ "$SLURM_JOB_ID" = "$SLURM_ARRAY_JOB_ID" ]; then
  until ls "$RUN_DIR"/begun-* 2>/dev/null; do sleep 0.1; done
  [ ! -e "$RUN_DIR/again" ] || exit 0
  touch "$RUN_DIR/again"
  exit 1
fi
touch "$RUN_DIR/begun-$SLURM_ARRAY_TASK_ID"
until [ -e "$RUN_DIR/go" ]; do sleep 0.1; done
"""
    submit_prep(slurm_runs, "prep", body, 2, retries=1)
    slurm_runs.until(lambda: len(slurm_runs.read("prep").attempts) == 3, "a second attempt of one task", 60)
    ended = [attempt for attempt in slurm_runs.read("prep").attempts if attempt.reason == "failed"]
    (slurm_runs.root / "runs/prep/go").touch()
    assert slurm_runs.wait("prep", *ENDED).state == "finished"
    tasks = sorted(attempt.task for attempt in slurm_runs.read("prep").attempts)
    assert tasks == sorted([0, 1, ended[0].task])


KILLED_AT_WORK = """
prep() { exec %s "$@"; }
if [ "$SLURM_ARRAY_TASK_ID" != 1 ] || [ -e "$RUN_DIR/killed" ]; then
  until [ -e "$RUN_DIR/killed" ]; do sleep 0.1; done
  prep "$@"
fi
set -m
(prep "$@") &
until ls "$JOBCTL_ROOT"/datasets/*/.prep/claims/tokenizing-* 2>/dev/null; do kill -0 $! && sleep 0.01 || exit 2; done
kill -KILL -- -$!
touch "$RUN_DIR/killed"
exit 1
"""
"""The real prep; but task 1, which comes first, is killed with all its processes when it is at its first shard."""


def test_what_a_killed_task_had_begun_the_others_do_and_the_result_is_that_of_one_process(
    slurm_runs: Submitter,
) -> None:
    flags = ("--shard-bytes", "1000000", "--workers", "1", "--stale-seconds", "5")
    submit_prep(slurm_runs, "prep", KILLED_AT_WORK % sys.executable, 3, *flags)
    assert slurm_runs.wait("prep", *ENDED, seconds=300).state == "failed"
    slurm_runs.cluster.wait_until_idle()
    codes = {attempt.task: attempt.exit_code for attempt in slurm_runs.read("prep").attempts}
    assert codes == {0: 0, 1: 1, 2: 0}
    whole = slurm_runs.root / "datasets" / "sotu-gpt2"
    assert list((whole / ".prep" / "claims").glob("tokenizing-*")) == []
    one = slurm_runs.root / "one"
    words = ["--dataset", "sotu", "--tokenizer", "gpt2", "--root", slurm_runs.root, "--output", one]
    subprocess.run(
        [sys.executable, "-m", "jobctl.prep", *map(str, words), *flags[:2]], check=True, cwd=PROJECT
    )
    assert contents(whole) == contents(one)
    submission.resume(slurm_runs.root, "prep")
    assert slurm_runs.wait("prep", "finished", seconds=300).exit_code == 0


def test_every_task_reads_the_tokenizers_folder_that_the_user_gave(
    slurm_runs: Submitter, tmp_path: Path
) -> None:
    folder = written(byte_level(tmp_path / "small"), "tokenizer_config.json", {"eos_token": END})
    name, tokenizer = describe(str(folder))
    choices = Choices(
        kind="prep", target="slurm", run="prep", tokenizer_folder=tokenizer,
        named={"nodes": 2, "dataset": "sotu", "tokenizer": name},
        sets=(
            f"python={sys.executable}", f"project_dir={PROJECT}", "exclusive=false", "time_limit=00:10:00",
        ),
    )  # fmt: skip
    submission.submit(resolve(choices, version="0", root=str(slurm_runs.root)).spec)
    # Nodes see the run directory, and perhaps not the user's folder.
    shutil.rmtree(folder)
    assert slurm_runs.wait("prep", *ENDED, seconds=300).state == "finished", slurm_runs.log("prep")
    meta = read_meta(slurm_runs.root / "datasets/sotu-small")
    assert meta.tokenizer.sha256 == tokenizer.sha256
    assert meta.vocab_size == 300


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_time_limit_ends_prep_and_begins_it_again(slurm_runs: Submitter) -> None:
    """What is done stays done; so it needs no checkpoint, and no wish to go on."""
    job = submit_prep(slurm_runs, "prep", '[ "$ATTEMPT" -lt 2 ] || exit 0; echo begun; sleep 600', 1)
    slurm_runs.wait_for_line("prep", "begun")
    slurm_runs.cluster.run("scancel", "--signal=USR2", "--batch", job)
    status = slurm_runs.wait("prep", *ENDED)
    assert (status.state, status.attempt) == ("finished", 2)


def test_cancel_ends_every_task(slurm_runs: Submitter) -> None:
    submit_prep(slurm_runs, "prep", "sleep 600", 4, array_limit=2)
    slurm_runs.until(lambda: len(slurm_runs.read("prep").attempts) == 2, "two tasks", 60)
    TARGET.cancel(slurm_runs.read("prep"))
    assert slurm_runs.wait("prep", *ENDED).state == "cancelled"
    slurm_runs.cluster.wait_until_idle()
    assert slurm_runs.cluster.run("squeue", "-h") == ""


def test_a_sweep_is_an_array_that_finds_what_fits(slurm_runs: Submitter) -> None:
    """The sizes are the guide's; the stand-in has no room for the largest."""
    body = "for word; do case $word in --plan=*) plan=$word ;; --task=*) task=$word ;; esac; done\n"
    body += 'echo "$task of $plan"; [ $task != --task=2 ]'
    spec = slurm_runs.spec("sweep", body)
    choices = Choices(
        model="qwen3_smoke", stage="sweep", target="slurm", run="sweep",
        sets=(f"python={spec.site.python}", "exclusive=false", "array_limit=2", "retries=3"),
    )  # fmt: skip
    submission.submit(resolve(choices, version="0", root=str(slurm_runs.root)).spec)
    slurm_runs.until(lambda: len(slurm_runs.read("sweep").attempts) == 3, "three tasks", 60)
    assert slurm_runs.wait("sweep", *ENDED).state == "finished"
    slurm_runs.cluster.wait_until_idle()
    codes = {a.task: a.exit_code for a in slurm_runs.read("sweep").attempts}
    assert codes == {0: 0, 1: 0, 2: 1}, "the largest does not fit, and is not retried"
    lines = sorted(line for line in slurm_runs.log("sweep") if "batch_size" in line)
    assert [line.split()[0] for line in lines] == ["--task=0", "--task=1", "--task=2"]
    assert all('"batch_sizes":[8]' in line for line in lines)
