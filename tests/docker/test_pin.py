"""`make pin-check` resolves from nothing: whatever is altered in a list is named, and the exit code is 1."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from jobctl.docker import lock, pin, variants
from jobctl.jobs.core.errors import UserError
from tests.absent import absent

DATE = "2026-11-28T00:00:00Z"
ALTERATIONS = {
    "hash": (lambda text: text.replace("sha256:", "sha256:0", 1), "no file on the index has sha256:0"),
    "every hash": (lambda text: text.replace("sha256:", "sha256:0"), "no file on the index has sha256:0"),
    "lost hash": (lambda text: re.sub(r" \\\n.*", "", text, count=1), "is not pinned"),
    "version": (lambda text: text.replace("lower==1.0", "lower==0.9"), "lower is pinned to 0.9"),
    "missing line": (lambda text: without(text, "lower"), "lower is missing"),
    "superfluous line": (lambda text: text + "evil==1.0 \\\n    --hash=sha256:00\n", "evil is superfluous"),
    "repeated line": (lambda text: text + entry(text, "lower"), "a line is repeated"),
    "another index": (lambda text: text + "--index-url=https://example.org\n", "--index-url"),
}


def entry(text: str, package: str) -> str:
    """Return the lines of ``package``: one entry of a list is its requirement and one line for each hash."""
    start = text.index(f"{package}==")
    lines = text[start:].splitlines(keepends=True)
    length = next(number for number, line in enumerate(lines, start=1) if not line.endswith("\\\n"))
    return "".join(lines[:length])


def without(text: str, package: str) -> str:
    return text.replace(entry(text, package), "")


def make_wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """Write the smallest wheel that a resolver takes."""
    info = f"{name}-{version}.dist-info"
    needed = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={digest(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"

    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One list, `base`, whose only requirement needs a second package; the index is a folder of wheels."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if shutil.which("uv", path=path) is None:
        absent("JOBCTL_REQUIRE_IMAGES", "not installed: uv (requirements/test.txt)")
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)

    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "upper", "2.0", requires="lower")
    make_wheel(wheels, "lower", "0.9")
    make_wheel(wheels, "lower", "1.0")

    requirements = tmp_path / "requirements"
    requirements.mkdir()
    (requirements / "base.in").write_text("upper\n")
    monkeypatch.setattr(pin, "REQUIREMENTS", requirements)
    monkeypatch.setattr(pin, "INDEX_DATE", requirements / "index-date.txt")
    monkeypatch.setattr(pin, "TESTED", ())
    monkeypatch.setattr(lock, "texts", lambda _: {})
    monkeypatch.setattr(variants, "FOLDER", tmp_path)
    monkeypatch.setattr(variants, "NAMES", ())

    assert pin.main([f"--find-links={wheels}", f"--index-date={DATE}"]) == 0
    return tmp_path


def test_pin_writes_every_version_with_its_hash_and_the_time_of_the_index(lists: Path) -> None:
    pinned = pin.entries((lists / "base.txt").read_text())
    wheels = {name: lists / f"wheels/{name}-py3-none-any.whl" for name in ("upper-2.0", "lower-1.0")}
    assert pinned == {
        name.partition("-")[0]: (
            name.partition("-")[2],
            frozenset({f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"}),
        )
        for name, wheel in wheels.items()
    }
    assert (lists / "requirements/index-date.txt").read_text() == f"{DATE}\n"


def test_an_unaltered_list_passes_and_is_not_changed(lists: Path) -> None:
    before = (lists / "base.txt").read_text()
    assert pin.main(["--check", f"--find-links={lists}/wheels"]) == 0
    assert (lists / "base.txt").read_text() == before


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_altered_list_is_named_and_is_exit_code_1(
    lists: Path, capsys: pytest.CaptureFixture[str], alteration: str
) -> None:
    alter, message = ALTERATIONS[alteration]
    file = lists / "base.txt"
    altered = alter(file.read_text())
    assert altered != file.read_text()
    file.write_text(altered)

    assert pin.main(["--check", f"--find-links={lists}/wheels"]) == 1
    said = capsys.readouterr().err
    assert "base.txt: " in said
    assert message in said
    assert file.read_text() == altered


def test_a_list_that_is_not_there_is_named(lists: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lists / "base.txt").unlink()
    assert pin.main(["--check", f"--find-links={lists}/wheels"]) == 1
    assert "base.txt: upper is missing" in capsys.readouterr().err


def test_of_torch_one_file_is_pinned_whatever_else_lies_beside_it() -> None:
    torch = "torch==2 \\\n    --hash=sha256:22 \\\n    --hash=sha256:33\n"
    text = f"a==1 \\\n    --hash=sha256:11\n{torch}z==1 \\\n    --hash=sha256:44\n"
    assert pin.with_one_hash(text, "torch", "33") == text.replace("    --hash=sha256:22 \\\n", "")
    with pytest.raises(UserError, match="no file of torch has the SHA-256 55"):
        pin.with_one_hash(text, "torch", "55")


def test_without_uv_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="uv is not installed"):
        pin.compiled("no-deps", DATE, None)
