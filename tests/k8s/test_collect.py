"""A pod that lies about its files: nothing is written outside the folder, and the honest files come all the same."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.k8s.collect import BoundedHeader
from jobctl.k8s.listing import Listed, parse_listing
from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import SMOKE, jobctl_says

DIGEST = "0" * 64


class LyingPod:
    """Puts programs before the real ones that the reader's commands call: what they print is what the pod says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def prints(self, program: str, data: bytes, first: str = "cat >/dev/null") -> None:
        (self.folder / f"{program}.out").write_bytes(data)
        path = self.folder / program
        path.write_text(f"#!/bin/bash\n{first}\nexec cat {self.folder}/{program}.out\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def pod(
    cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> LyingPod:
    """Of a run that has ended."""
    cluster("exit 0")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    return LyingPod(tmp_path / "lies", monkeypatch)


def listing(*names: str, size: int = 5) -> bytes:
    return b"".join(f"{size} {DIGEST}  {name}\0".encode() for name in names)


def archive(*members: tuple[str, bytes], links: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A tar of links first, as one that would be written through them, and then of files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, target in links:
            link = tarfile.TarInfo(name)
            link.type = tarfile.SYMTYPE
            link.linkname = target
            tar.addfile(link)
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_names_that_lead_elsewhere_are_refused_and_the_rest_comes(
    pod: LyingPod, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home = tmp_path / "a-home"
    home.mkdir()
    evil = ["../../x", f"{home}/.bashrc", "a\\..\\x", "/".join(["d"] * 10_000)]
    good = ["run.json", "logs/1/batch.log"]
    pod.prints("xargs", listing(*evil, *good))
    members = [(name, b"12345") for name in (*evil[:3], *good, "not-asked-for")]
    pod.prints("tar", archive(*members, links=(("./logs", str(home)),)))
    before = files_below(tmp_path / "cluster" / "volume")
    code, out, err = jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "deep" / "out"), "--json")
    counts = json.loads(out)
    assert (code, counts["files"], counts["copied"], counts["refused"]) == (1, 2, 2, 4), err
    assert files_below(tmp_path / "deep") == ["out/logs/1/batch.log", "out/run.json"]
    assert files_below(home) == []
    assert files_below(tmp_path / "cluster" / "volume") == before
    assert "refused: the name '../../x' is refused: it leads out of its folder" in err


def test_a_link_that_stands_in_the_copy_is_not_written_through(
    pod: LyingPod, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home = tmp_path / "a-home"
    home.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "logs").symlink_to(home)
    pod.prints("xargs", listing("logs/x", "run.json"))
    pod.prints("tar", archive(("./logs/x", b"12345"), ("./run.json", b"12345")))
    code, _, err = jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"))
    assert (code, "goes through a symbolic link" in err) == (1, True)
    assert files_below(home) == []
    assert (tmp_path / "out" / "run.json").is_file()


def test_a_file_much_longer_than_listed_is_refused(
    pod: LyingPod, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.k8s.listing.GROWTH_BYTES", 1000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".endless.part").write_bytes(b"begun")
    (tmp_path / "cluster/volume/runs/demo/endless").touch()
    pod.prints("xargs", listing("endless", "long", "run.json"))
    pod.prints("tail", b"", first="exec yes")
    pod.prints("tar", archive(("./long", b"x" * 2000), ("./run.json", b"12345")))
    code, out, err = jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"), "--json")
    counts = json.loads(out)
    assert (code, counts["files"], counts["copied"], counts["refused"]) == (1, 1, 1, 2), err
    assert "'endless' is longer than the pod's list says" in err
    assert files_below(tmp_path / "out") == ["run.json"]


def test_a_run_larger_than_the_disk_is_refused_before_it_is_fetched(
    pod: LyingPod, server: ApiServer, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pod.prints("xargs", listing("huge", size=10**14))
    code, _, err = jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"))
    assert (code, "the run needs 100,000.00 GB more" in err) == (1, True)
    assert not [path for _, path in server.requests if "/exec" in path and "tar" in path]


def test_a_list_without_end_is_cut(
    pod: LyingPod, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.k8s.collect.LISTING_BYTES", 10_000)
    pod.prints("xargs", b"", first="exec yes")
    code, _, err = jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"))
    assert (code, "prints more than 10000 bytes" in err) == (1, True)


def test_a_list_is_read_entry_by_entry() -> None:
    said = parse_listing(listing("./a\nb") + b"nonsense\0" + listing("x/.."))
    assert said.files == {"a\nb": Listed(5, DIGEST)}
    assert len(said.refused) == 2


def test_a_header_that_announces_an_endless_name_is_not_read() -> None:
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    header.size = 10**10
    data = io.BytesIO(header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    with (
        pytest.raises(UserError, match="header of 10000000000 bytes"),
        tarfile.open(fileobj=data, mode="r|", tarinfo=BoundedHeader) as tar,
    ):
        tar.next()


def test_a_token_that_expires_in_the_middle_of_collect_is_renewed(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster("exit 0")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")

    def expires(_: str, path: str) -> bool:
        if "/exec" in path and server.tokens == {"good"}:
            server.tokens = {"renewed"}
            server.kubeconfig("renewed")
        return False

    server.faults = [Fault(expires)]
    assert jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"))[0] == 0
    assert server.tokens == {"renewed"}
    assert (tmp_path / "out/run.json").exists()


@pytest.mark.parametrize(
    "fault", [{"lost": True}, {"status": 429}, {"status": 500}, {"reset": True}], ids=str
)
def test_collect_comes_through_at_whichever_request(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path, fault: dict[str, object]
) -> None:  # fmt: skip
    cluster("exit 0")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    seen: set[tuple[str, str]] = set()

    def first_time(method: str, path: str) -> bool:
        key = (method, path.split("?")[0] + ("tar" if "tar" in path else ""))
        new = key not in seen
        seen.add(key)
        return new

    server.faults = [Fault(first_time, times=100, **fault)]  # type: ignore[arg-type]
    code, _, err = jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"))
    assert code == 0, err
    assert (tmp_path / "out/attempts/1.json").exists()
    assert not server.store.list_all("v1", "pods", "jobctl", "app.kubernetes.io/component=reader")


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
