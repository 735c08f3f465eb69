"""The commands, against a cluster in a folder whose pods really run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from jobctl.jobs.cli import jobctl, main
from jobctl.k8s.resources import kind_of
from tests.clusters import BUSY
from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer

SMOKE = ["--model", "qwen3_smoke", "--stage", "smoke", "--target", "k8s", "--set", "processes_per_node=1"]
FINISH = 'echo "step 1" >>"$log"; echo "iter 1: loss 2.0"; exit 0'
UNTIL_STOP = 'echo working >>"$log"; until [ -e "$run_dir/STOP" ]; do sleep 0.05; done; exit 200'


def jobctl_says(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    capfd.readouterr()
    code = 0
    try:
        main(list(words))
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return code, out, err


def until(happens: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + BUSY * seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def record_of(server: ApiServer, run: str, attempt: int) -> dict[str, object]:
    path = server.volume / "runs" / run / "attempts" / f"{attempt}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def test_from_submission_to_the_collected_run(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster(FINISH)
    assert jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")[:2] == (
        0, "submitted run demo (job demo on k8s, namespace jobctl)\n",
    )  # fmt: skip
    assert jobctl_says(capfd, "wait", "demo")[0] == 0
    assert "demo: finished, attempt 1, job demo on k8s" in jobctl_says(capfd, "status", "demo")[1]
    assert "iter 1: loss 2.0" in jobctl_says(capfd, "logs", "demo")[1]
    assert jobctl_says(capfd, "logs", "demo", "--rank", "0")[1] == "step 1\n"
    assert "pod 0: [rank 0] step 1" in jobctl_says(capfd, "logs", "demo", "--all-ranks")[1]
    code, out, err = jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"))
    assert (code, "4 copied" in out) == (0, True), (out, err)
    there = server.volume / "runs" / "demo"
    for path in (tmp_path / "out").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (there / path.relative_to(tmp_path / "out")).read_bytes()
    assert not server.store.list_all("v1", "pods", "jobctl", "app.kubernetes.io/component=reader")
    assert record_of(server, "demo", 1)["reason"] == "finished"


def test_a_pending_pod_says_what_the_scheduler_says(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    why = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    cluster(FINISH).unschedulable = {"demo-master-0": why}
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: "Insufficient nvidia.com/gpu" in jobctl_says(capfd, "status", "demo")[1])
    assert "demo: pending" in jobctl_says(capfd, "status", "demo")[1]


def test_a_job_in_a_queue_waits_to_be_admitted(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(FINISH)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--set", "queue=research")
    assert "waits to be admitted in queue research" in jobctl_says(capfd, "status", "demo")[1]


def test_a_failure_shows_the_containers_last_words_and_is_not_tried_again(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster('echo "error: no data set in /workspace"; exit 2')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    code, out, _ = jobctl_says(capfd, "wait", "demo")
    assert code == 2
    assert "exit code 2" in out
    assert "error: no data set" in out
    assert record_of(server, "demo", 1)["reason"] == "configuration"
    assert not record_of(server, "demo", 2)


def test_200_is_another_attempt_and_the_logs_follow_into_it(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster('echo "attempt $attempt works"; sleep 0.4; [ "$attempt" -lt 3 ] && exit 200; exit 0')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    code, out, _ = jobctl_says(capfd, "logs", "demo", "--follow")
    assert code == 0
    assert "attempt 3 works" in out
    assert [record_of(server, "demo", n)["reason"] for n in (1, 2, 3)] == ["stopped", "stopped", "finished"]


def test_prep_is_an_indexed_job(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster('echo "$JOB_COMPLETION_INDEX: $*"; exit 0')
    words = ["submit", "prep", "--dataset", "sotu", "--tokenizer", "gpt2", "--target", "k8s", "--nodes", "3"]
    assert jobctl_says(capfd, *words, "--run", "prep")[0] == 0
    assert jobctl_says(capfd, "wait", "prep")[0] == 0
    logs = server.volume / "runs/prep/logs"
    assert "-m jobctl.prep" in (logs / "1/batch.log").read_text()
    assert "2: -m jobctl.prep" in (logs / "pod-2/batch.log").read_text()


def test_status_counts_pods_and_shows_warnings(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(FINISH).unschedulable = {f"demo-worker-{n}": "no GPU is free" for n in range(2)}
    event = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "jobctl"}, "type": "Warning",
        "reason": "FailedScheduling", "message": "no GPU", "involvedObject": {"name": "demo-worker-0"},
    }  # fmt: skip
    with server.store.lock:
        server.store.objects["v1", "events", "jobctl", "e"] = event
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--nodes", "3")
    until(lambda: "pods: 2 pending, 1 running of 3" in jobctl_says(capfd, "status", "demo")[1])
    out = jobctl_says(capfd, "status", "demo")[1]
    assert "demo-worker-1: no GPU is free" in out
    assert "event: FailedScheduling: no GPU" in out


def test_an_evaluation_that_was_cancelled_once_can_finish(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(
        '[[ $* == *--eval_only=True* ]] || exit 0; [ -e "$JOBCTL_ROOT/again" ] && exit 0; '
        'touch "$JOBCTL_ROOT/again"; sleep 60'
    )
    words = [word for word in SMOKE if word not in ("--stage", "smoke")]
    jobctl_says(capfd, "submit", *words, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    jobctl_says(capfd, "submit", "eval", *words, "--run", "demo")
    until((server.volume / "again").exists)
    jobctl_says(capfd, "cancel", "demo:eval")
    until(lambda: "demo:eval: cancelled" in jobctl_says(capfd, "status", "demo:eval")[1])
    assert jobctl_says(capfd, "submit", "eval", *words, "--run", "demo")[0] == 0
    assert jobctl_says(capfd, "wait", "demo:eval")[0] == 0
    assert "demo:eval: finished" in jobctl_says(capfd, "status", "demo:eval")[1]


def test_list_has_one_line_a_run_and_says_the_attempt(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster('for i in $(seq 30); do echo "a long line of the log, number $i"; done; exit 3')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    lines = jobctl_says(capfd, "list")[1].splitlines()
    assert len(lines) == 2
    (facts,) = json.loads(jobctl_says(capfd, "list", "--json")[1])
    assert facts["attempt"] == 1


def test_a_manifest_that_kubectl_applied_is_a_run_too(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster('[ -e "$run_dir/again" ] || { touch "$run_dir/again"; exit 1; }')
    text = jobctl_says(capfd, "render", *SMOKE, "--run", "demo")[1]
    for thing in yaml.safe_load_all(text):
        kind = kind_of(thing)
        server.store.apply(kind.api_version, kind.plural, "jobctl", thing)
    assert jobctl_says(capfd, "wait", "demo", "--target", "k8s")[0] == 1
    assert jobctl_says(capfd, "collect", "demo", "--target", "k8s", "-o", str(tmp_path / "out"))[0] == 0
    assert (tmp_path / "out/again").exists()
    assert jobctl_says(capfd, "resume", "demo", "--target", "k8s")[0] == 0
    assert jobctl_says(capfd, "wait", "demo", "--target", "k8s")[0] == 0


@pytest.mark.parametrize("target", ["k8s", "k8s-trainjob"])
def test_an_evaluation_beside_a_live_training_is_a_job_of_its_own(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], target: str
) -> None:
    """Once ``status`` called the training finished, and ``cancel`` refused."""
    cluster(f"[[ $* != *--eval_only=True* ]] || {{ echo scored; exit 0; }}; {UNTIL_STOP}")
    words = ["--model", "qwen3_smoke", "--target", target, "--set", "processes_per_node=1", "--run", "demo"]
    jobctl_says(capfd, "submit", *words)
    until(lambda: "demo: running" in jobctl_says(capfd, "status", "demo")[1])
    stop = server.volume / "runs/demo/STOP"
    code, out, err = jobctl_says(capfd, "submit", "eval", *words)
    assert (code, f"submitted run demo:eval (job demo--eval on {target}" in out) == (0, True), err
    assert jobctl_says(capfd, "wait", "demo:eval")[0] == 0
    assert "scored" in jobctl_says(capfd, "logs", "demo:eval")[1]
    assert "demo: running, attempt 1, job demo on" in jobctl_says(capfd, "status", "demo")[1]
    assert not stop.exists()
    listed = jobctl_says(capfd, "list", "--target", target)[1].splitlines()[1:]
    assert [line.split()[:2] for line in listed] == [["demo", "running"], ["demo:eval", "finished"]]
    assert jobctl_says(capfd, "status", "demo--eval", "--target", target)[0] == 2, "no run of that name"
    assert jobctl_says(capfd, "cancel", "demo", "--graceful")[0] == 0
    assert jobctl_says(capfd, "wait", "demo")[0] != 0
    assert "demo: cancelled" in jobctl_says(capfd, "status", "demo")[1]


def test_a_sweep_is_told_of_each_size(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster('echo "$*" | grep -o -- "-m jobctl.trainer.sweep --plan=[^ ]*"; exit 0')
    words = ["submit", "sweep", "--model", "qwen3_smoke", "--target", "k8s", "--run", "demo"]
    assert jobctl_says(capfd, *words, "--set", "processes_per_node=1")[0] == 0
    assert jobctl_says(capfd, "wait", "demo")[0] == 0
    log = jobctl_says(capfd, "logs", "demo")[1]
    assert [size for size in (1, 2, 4, 8) if f'"name":"batch_size={size}"' in log] == [2, 4, 8]


def test_a_cancelled_sweep_is_told_to_end(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster('echo "$*" >>"$JOBCTL_ROOT/begun"; trap "exit 143" TERM; sleep 60 & wait')
    words = ["submit", "sweep", "--model", "qwen3_smoke", "--target", "k8s", "--run", "demo"]
    jobctl_says(capfd, *words, "--set", "processes_per_node=1")
    begun = server.volume / "begun"
    until(begun.exists)
    assert jobctl_says(capfd, "cancel", "demo", "--graceful")[0] == 0
    until(lambda: record_of(server, "demo", 1).get("reason") == "cancelled")
    until(lambda: "demo: cancelled" in jobctl_says(capfd, "status", "demo")[1])
    assert len(begun.read_text().splitlines()) == 1


@pytest.mark.parametrize("target", ["k8s", "k8s-trainjob"])
def test_preflight_runs_on_all_pods_together(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], target: str
) -> None:
    cluster(
        'echo "$*" >>"$run_dir/said"; until [ "$(wc -l <"$run_dir/said")" = 2 ]; do sleep 0.05; done; exit 0'
    )
    words = ["submit", "preflight", "--target", target, "--hardware", "cpu", "--nodes", "2", "--run", "check"]
    assert jobctl_says(capfd, *words)[0] == 0
    assert jobctl_says(capfd, "wait", "check")[0] == 0
    said = (server.volume / "runs/check/said").read_text()
    assert "-m jobctl.trainer.preflight --nnodes=2" in said
    assert "check" in jobctl_says(capfd, "list", "--target", target)[1]


def test_help_names_the_verbs() -> None:
    assert "collect" in CliRunner().invoke(jobctl, ["--help"]).output
