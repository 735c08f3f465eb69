"""What ssh says in words that name a remedy."""

from __future__ import annotations

import pytest

from jobctl.jobs.login.failures import FAILURES, failure

SAID = {
    "ssh: Could not resolve hostname lab: Name or service not known": "no host me@lab",
    "ssh: connect to host lab port 22: Connection refused": "no ssh server listens there",
    "ssh: connect to host lab port 22: Connection timed out": "me@lab does not answer",
    "Connection timed out during banner exchange": "me@lab does not answer",
    "ssh: connect to host lab port 22: No route to host": "cannot be reached from here",
    "Host key verification failed.": "the host key of me@lab is not known yet",
    "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.": "another one than before",
    "me@lab: Permission denied (publickey,keyboard-interactive).": "accepts none of your keys",
    "kex_exchange: Connection reset by peer\nConnection reset by 1.2.3.4 port 22": "before the login",
    "Bad owner or permissions on /home/me/.ssh/config": "refuses your configuration",
}


@pytest.mark.parametrize("said", SAID)
def test_each_failure_has_words_and_the_line_of_ssh(said: str) -> None:
    error = failure(said, "me@lab", "ssh -fN me@lab")
    assert SAID[said] in error.message
    assert said.splitlines()[-1].removeprefix("ssh: ") in error.message
    assert error.code == 1
    assert error.hint
    assert "{" not in str(error)


def test_a_host_that_asks_for_a_code_gets_the_command_that_leaves_a_login_open() -> None:
    error = failure("Permission denied (keyboard-interactive).", "lab", "ssh -fN -M lab")
    assert "ssh -fN -M lab" in error.hint


def test_what_is_not_known_is_quoted_and_silence_is_not() -> None:
    assert failure("Bad configuration option: x", "lab", "").message == (
        "no connection to lab (ssh: Bad configuration option: x)"
    )
    assert failure("", "lab", "").message == "no connection to lab"


def test_all_failures_can_be_said() -> None:
    for known in FAILURES:
        assert "{" not in str(failure(known.said, "lab", "ssh"))
