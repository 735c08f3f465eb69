"""squeue and sacct output of several releases is read into the same jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl.jobs.core.errors import UserError
from jobctl.slurm.jobs import (
    FIELD,
    RECORD,
    Job,
    base_state,
    of_run,
    one_each,
    parse_sacct,
    parse_squeue,
    run_comment,
)

ALPHA = ("alpha", "jobctl:/data/a|b c/runs/alpha")
TIMES = ("1795489132", "1795489733", "1795490333")
QUEUED = ("31", "PENDING", "Resources", *TIMES, "gpu", "2", "", "10:00", "afterok:2(failed)", *ALPHA)
FRESH = ("32", "PENDING", "None", TIMES[0], "N/A", "N/A", "gpu", "1", "", "10:00", "(null)", "beta", "(null)")
DONE = (
    "30",
    "CANCELLED by 1000",
    "None",
    *TIMES[:2],
    "Unknown",
    "gpu",
    "2",
    "n[1-2]",
    "10:00",
    "0:15",
    *ALPHA,
)


def squeue(*records: tuple[str, ...]) -> str:
    return "".join(f"{RECORD}{FIELD.join(r)}\n" for r in records)


def sacct(*records: tuple[str, ...]) -> str:
    return "".join(f"{FIELD.join(r)}\n" for r in records)


def test_squeue_gives_expected_start_and_comment_with_any_character() -> None:
    alpha, beta = parse_squeue(squeue(QUEUED, FRESH))
    assert (alpha.id, alpha.state, alpha.reason, alpha.nodes) == ("31", "PENDING", "Resources", 2)
    assert (alpha.started, alpha.ended, alpha.submitted) == (1795489733, 1795490333, 1795489132)
    assert alpha.comment == "jobctl:/data/a|b c/runs/alpha"
    assert alpha.dependency == "afterok:2(failed)"
    assert beta == Job(
        id="32",
        name="beta",
        state="PENDING",
        partition="gpu",
        nodes=1,
        time_limit="10:00",
        submitted=1795489132,
    )


def test_what_slurm_24_11_printed() -> None:
    waiting, array, running = parse_squeue(
        "\x1e10002\x1fPENDING\x1fResources\x1f1795492351\x1f1795492951\x1f1795493551\x1fgpu\x1f2\x1f\x1f10:00"
        '\x1f(null)\x1fbeta\x1fjobctl:/d/it\'s "a" $(x) #;\\ é|b\n'
        "\x1e10003_[1-3%1]\x1fPENDING\x1fJobHeldUser\x1f1795492351\x1fN/A\x1fN/A\x1fgpu\x1f1\x1f\x1f10:00"
        "\x1f(null)\x1farr\x1fy\n"
        "\x1e10001\x1fRUNNING\x1fNone\x1f1795492351\x1f1795492351\x1f1795492951\x1fgpu\x1f2\x1fn[1-2]\x1f10:00"
        "\x1f(null)\x1falpha\x1fx\n"
    )
    assert (waiting.reason, waiting.started, waiting.comment) == (
        "Resources", 1795492951, "jobctl:/d/it's \"a\" $(x) #;\\ é|b",
    )  # fmt: skip
    assert (array.id, array.waiting, array.started) == ("10003_[1-3%1]", True, None)
    assert (running.state, running.reason, running.node_list) == ("RUNNING", "", "n[1-2]")


def test_a_comment_of_several_lines_is_one_job() -> None:
    text = squeue((*QUEUED[:-1], "first\nsecond"), FRESH)
    assert [job.comment for job in parse_squeue(text)] == ["first\nsecond", ""]
    text = sacct((*DONE[:-1], "first\nsecond"), DONE)
    assert [job.comment for job in parse_sacct(text)] == ["first\nsecond", DONE[-1]]


@given(st.text(max_size=30), st.text(max_size=30))
def test_what_others_name_their_jobs_never_stops_the_reading(name: str, comment: str) -> None:
    """A user's queue has other tools' jobs in it as well."""
    foreign = (*QUEUED[:-2], name, comment)
    assert parse_squeue(squeue(FRESH, foreign))[0].name == "beta"
    assert parse_squeue(squeue(foreign, FRESH))[-1].name == "beta"
    assert parse_sacct(sacct((*DONE[:-2], name, comment), DONE))[-1].name == "alpha"


def test_sacct_gives_exit_code_and_signal() -> None:
    (job,) = parse_sacct(sacct(DONE))
    assert (job.state, job.exit_code, job.signal, job.ended, job.node_list) == (
        "CANCELLED",
        0,
        15,
        None,
        "n[1-2]",
    )
    assert not job.active


def test_no_output_is_no_job() -> None:
    assert parse_squeue("") == parse_sacct("") == parse_sacct("\n") == []


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("RUNNING", "RUNNING"),
        ("CANCELLED by 0", "CANCELLED"),
        ("CANCELLED+", "CANCELLED"),
        ("OUT_OF_MEMORY", "OUT_OF_MEMORY"),
        ("", ""),
    ],
)
def test_a_state_is_one_word(said: str, state: str) -> None:
    assert base_state(said) == state


def test_the_jobs_of_a_run_are_told_by_name_and_directory() -> None:
    here, elsewhere = Path("/data/a/runs/x"), Path("/data/b/runs/x")
    jobs = [
        Job(id="3", name="x", state="PENDING", comment=run_comment(here), submitted=30),
        Job(id="1", name="x", state="FAILED", comment=run_comment(here), submitted=10),
        Job(id="2", name="x", state="RUNNING", comment=run_comment(elsewhere), submitted=20),
        Job(id="4", name="y", state="RUNNING", comment=run_comment(here), submitted=40),
    ]
    assert [job.id for job in of_run(jobs, "x", run_comment(here))] == ["1", "3"]
    assert [job.id for job in of_run(jobs, "x", run_comment(here), ids=["4"])] == ["1", "3", "4"]


def test_a_directory_that_slurm_s_comment_cannot_hold_is_refused() -> None:
    assert run_comment(Path("/" + "é" * 508)).endswith("é")
    with pytest.raises(UserError, match="too long"):
        run_comment(Path("/" + "é" * 509))


@pytest.mark.parametrize(
    ("job_id", "tasks"), [("7", 1), ("7_3", 1), ("7_[3]", 1), ("7_[1,4-6%2]", 4), ("7_[0-99]", 100)]
)
def test_tasks_that_a_line_of_squeue_stands_for(job_id: str, tasks: int) -> None:
    assert Job(id=job_id, name="x", state="PENDING").tasks == tasks


def test_of_a_federations_records_that_of_the_cluster_that_runs_the_job_counts() -> None:
    """As squeue --sibling --states=all printed them, while jobs began and while one was requeued."""

    def record(id_: str, state: str, nodes: str = "") -> Job:
        return Job(id=id_, name="x", state=state, node_list=nodes)

    def states(*jobs: Job) -> list[str]:
        return [f"{job.id} {job.state} {job.node_list}".strip() for job in one_each(jobs)]

    origin, remote = record("67108865", "REVOKED"), record("67108865", "RUNNING", "n1")
    assert states(origin, remote) == states(remote, origin) == ["67108865 RUNNING n1"]
    waiting = record("67108865", "PENDING")
    assert states(waiting, remote) == states(remote, waiting) == ["67108865 RUNNING n1"]
    requeued = record("67108865", "COMPLETING")
    assert states(requeued, remote) == ["67108865 RUNNING n1"]
    ended = record("67108865", "CANCELLED", "n1")
    assert states(ended, requeued) == states(requeued, ended) == ["67108865 COMPLETING"]
    assert states(ended, waiting) == ["67108865 PENDING"]
    assert states(origin, record("4294967294", "FAILED")) == []
    assert states(record("7", "RUNNING", "n2"), remote) == ["7 RUNNING n2", "67108865 RUNNING n1"]
