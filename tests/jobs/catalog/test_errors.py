import pytest

from jobs.catalog.errors import UserError, nearest, run_command


def test_the_hint_stands_under_the_message() -> None:
    assert str(UserError("no such run", hint="jobctl list")) == "no such run\n  jobctl list"
    assert UserError("x").code == 2


def test_nearest_lists_what_there_is_when_nothing_is_near() -> None:
    assert nearest("quen3", ["qwen3", "gpt2"]) == "did you mean 'qwen3'?"
    assert nearest("zzzzzz", ["b", "a"]) == "known: a, b"


def test_a_command_leaves_with_its_code_or_with_its_errors(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise UserError("no such file", hint="make it", code=7)

    with pytest.raises(SystemExit) as left:
        run_command(lambda: 3)
    assert left.value.code == 3
    with pytest.raises(SystemExit) as left:
        run_command(fails, "docker.pin")
    assert left.value.code == 7
    assert capsys.readouterr().err == "docker.pin: no such file\n  make it\n"
