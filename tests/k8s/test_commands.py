"""A command in a pod: its input and output, its exit code, and a connection that breaks."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.k8s.api import Api
from jobctl.k8s.commands import Command, Verdict, parse_verdict
from jobctl.k8s.refusals import Refused
from tests.k8s.server import ApiServer, Fault


@pytest.fixture
def pod(server: ApiServer) -> str:
    """A pod in which commands can run."""
    container = {"name": "main", "image": "i"}
    thing = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "demo-0"},
        "spec": {"containers": [container]},
    }
    server.store.create("v1", "pods", "jobctl", thing)
    return "demo-0"


def begin(pod: str, script: str, *words: str) -> Command:
    return Command(Api(), "jobctl", pod, "main", ["bash", "-c", script, *words])


def test_a_command_gets_its_words_and_its_input_as_they_are(server: ApiServer, pod: str) -> None:
    command = begin(pod, 'printf "%s|" "$@"; head -c 100000 | wc -c', "it", "a b", "ü'\"$x\n", "")
    command.write(b"x" * 100_000)
    assert command.finish().decode() == "a b|ü'\"$x\n||100000\n"


def test_a_command_that_fails_says_its_last_words(server: ApiServer, pod: str) -> None:
    with pytest.raises(UserError, match="in pod demo-0: no such data set") as error:
        begin(pod, "echo some output; echo no such data set >&2; exit 3").finish()

    assert error.value.code == 1


def test_a_command_that_fails_in_silence_says_its_exit_code(server: ApiServer, pod: str) -> None:
    with pytest.raises(UserError, match="in pod demo-0: exit code 3"):
        begin(pod, "exit 3").finish()


def test_the_beats_of_a_silent_command_are_none_of_its_words(server: ApiServer, pod: str) -> None:
    r"""``BEAT`` writes ``\0``, so that the connection is not taken for dead."""
    with pytest.raises(UserError) as error:
        begin(pod, r"printf '\0\0' >&2; echo why >&2; printf '\0' >&2; exit 1").finish()

    assert error.value.message == "in pod demo-0: why"


def test_a_command_that_says_too_much_is_ended(server: ApiServer, pod: str) -> None:
    with pytest.raises(UserError, match="demo-0 prints more than 1000 bytes"):
        begin(pod, "head -c 1001 /dev/zero").finish(most=1000)

    assert len(begin(pod, "head -c 1000 /dev/zero").finish(most=1000)) == 1000


def test_a_connection_that_breaks_is_not_the_end_of_the_command(server: ApiServer, pod: str) -> None:
    """Half of a file must not pass for the whole of it."""
    server.faults = [Fault(lambda _, path: "/exec" in path, cut_after=10)]
    with pytest.raises(ConnectionError, match="demo-0"):
        begin(pod, "echo more than ten bytes").finish()


def test_a_pod_that_is_gone_is_refused(server: ApiServer) -> None:
    with pytest.raises(Refused, match='pods "demo-7" not found'):
        begin("demo-7", "true")


def test_a_server_that_is_ill_for_a_moment_is_a_broken_connection(server: ApiServer, pod: str) -> None:
    """Callers try those again, and a refusal they do not."""
    server.faults = [Fault(lambda _, path: "/exec" in path, status=503)]
    with pytest.raises(ConnectionError, match="entering pod demo-0: the API server answers 503"):
        begin(pod, "true")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"status": "Success"}', 0),
        (b'{"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}', 7),
        (b'{"status": "Failure", "message": "no such container"}', None),
        (b'{"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "x"}]}}', None),
    ],
)
def test_the_verdict_tells_the_exit_code_where_the_command_began(text: bytes, code: int | None) -> None:
    assert parse_verdict(text, "p").exit_code == code


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"status": 1}'])
def test_a_stream_without_a_verdict_was_cut(text: bytes) -> None:
    with pytest.raises(ConnectionError, match="p: the stream"):
        parse_verdict(text, "p")


def test_a_verdict_of_nothing_is_no_success() -> None:
    assert not Verdict().succeeded
