"""The commands, against a cluster in a folder whose pods really run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from jobctl.jobs.cli import jobctl, main
from jobctl.k8s.names import MANAGED_BY, RUN_ANNOTATION
from jobctl.k8s.resources import kind_of
from tests.clusters import BUSY
from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer, Fault

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


def test_a_second_submission_says_so_and_changes_nothing(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    versions = {key: thing["metadata"]["resourceVersion"] for key, thing in server.store.objects.items()}
    code, out, _ = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--json")
    assert (code, json.loads(out)["new"]) == (0, False)
    assert versions == {
        key: thing["metadata"]["resourceVersion"] for key, thing in server.store.objects.items()
    }
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--set", "max_iters=7")
    assert code == 2
    assert "run 'demo' exists in namespace jobctl" in err


def test_a_run_is_found_from_a_host_that_never_saw_it(
    server: ApiServer, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    monkeypatch.setenv("JOBCTL_ROOT", str(tmp_path / "elsewhere"))
    assert jobctl_says(capfd, "status", "demo")[0] == 2
    code, out, _ = jobctl_says(capfd, "status", "demo", "--target", "k8s", "--json")
    assert (code, json.loads(out)["state"]) == (0, "submitted")
    assert [run["run"] for run in json.loads(jobctl_says(capfd, "list", "--target", "k8s", "--json")[1])] == [
        "demo"
    ]
    code, _, err = jobctl_says(capfd, "status", "demoo", "--target", "k8s")
    assert (code, "did you mean 'demo'?" in err) == (2, True)
    (tmp_path / "jobctl.yaml").write_text("target: k8s\n")
    assert jobctl_says(capfd, "status", "demo")[0] == 0


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


def test_graceful_cancel_creates_stop_and_the_run_can_be_resumed(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(f'[ "$attempt" = 2 ] && exit 0; {UNTIL_STOP}')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: (server.volume / "runs/demo/logs/1/rank-00000.log").exists())
    assert jobctl_says(capfd, "cancel", "demo", "--graceful")[0] == 0
    until(lambda: "demo: cancelled" in jobctl_says(capfd, "status", "demo")[1])
    assert record_of(server, "demo", 1)["reason"] == "cancelled"
    assert jobctl_says(capfd, "cancel", "demo")[0] == 1
    assert jobctl_says(capfd, "resume", "demo")[0] == 0
    until(lambda: "demo: finished" in jobctl_says(capfd, "status", "demo")[1])
    assert jobctl_says(capfd, "resume", "demo")[0] == 1


def test_an_edit_reaches_the_pods_and_stays_in_the_record(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(f'echo "$*" >"$run_dir/words.$attempt"; [ "$attempt" = 1 ] || exit 3; {UNTIL_STOP}')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: (server.volume / "runs/demo/logs/1/rank-00000.log").exists())
    jobctl_says(capfd, "cancel", "demo", "--graceful")
    until(lambda: "demo: cancelled" in jobctl_says(capfd, "status", "demo")[1])
    code, _, err = jobctl_says(capfd, "resume", "demo", "--set", "learning_rate=2e-3")
    assert (code, err) == (0, "")
    until(lambda: "demo: failed" in jobctl_says(capfd, "status", "demo")[1])
    assert jobctl_says(capfd, "resume", "demo")[0] == 0
    until(lambda: (server.volume / "runs/demo/words.3").exists())
    for attempt in (2, 3):
        words = (server.volume / f"runs/demo/words.{attempt}").read_text()
        assert "--learning_rate=0.002" in words
        assert "--allow_changes=learning_rate" in words

    assert "learning_rate=0.002" in jobctl_says(capfd, "describe", "demo")[1]


def test_cancel_deletes_the_job_and_keeps_the_record(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(UNTIL_STOP)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: "demo: running" in jobctl_says(capfd, "status", "demo")[1])
    assert jobctl_says(capfd, "cancel", "demo")[0] == 0
    until(lambda: "demo: cancelled" in jobctl_says(capfd, "status", "demo")[1])
    assert not server.store.list_all("kubeflow.org/v1", "pytorchjobs", "jobctl")
    assert jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")[0] == 2
    assert jobctl_says(capfd, "resume", "demo")[0] == 0


def test_trainjob_is_taken_where_only_that_is_served(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    del server.store.served["kubeflow.org/v1", "pytorchjobs"]
    cluster(FINISH)
    code, out, _ = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--nodes", "2")
    assert (code, "on k8s-trainjob" in out) == (0, True)
    assert jobctl_says(capfd, "wait", "demo")[0] == 0
    del server.store.served["trainer.kubeflow.org/v1alpha1", "trainjobs"]
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "other")
    assert (code, "the cluster serves no PyTorchJob" in err) == (1, True)


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


def test_a_job_cannot_wait_for_another(server: ApiServer, capfd: pytest.CaptureFixture[str]) -> None:
    jobctl_says(capfd, "submit", *SMOKE, "--run", "first")
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "second", "--after", "first")
    assert (code, "cannot wait for another" in err) == (1, True)
    assert not server.store.list_all("v1", "configmaps", "jobctl", "app.kubernetes.io/instance=second")


def test_a_cut_log_stream_goes_on_where_it_was(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster('for i in $(seq 40); do echo "line $i"; sleep 0.02; done; exit 0')
    server.faults = [Fault(lambda m, path: "/log" in path, times=3, cut_after=400)]
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    lines = jobctl_says(capfd, "logs", "demo", "-f")[1].splitlines()
    assert [line for line in lines if line.startswith("line ")] == [f"line {i}" for i in range(1, 41)]


def test_collect_goes_on_after_cut_streams_and_fetches_nothing_twice(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster('mkdir -p "$run_dir/checkpoints"; exit 0')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    for number in range(20):
        (server.volume / "runs/demo/checkpoints" / f"shard {number}\n.bin").write_bytes(
            bytes([number]) * 50_000
        )
    server.faults = [Fault(lambda m, path: "/exec" in path and "tar" in path, times=3, cut_after=200_000)]
    code, out, err = jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"), "--json")
    assert code == 0, err
    counts = json.loads(out)
    assert counts["copied"] == counts["files"] >= 20
    for number in range(20):
        path = tmp_path / "out/checkpoints" / f"shard {number}\n.bin"
        assert path.read_bytes() == bytes([number]) * 50_000
    counts = json.loads(jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"), "--json")[1])
    assert counts["copied"] == 0


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


def test_how_a_run_ended_is_known_when_its_job_is_gone(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """As after a week, when Kubernetes removes ended jobs."""
    cluster(FINISH)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    server.store.delete("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    assert json.loads(jobctl_says(capfd, "status", "demo", "--json")[1])["state"] == "finished"
    assert jobctl_says(capfd, "resume", "demo")[0] == 1


def test_how_a_run_ended_is_known_when_the_operator_was_removed(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(FINISH)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    server.store.delete("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    del server.store.served["kubeflow.org/v1", "pytorchjobs"]
    assert json.loads(jobctl_says(capfd, "status", "demo", "--json")[1])["state"] == "finished"


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


def test_a_running_attempt_has_its_number(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(f'[ "$attempt" = 1 ] && exit 200; {UNTIL_STOP}')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: json.loads(jobctl_says(capfd, "status", "demo", "--json")[1])["attempt"] == 2)


def test_events_are_asked_for_by_the_objects_of_the_run(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(FINISH).unschedulable = {"demo-master-0": "no GPU is free"}
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: "no GPU is free" in jobctl_says(capfd, "status", "demo")[1])
    asked = [path for _, path in server.requests if "/events" in path]
    assert asked
    assert all("involvedObject.name" in path for path in asked)


def test_somebody_elses_config_map_is_no_run(server: ApiServer, capfd: pytest.CaptureFixture[str]) -> None:
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}, "data": {"a": "b"}}
    server.store.create("v1", "configmaps", "jobctl", theirs)
    stray = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"run.json": "{}"}}
    marks = {"annotations": {RUN_ANNOTATION: "../../x"}, "labels": {MANAGED_BY: "jobctl"}}
    server.store.create("v1", "configmaps", "jobctl", stray | {"metadata": {"name": "stray", **marks}})
    assert json.loads(jobctl_says(capfd, "list", "--target", "k8s", "--json")[1]) == []
    code, _, err = jobctl_says(capfd, "status", "theirs", "--target", "k8s")
    assert (code, "no run 'theirs'" in err) == (2, True)
    assert jobctl_says(capfd, "submit", *SMOKE, "--run", "theirs")[0] == 2


@pytest.mark.parametrize("said", ["[]", "{", '{"spec": 7}', "[" * 100_000])
def test_one_broken_record_ends_no_list(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], said: str
) -> None:
    cluster(FINISH)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    marks = {"annotations": {RUN_ANNOTATION: "bad"}, "labels": {MANAGED_BY: "jobctl"}}
    broken = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"run.json": said}}
    server.store.create("v1", "configmaps", "jobctl", broken | {"metadata": {"name": "bad", **marks}})
    code, out, err = jobctl_says(capfd, "list", "--target", "k8s", "--json")
    assert (code, [status["run"] for status in json.loads(out)]) == (0, ["demo"])
    assert "left out: ConfigMap bad: not a run's record" in err
    code, _, err = jobctl_says(capfd, "status", "bad", "--target", "k8s")
    assert (code, "ConfigMap bad: not a run's record" in err) == (1, True)


def test_how_a_run_ended_is_unknown_where_its_annotation_is_broken(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(FINISH)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    server.store.delete("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    record = server.store.objects["v1", "configmaps", "jobctl", "demo"]
    record["metadata"]["annotations"]["jobctl/ended"] = "[]"
    assert json.loads(jobctl_says(capfd, "status", "demo", "--json")[1])["state"] == "unknown"


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


def test_collect_goes_on_within_a_file(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster("exit 0")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    content = os.urandom(3_000_000)
    (server.volume / "runs/demo/big").write_bytes(content)
    sends = Fault(
        lambda _, path: "/exec" in path and ("tar" in path or "tail" in path), times=100, cut_after=500_000
    )
    server.faults = [sends]
    code, _, err = jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"))
    assert code == 0, err
    assert (tmp_path / "out/big").read_bytes() == content
    assert 6 <= 100 - sends.times <= 9
    assert not list((tmp_path / "out").rglob("*.part"))


def test_a_part_that_is_not_the_files_beginning_is_fetched_anew(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster("exit 0")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    (server.volume / "runs/demo/big").write_bytes(b"new content")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.big.part").write_bytes(b"old")
    assert jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"))[0] == 0
    assert (tmp_path / "out/big").read_bytes() == b"new content"


def test_collect_into_what_cannot_be_written_is_a_message(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster("exit 0")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    (tmp_path / "file").touch()
    code, _, err = jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "file"))
    assert (code, f"{tmp_path}/file: File exists" in err) == (1, True)
    (tmp_path / "out/run.json").mkdir(parents=True)
    code, _, err = jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"))
    assert (code, "out/run.json is not a regular file" in err) == (1, True)
    assert (tmp_path / "out/attempts/1.json").is_file()
    assert not server.store.list_all("v1", "pods", "jobctl", "app.kubernetes.io/component=reader")


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


def test_export_again_with_other_words_takes_the_place_of_the_ended_one(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server lets nobody change a Job's pods."""
    cluster('echo "$*" >>"$JOBCTL_ROOT/exports"; exit 0')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    for words in ([], ["--", "--step=5"]):
        code, out, err = jobctl_says(capfd, "submit", "export", "--target", "k8s", "--run", "demo", *words)
        assert (code, "job demo--export" in out) == (0, True), err
        assert jobctl_says(capfd, "wait", "demo:export")[0] == 0
    assert "--step=5" in (server.volume / "exports").read_text().splitlines()[-1]


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
