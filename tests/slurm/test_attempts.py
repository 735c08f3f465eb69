"""Which ends of an attempt begin another one, on a real Slurm; the trainer is a stand-in."""

from __future__ import annotations

import threading

import pytest

from jobctl.slurm.target import TARGET
from tests.slurm.conftest import UNTIL_STOPPED, Submitter

ENDED = ("finished", "failed", "stopped", "cancelled", "lost")


def reasons(runs: Submitter, run: str) -> list[str | None]:
    return [attempt.reason for attempt in runs.read(run).attempts]


def until_attempt(n: int, otherwise: str) -> str:
    return f'[ "$ATTEMPT" -lt {n} ] || exit 0; {otherwise}'


@pytest.mark.parametrize(("code", "reason"), [(1, "failed"), (137, "failed")])
def test_a_failure_is_retried_as_often_as_is_allowed(slurm_runs: Submitter, code: int, reason: str) -> None:
    slurm_runs.submit("alpha", f"exit {code}", retries=1)
    slurm_runs.until(lambda: reasons(slurm_runs, "alpha") == [reason] * 2, "two attempts", 60)
    assert slurm_runs.wait("alpha", *ENDED).state == "failed"
    slurm_runs.cluster.wait_until_idle()
    assert slurm_runs.cluster.run("squeue", "-h") == ""


def test_wrong_configuration_is_never_retried(slurm_runs: Submitter) -> None:
    slurm_runs.submit("beta", "exit 2", retries=5)
    assert slurm_runs.wait("beta", *ENDED).exit_code == 2
    slurm_runs.cluster.wait_until_idle()
    assert reasons(slurm_runs, "beta") == ["configuration"]


def test_the_node_of_a_broken_gpu_is_avoided_by_the_next_attempt(slurm_runs: Submitter) -> None:
    broken = '[ "$(hostname)" = n1 ] && exit 201; sleep 60'
    job = slurm_runs.submit("gamma", until_attempt(2, broken), retries=1, nodelist="", nodes=1)
    status = slurm_runs.wait("gamma", *ENDED)
    assert (status.state, status.attempt, status.nodes, status.job_id) == ("finished", 2, "n2", job)
    first, second = slurm_runs.read("gamma").attempts
    assert (first.nodes, first.reason, second.nodes) == ("n1", "hardware", "n2")
    assert "requeued, without n1" in "\n".join(slurm_runs.log("gamma"))


def test_of_two_nodes_the_one_with_the_broken_gpu_ends_both_and_is_named(slurm_runs: Submitter) -> None:
    slurm_runs.submit("delta", '[ "$(hostname)" = n2 ] && exit 201; sleep 600', nodes=2)
    status = slurm_runs.wait("delta", *ENDED, seconds=60)
    assert (status.state, status.exit_code) == ("failed", 201)
    bad = slurm_runs.root / "runs/delta/logs/1/bad-nodes"
    assert bad.read_text().split("\t")[0] == "n2"


@pytest.mark.parametrize("first", ["n1", "n2"])
def test_a_killed_rank_is_the_cause_though_its_peers_node_ends_before_its_own(
    slurm_runs: Submitter, first: str
) -> None:
    """srun would end it at once, and then nobody knew of more than the peer's exception."""
    slurm_runs.submit("kappa", f'[ "$(hostname)" = {first} ] && exit 1; sleep 5; exit 137', nodes=2)
    assert slurm_runs.wait("kappa", *ENDED, seconds=60).exit_code == 137


def test_a_node_whose_task_is_killed_with_all_it_runs_is_the_cause(slurm_runs: Submitter) -> None:
    """As for want of memory. It leaves no word, but srun knows."""
    killed = "(sleep 2; kill -KILL 0) & sleep 60"
    slurm_runs.submit("lambda", f'[ "$(hostname)" = n1 ] && {{ sleep 2; exit 1; }}; {killed}', nodes=2)
    assert slurm_runs.wait("lambda", *ENDED, seconds=60).exit_code == 137


