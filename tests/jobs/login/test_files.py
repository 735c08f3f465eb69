"""Files through a pipe: none twice, none outside the folder, none that is not whole."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.login.answer import end_mark
from jobctl.jobs.login.files import OtherWords, known_files, receive, send


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "logs/1").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "logs/1/a 'b' é.log").write_text("line\n" * 1000)
    (folder / "empty").touch()
    return folder


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def sent(source: Path, into: Path) -> bytes:
    out = io.BytesIO()
    send(source, known_files(into), out)
    return out.getvalue()


def received(data: bytes, into: Path) -> tuple[int, list[str], bool]:
    came = receive(io.BytesIO(data), into, lambda text: None)
    return came.copied, came.refused, came.is_whole


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def header(*files: tuple[str, bytes], **changes: object) -> bytes:
    """What a login node may say: any names, and sizes that need not be those of what follows."""
    sums = {"files": len(files), "coming": len(files), "bytes": 0} | changes
    lines = [json.dumps(sums).encode() + b"\n"]
    for name, content in files:
        facts = {"name": name, "size": len(content), "time": 10**18}
        lines.append(json.dumps(facts).encode() + b"\n" + content)
    return b"".join(lines)


END = b'{"end": true}\n'


def test_a_folder_comes_as_it_is_and_only_once(source: Path, into: Path) -> None:
    assert received(sent(source, into), into) == (3, [], True)
    assert files(into) == files(source)
    assert received(sent(source, into), into) == (0, [], True)
    with (source / "run.json").open("a") as file:
        file.write("more")
    (source / "empty").unlink()
    assert received(sent(source, into), into) == (1, [], True)
    assert (into / "run.json").read_text() == "{}more"


def test_names_that_are_no_text_come_as_well(source: Path, into: Path) -> None:
    (source / os.fsdecode(b"\xff\n")).write_text("odd")
    for _ in range(2):
        assert received(sent(source, into), into)[1:] == ([], True)
        assert files(into) == files(source)


def test_links_and_what_is_no_file_are_named_and_not_followed(
    source: Path, into: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("key")
    (source / "metrics").symlink_to(tmp_path)
    os.mkfifo(source / "pipe")
    data = sent(source, into)
    assert b"key" not in data
    assert json.loads(data.splitlines()[0])["named"] == [
        "'metrics': a symbolic link",
        "'pipe': not a regular file",
    ]
    assert received(data, into) == (3, [], True)


@pytest.mark.parametrize("length", [0, 1, 60, 130, 400, 5200])
def test_a_connection_that_breaks_leaves_whole_files_alone(source: Path, into: Path, length: int) -> None:
    data = sent(source, into)
    assert length < len(data) - len(END)
    try:
        assert not received(data[:length], into)[2]
    except ConnectionError:
        assert length <= data.index(b"\n")
    assert files(into).items() <= files(source).items()
    assert received(sent(source, into), into)[1:] == ([], True)
    assert files(into) == files(source)


def test_a_file_that_becomes_shorter_meanwhile_comes_again(
    source: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size was said already, so it is filled up; the next copy takes it anew."""
    path = source / "run.json"
    size = path.stat().st_size
    real = os.fstat

    def before_it_shrank(descriptor: int) -> os.stat_result:
        facts = real(descriptor)
        if facts.st_size != size:
            return facts
        words = list(facts)
        words[6] = size + 10
        return os.stat_result(words, {"st_mtime_ns": facts.st_mtime_ns})

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", before_it_shrank)
        data = sent(source, into)
    assert received(data, into) == (3, [], True)
    assert (into / "run.json").read_bytes() == b"{}" + bytes(10)
    assert received(sent(source, into), into) == (1, [], True)
    assert (into / "run.json").read_bytes() == b"{}"


def test_names_that_lead_elsewhere_are_refused_and_the_rest_comes(into: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (into / "logs").symlink_to(home)
    evil = ["../x", f"{home}/.bashrc", "a\\b", "logs/x", "a/../../x", "", "x\0y", "/".join("d" * 40)]
    data = header(*((name, b"12345") for name in (*evil, "good"))) + END
    copied, refused, is_whole = received(data, into)
    assert (copied, len(refused), is_whole) == (1, len(evil), True)
    assert list(home.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "into"]
    assert (into / "good").read_bytes() == b"12345"


def test_more_than_the_disk_holds_is_refused_before_it_comes(into: Path) -> None:
    with pytest.raises(UserError, match="the run needs"):
        received(header(bytes=10**18), into)
    line = json.dumps({"name": "x", "size": 10**18, "time": 1}).encode() + b"\n"
    with pytest.raises(UserError, match="the run needs"):
        received(header() + line, into)


@pytest.mark.parametrize(
    "line",
    [
        b"[]\n",
        b"nonsense\n",
        b'{"name": 3, "size": 1, "time": 1}\n',
        b'{"name": "x", "size": -1, "time": 1}\n',
        b'{"name": "x", "size": 1, "time": 1e300}\n',
        b'{"name": "x", "size": 1, "time": 99999999999999999999999}\n',
        b"x" * (1 << 21),
        b"[" * 200_000 + b"\n",
    ],
)
def test_a_line_that_is_no_file_ends_the_copy_in_words(into: Path, line: bytes) -> None:
    with pytest.raises(UserError, match="describes no file"):
        received(header() + line, into)


def test_a_refusal_in_the_place_of_files_is_one(into: Path) -> None:
    with pytest.raises(OtherWords) as refused:
        received(end_mark(2), into)
    assert refused.value.mark == end_mark(2)
