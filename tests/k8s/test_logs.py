"""Lines of a pod's log: whose they are, of which attempt, and each of them once across cut streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import jobctl.k8s.api
import jobctl.k8s.connection
from jobctl.jobs.core.errors import UserError
from jobctl.k8s import logs, names
from jobctl.k8s.attempts import read_attempt
from jobctl.k8s.logs import FRUITLESS_TRIES, Wanted, all_logs, follow_pod, pod_logs
from jobctl.k8s.pods import Pod
from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import SMOKE, jobctl_says

BEGIN = "jobctl: run r, attempt {}, pod 0 on node-1"
Stream = list[bytes | Exception]


def pod(uid: str = "u1", *, running: bool = False, index: int = 0) -> Pod:
    """Return a pod that runs, or one that has ended well."""
    return Pod(
        name=f"r-{index}",
        uid=uid,
        index=index,
        phase="Running" if running else "Succeeded",
        created="",
        container="main",
        running=running,
        exit_code=None if running else 0,
    )


class ScriptedApi:
    """Answers each request for a log with the next stream; an exception in one cuts it."""

    def __init__(self, *streams: Stream) -> None:
        self.streams = iter(streams)
        self.queries: list[dict[str, str]] = []

    def stream(self, path: str, query: dict[str, str], doing: str) -> Iterator[bytes]:
        self.queries.append(query)
        for piece in next(self.streams, []):
            if isinstance(piece, Exception):
                raise piece
            yield piece


def stamped(*lines: str, second: int = 1) -> bytes:
    return b"".join(f"2026-11-29T08:00:{second:02d}Z {line}\n".encode() for line in lines)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs.time, "sleep", lambda seconds: None)


def looks(*states: tuple[list[Pod], bool]) -> Any:
    """Return what a look at the cluster gives: one state after another, and the last for ever."""
    upcoming = list(states)
    return lambda: upcoming.pop(0) if len(upcoming) > 1 else upcoming[0]


def followed(api: ScriptedApi, *states: tuple[list[Pod], bool], follow: bool = True) -> list[str]:
    return list(follow_pod(api, "jobctl", 0, looks(*states), follow))  # type: ignore[arg-type]


def test_a_rank_gets_its_lines_and_the_script_the_others() -> None:
    lines = [BEGIN.format(1), "[rank 0] step 1", "[rank 1] step 1", "jobctl: ended"]

    def picked(rank: int | None) -> list[str]:
        wanted = Wanted(rank, None)
        return [text for line in lines if (text := wanted.pick(line)) is not None]

    assert picked(0) == picked(1) == ["step 1"]
    assert picked(None) == [lines[0], lines[3]]
    assert picked(2) == []


def test_an_attempt_begins_with_the_line_that_says_so() -> None:
    wanted = Wanted(0, 2)
    lines = [
        "[rank 0] early",
        BEGIN.format(1),
        "[rank 0] a",
        BEGIN.format(2),
        "[rank 0] b",
        BEGIN.format(3),
        "[rank 0] c",
    ]

    assert [text for line in lines if (text := wanted.pick(line)) is not None] == ["b"]


def test_a_rank_whose_own_text_looks_like_a_prefix_is_not_split_twice() -> None:
    assert Wanted(3, None).pick("[rank 3] [rank 4] x") == "[rank 4] x"


def test_a_line_that_comes_in_pieces_is_one_line() -> None:
    whole = stamped("first", "sécond")
    api = ScriptedApi([whole[:10], whole[10:45], whole[45:-1]])

    assert followed(api, ([pod()], True)) == ["first", "sécond"]


def test_after_a_cut_no_line_is_lost_and_none_comes_twice() -> None:
    """The log is asked for again from a full second on, so lines of that second come a second time."""
    api = ScriptedApi(
        [stamped("a", "b", second=1), stamped("c", second=2), ConnectionError("cut")],
        [stamped("c", "d", second=2), stamped("e", second=3)],
    )
    running = [pod(running=True)]

    assert followed(api, (running, False), (running, False), ([pod()], True)) == ["a", "b", "c", "d", "e"]
    assert api.queries[1]["sinceTime"] == "2026-11-29T08:00:02Z"


def test_equal_lines_of_one_second_are_all_printed() -> None:
    api = ScriptedApi([stamped("x", "x"), ConnectionError("cut")], [stamped("x", "x", "x")])
    running = [pod(running=True)]

    assert followed(api, (running, False), ([pod()], True)) == ["x", "x", "x"]


def test_a_pod_that_takes_the_place_of_another_is_read_from_its_begin() -> None:
    api = ScriptedApi([stamped("old", second=50)], [stamped("new", second=3)])

    assert followed(api, ([pod("u1")], False), ([pod("u2")], True)) == ["old", "new"]
    assert "sinceTime" not in api.queries[1]


def test_a_stream_that_is_cut_without_a_line_is_given_up() -> None:
    api = ScriptedApi(*([ConnectionError("reading the log of r-0: cut")] for _ in range(50)))

    with pytest.raises(UserError, match="reading the log of r-0: cut"):
        followed(api, ([pod()], True))

    assert len(api.queries) == FRUITLESS_TRIES + 1


def test_without_follow_one_look_is_enough() -> None:
    api = ScriptedApi([stamped("a")])

    assert followed(api, ([pod(running=True)], False), follow=False) == ["a"]
    assert "follow" not in api.queries[0]


def lines_of(rank: int | None, attempt: int | None, *pieces: bytes) -> Iterable[str]:
    look = looks(([pod()], True))
    api: Any = ScriptedApi(list(pieces))
    return pod_logs(api, "jobctl", look, index=0, rank=rank, attempt=attempt, follow=False)


def test_where_there_is_no_line_the_error_says_whose() -> None:
    for rank, attempt, words in (
        (7, None, "no log of rank 7"),
        (None, 4, "no log of the batch script in attempt 4"),
    ):
        with pytest.raises(UserError, match=words) as raised:
            list(lines_of(rank, attempt, stamped("[rank 0] x")))
        assert "jobctl collect" in (raised.value.hint or "")


def test_all_pods_lines_are_marked_with_their_pod() -> None:
    both = [pod("u0", index=0), pod("u1", index=1)]

    class TwoPods(ScriptedApi):
        def stream(self, path: str, query: dict[str, str], doing: str) -> Iterator[bytes]:
            yield stamped(f"[rank {path.split('/')[-2][-1]}] x")

    api: Any = TwoPods()
    assert sorted(all_logs(api, "jobctl", looks((both, True)), 2, False)) == [
        "pod 0: [rank 0] x",
        "pod 1: [rank 1] x",
    ]


def test_an_error_in_one_pod_reaches_the_reader() -> None:
    api: Any = ScriptedApi(*([ConnectionError("cut")] for _ in range(50)))

    with pytest.raises(UserError, match="cut"):
        list(all_logs(api, "jobctl", looks(([pod()], True)), 1, False))


@pytest.mark.parametrize(
    ("pieces", "attempt"),
    [
        ([BEGIN.format(12).encode() + b"\n"], 12),
        ([b"waiting for pod 1\n" * 100, BEGIN.format(3).encode()], 3),
        ([b"[rank 0] " + BEGIN.format(9).encode() + b"\n"], 0),
        ([b"\xff\xfe\n"], 0),
        ([ConnectionError("cut")], 0),
        ([], 0),
    ],
)
def test_the_attempt_is_read_from_the_head_of_the_log(pieces: Stream, attempt: int) -> None:
    api: Any = ScriptedApi(pieces)

    assert read_attempt(api, "jobctl", pod(running=True)) == attempt
    assert int(api.queries[0]["limitBytes"]) <= 1 << 14


ENDED = {"conditions": [{"type": "Succeeded", "status": "True"}]}


@pytest.mark.parametrize("faults", [{"stalls": True}, {}], ids=["stalls", "cut"])
def test_a_log_stream_that_breaks_within_a_line_loses_none_and_halves_none(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    faults: dict[str, bool],
) -> None:  # fmt: skip
    monkeypatch.setattr(jobctl.k8s.connection, "SILENCE", 0.5)
    cluster('for i in $(seq 40); do echo "line $i"; sleep 0.02; done; exit 0')
    server.faults = [
        Fault(lambda _, path: "/log" in path, cut_after=size, **faults) for size in (340, 505, 777)
    ]
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    lines = jobctl_says(capfd, "logs", "demo", "-f")[1].splitlines()
    assert lines[1:] == [f"line {i}" for i in range(1, 41)]
    assert all(fault.times == 0 for fault in server.faults)


def test_lines_of_the_same_instant_are_all_shown(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = {**names.selector("demo"), names.COMPONENT: "train"}
    ended = {"name": "pytorch", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    ended["state"] = {"terminated": {"exitCode": 0}}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "demo-master-0", "uid": "u", "labels": labels},
        "spec": {"containers": [{"name": "pytorch", "image": "i"}]}, "status": {"containerStatuses": [ended]},
    }  # fmt: skip
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    server.store.create("v1", "pods", "jobctl", pod)
    server.logs["u"] = [("2026-11-25T10:00:00.000000001Z", text) for text in ("a", "b", "b", "c")]
    server.faults = [Fault(lambda _, path: "/log" in path, cut_after=70)]
    server.store.patch("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo", {"status": ENDED})
    assert jobctl_says(capfd, "logs", "demo", "-f")[1].split() == ["a", "b", "b", "c"]


def test_a_cut_log_stream_goes_on_where_it_was(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster('for i in $(seq 40); do echo "line $i"; sleep 0.02; done; exit 0')
    server.faults = [Fault(lambda m, path: "/log" in path, times=3, cut_after=400)]
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    lines = jobctl_says(capfd, "logs", "demo", "-f")[1].splitlines()
    assert [line for line in lines if line.startswith("line ")] == [f"line {i}" for i in range(1, 41)]