def test_a_failure_that_hangs_its_peers_ends_them_too(
    slurm_runs: Submitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.slurm.script.LAST_WORDS_SECONDS", 3)
    slurm_runs.submit(
        "mu", '[ "$(hostname)" = n1 ] && exit 1; trap "" TERM; while :; do sleep 1; done', nodes=2
    )
    assert slurm_runs.wait("mu", *ENDED, seconds=60).exit_code == 1


def test_time_limits_are_capped(slurm_runs: Submitter) -> None:
    """A trainer that is stopped at once each time would otherwise go on for ever."""
    slurm_runs.submit("epsilon", "touch $RUN_DIR/STOP; exit 200", max_attempts=2)
    slurm_runs.until(lambda: reasons(slurm_runs, "epsilon") == ["stopped"] * 2, "two attempts", 60)
    slurm_runs.cluster.wait_until_idle()
    assert slurm_runs.cluster.run("squeue", "-h") == ""
    assert "2 attempts made; not requeued" in slurm_runs.log("epsilon")[-1]


def test_a_requeue_by_hand_makes_another_attempt_that_is_not_counted(slurm_runs: Submitter) -> None:
    job = slurm_runs.submit("zeta", until_attempt(2, UNTIL_STOPPED), max_attempts=1)
    slurm_runs.wait_for_line("zeta", "started 1")
    slurm_runs.cluster.run("scontrol", "requeue", job)
    status = slurm_runs.wait("zeta", *ENDED)
    assert (status.state, status.attempt) == ("finished", 2)
    assert reasons(slurm_runs, "zeta")[0] == "requeued"


@pytest.mark.parametrize("grace", ["trap 'exit 200' TERM", "trap '' TERM"])
def test_a_preempted_job_goes_on_uncounted(slurm_runs: Submitter, grace: str) -> None:
    """Slurm signals the steps at once and the script later. The trainer checkpoints, or is killed with all else:
    then the script may be as well, before it has written why, or while Slurm has the job in its queue again.
    """
    trainer = until_attempt(2, f"{grace}; while :; do sleep 0.1; done")
    slurm_runs.submit("eta", trainer, partition="low", exclusive="true", nodes=2, max_attempts=1)
    slurm_runs.wait_for_line("eta", "started 1")
    slurm_runs.submit("urgent", "sleep 2", exclusive="true", nodes=2)
    status = slurm_runs.wait("eta", *ENDED)
    assert (status.state, status.attempt) == ("finished", 2)
    known = ["preempted"] if "200" in grace else ["preempted", "requeued", None]
    assert reasons(slurm_runs, "eta")[0] in known
    assert slurm_runs.status("urgent").state == "finished"


@pytest.mark.parametrize("checkpoint", ["exit 200", "sleep 60"])
def test_where_preemption_cancels_the_job_starts_itself_again(slurm_runs: Submitter, checkpoint: str) -> None:
    """PreemptMode=CANCEL and no grace: TERM to all at once, and nobody else requeues.

    A trainer that saves until Slurm kills it is killed together with the script.
    """
    trainer = until_attempt(2, f"trap '{checkpoint}' TERM; echo ready; while :; do sleep 0.1; done")
    slurm_runs.submit("nu", trainer, partition="scavenge", exclusive="true", nodes=2, max_attempts=1)
    slurm_runs.wait_for_line("nu", "ready")
    slurm_runs.submit("urgent", "sleep 2", exclusive="true", nodes=2)
    status = slurm_runs.wait("nu", *ENDED)
    assert (status.state, status.attempt) == ("finished", 2)
    assert reasons(slurm_runs, "nu")[0] == "preempted"


def test_a_node_that_dies_is_no_failure_and_is_avoided(
    slurm_runs: Submitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm itself takes five minutes to notice. The peers fail in their own way, long before that."""
    monkeypatch.setattr("jobctl.slurm.script.LAST_WORDS_SECONDS", 2)
    monkeypatch.setattr("jobctl.slurm.script.ANSWER_SECONDS", 10)
    fails = 'until [ -e "$RUN_DIR/dead" ]; do sleep 0.1; done; exit 1'
    body = until_attempt(2, f'echo ready; [ "$(hostname)" = n1 ] || sleep 600; {fails}')
    job = slurm_runs.submit("xi", body, nodes=2, retries=0)
    slurm_runs.wait_for_line("xi", "ready")
    slurm_runs.until(lambda: slurm_runs.log("xi").count("ready") == 2, "both at work", 60)

    slurm_runs.cluster.power_off("n2")
    (slurm_runs.root / "runs/xi/dead").touch()
    slurm_runs.until(lambda: reasons(slurm_runs, "xi") == ["node failure"], "its reason", 120)
    requeued = "requeued, without n2"
    slurm_runs.until(lambda: requeued in "\n".join(slurm_runs.log("xi")), requeued, 60)
    # Slurm still waits for the dead node's word that the attempt has ended.
    assert slurm_runs.status("xi").detail == "a node died; ending"
    bad = (slurm_runs.root / "runs/xi/logs/1/bad-nodes").read_text()
    assert bad.startswith("n2\tit died: ")

    slurm_runs.cluster.start_node("n2")
    slurm_runs.wait("xi", "pending", seconds=60)
    assert "ExcNodeList=n2" in slurm_runs.cluster.run("scontrol", "show", "job", job)
    slurm_runs.cluster.run("scontrol", "update", f"jobid={job}", "excnodelist=")
    assert slurm_runs.wait("xi", *ENDED).state == "finished"


def test_a_living_node_that_leaves_no_word_is_not_blamed(slurm_runs: Submitter) -> None:
    slurm_runs.submit("omicron", "(sleep 1; kill -KILL 0) & sleep 60", nodes=2)
    assert slurm_runs.wait("omicron", *ENDED, seconds=60).exit_code == 137
    assert reasons(slurm_runs, "omicron") == ["failed"]
    assert not (slurm_runs.root / "runs/omicron/logs/1/bad-nodes").exists()


def test_a_controller_that_restarts_at_the_requeue_loses_no_job(slurm_runs: Submitter) -> None:
    job = slurm_runs.submit("pi", until_attempt(2, UNTIL_STOPPED))
    slurm_runs.wait_for_line("pi", "started 1")
    slurm_runs.cluster.run("scancel", "--signal=USR2", "--batch", job)
    slurm_runs.cluster.stop_controller()
    lost = slurm_runs.root / "runs/pi/logs/1/requeue-lost"
    slurm_runs.until(lost.exists, "a requeue that nobody takes", 90)
    assert "jobctl: requeued" not in slurm_runs.log("pi")
    slurm_runs.cluster.start_controller()
    assert slurm_runs.wait("pi", *ENDED).state == "finished"
    assert len(slurm_runs.read("pi").attempts) == 2
    assert not lost.exists()


def test_attempts_that_save_nothing_are_not_repeated_for_ever(slurm_runs: Submitter) -> None:
    slurm_runs.submit("rho", "exit 200", max_attempts=50)
    slurm_runs.until(lambda: len(slurm_runs.read("rho").attempts) == 3, "three attempts", 60)
    assert slurm_runs.wait("rho", "stopped", "failed").attempt == 3
    slurm_runs.cluster.wait_until_idle()
    assert slurm_runs.cluster.run("squeue", "-h") == ""
    assert "3 attempts in a row saved no step" in slurm_runs.log("rho")[-1]


def test_a_warning_before_the_time_limit_is_near_is_a_preemption(slurm_runs: Submitter) -> None:
    """Slurm sends the same signal as before the time limit where the site has send_user_signal."""
    job = slurm_runs.submit("eta", until_attempt(2, UNTIL_STOPPED), max_attempts=1)
    slurm_runs.wait_for_line("eta", "started 1")
    slurm_runs.cluster.run("scancel", "--signal=USR2", "--batch", job)
    status = slurm_runs.wait("eta", *ENDED)
    assert (status.state, status.attempt) == ("finished", 2)
    assert reasons(slurm_runs, "eta") == ["preempted", "finished"]


def test_logs_are_followed_over_a_requeue_to_the_end(slurm_runs: Submitter) -> None:
    job = slurm_runs.submit("iota", until_attempt(2, UNTIL_STOPPED))
    slurm_runs.wait_for_line("iota", "started 1")
    followed: list[str] = []
    logs = TARGET.logs(slurm_runs.read("iota"), rank=None, attempt=None, follow=True)
    reader = threading.Thread(target=lambda: followed.extend(logs))
    reader.start()
    slurm_runs.cluster.run("scancel", "--signal=USR2", "--batch", job)
    reader.join(90)
    assert not reader.is_alive()
    assert [line for line in followed if line.startswith(("started", "checkpointed", "jobctl"))] == [
        "started 1 on n1", "checkpointed", "jobctl: requeued", "started 2 on n1",
    ]  # fmt: skip


def test_a_cancelled_run_is_not_retried(slurm_runs: Submitter) -> None:
    slurm_runs.submit("theta", "trap 'exit 1' TERM; echo ready; while :; do sleep 0.1; done", retries=5)
    slurm_runs.wait_for_line("theta", "ready")
    TARGET.cancel(slurm_runs.read("theta"))
    assert slurm_runs.wait("theta", *ENDED).state == "cancelled"
    slurm_runs.cluster.wait_until_idle()
    assert reasons(slurm_runs, "theta") == ["cancelled"]
