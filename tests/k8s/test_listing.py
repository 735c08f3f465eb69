"""What a pod says of its files is checked before any of it is used."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jobctl.jobs.core.copying import FILES
from jobctl.jobs.core.errors import UserError
from jobctl.k8s.listing import GROWTH_BYTES, LIST, Listed, parse_listing

SUM = "0123456789abcdef" * 4


def entry(name: str, size: object = 12, digest: str = SUM) -> bytes:
    return f"{size} {digest}  {name}\0".encode("utf-8", "surrogateescape")


def test_each_entry_is_a_file_with_its_size_and_checksum() -> None:
    listing = parse_listing(entry("./metrics/a.jsonl", 7) + entry("./run.json", 3))

    assert listing.files == {"metrics/a.jsonl": Listed(7, SUM), "run.json": Listed(3, SUM)}
    assert listing.refused == []


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "./a/../../b", "./a//b/../../../c", "./", "./a\nb/../..", "."]
)
def test_a_name_that_leaves_the_folder_is_refused_and_the_rest_is_taken(name: str) -> None:
    listing = parse_listing(entry(name) + entry("./run.json"))

    assert list(listing.files) == ["run.json"]
    assert len(listing.refused) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"run.json\0",
        b"-1 " + SUM.encode() + b"  ./a\0",
        b"12 " + SUM[:-1].encode() + b"  ./a\0",
        b"12 " + SUM.upper().encode() + b"  ./a\0",
        b"9999999999999999 " + SUM.encode() + b"  ./a\0",
        b"12 " + SUM.encode() + b" ./a\0",
    ],
)
def test_what_is_no_entry_is_refused_in_words(garbage: bytes) -> None:
    listing = parse_listing(garbage + entry("./run.json"))

    assert list(listing.files) == ["run.json"]
    assert "an entry of the pod's list is not one" in listing.refused[0]


def test_an_escape_sequence_does_not_reach_the_terminal() -> None:
    listing = parse_listing(b"\x1b[2J\x1b[31mroot@login\0" + entry("./\x1b]0;x\x07/../a"))

    assert len(listing.refused) == 2
    assert not any("\x1b" in line for line in listing.refused)


def test_a_name_may_hold_what_a_file_system_allows() -> None:
    names = ["a b", "it's", "x\ny", "ü", "-rf"]
    listing = parse_listing(b"".join(entry(f"./{name}") for name in names))

    assert sorted([*listing.files]) == sorted(names)


def test_a_pod_cannot_list_without_end() -> None:
    with pytest.raises(UserError, match=f"at most {FILES} are taken"):
        parse_listing(b"x\0" * (FILES + 1))


def test_a_file_may_grow_but_not_without_bound() -> None:
    assert Listed(5, SUM).most == 5 + GROWTH_BYTES


def test_a_file_that_is_refused_later_is_no_longer_listed() -> None:
    listing = parse_listing(entry("./a") + entry("./b"))
    listing.refuse("a", "a: its checksum is another's")

    assert list(listing.files) == ["b"]
    assert listing.refused == ["a: its checksum is another's"]


def listed_by_bash(folder: Path) -> bytes:
    """Run the command that runs in the pod."""
    return subprocess.run(["bash", "-c", LIST, "bash", str(folder)], capture_output=True, check=True).stdout


def test_the_pods_command_prints_what_is_read_here(tmp_path: Path) -> None:
    import hashlib

    names = ["run.json", "logs/1/rank-0.log", "a b/it's $(id)", "line\nbreak"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".pods").mkdir()
    (tmp_path / ".pods/0").write_text("of the pods alone")
    (tmp_path / "link").symlink_to("/etc/passwd")

    listing = parse_listing(listed_by_bash(tmp_path))

    assert listing.refused == []
    assert listing.files == {
        name: Listed(len(name), hashlib.sha256(name.encode()).hexdigest()) for name in names
    }


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", LIST, "bash", str(tmp_path / "none")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "has the job begun?" in done.stderr
