"""Events reach a webhook and a command; a receiver that fails disturbs nothing and tells no secret."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.monitoring import notify
from jobctl.jobs.monitoring.glance import Glance
from jobctl.jobs.monitoring.notify import Notifier, receivers
from jobctl.jobs.monitoring.notify_settings import Notify
from tests.jobs.monitoring.runs import write_attempt
from tests.jobs.monitoring.test_glance import going, look


class Service(http.server.ThreadingHTTPServer):
    """A webhook that keeps what it gets and answers ``code``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[Any] = []
        self.code = 200
        self.address = f"http://127.0.0.1:{self.server_port}/hooks/s3cret"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.code)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def seen(tmp_path: Path) -> Glance:
    write_attempt(going(tmp_path), 1)
    return look(tmp_path)


def told(settings: Notify, seen: Glance, environment: dict[str, str], *states: str) -> list[str]:
    """Show a notifier a run in each of ``states``; what it complains of."""
    complaints: list[str] = []
    notifier = Notifier(settings, complaints.append, environment)
    notifier.see(seen)
    for state in states:
        notifier.see(msgspec.structs.replace(seen, state=state))

    notifier.close()
    return complaints


def test_a_webhook_gets_the_event(service: Service, seen: Glance) -> None:
    settings = Notify(webhook_variable="HOOK")
    assert told(settings, seen, {"HOOK": service.address}, "silent", "running", "failed") == []
    assert [(path, body["event"]) for path, _, body in service.got] == [
        ("/hooks/s3cret", "stall"),
        ("/hooks/s3cret", "failure"),
    ]
    assert service.got[0][2]["text"].startswith("stall: ")


def test_only_the_events_asked_for_are_sent(service: Service, seen: Glance) -> None:
    told(
        Notify(webhook_variable="HOOK", on=("failure",)), seen, {"HOOK": service.address}, "silent", "failed"
    )
    assert [body["event"] for _, _, body in service.got] == ["failure"]


def test_a_webhook_that_refuses_or_is_gone_is_said_without_its_address(
    service: Service, seen: Glance
) -> None:
    service.code = 403
    settings = Notify(webhook_variable="HOOK")
    (complaint,) = told(settings, seen, {"HOOK": service.address}, "failed")
    assert complaint.endswith("the webhook answers 403")
    (complaint,) = told(settings, seen, {"HOOK": "http://127.0.0.1:1/s3cret"}, "failed")
    assert "s3cret" not in complaint
    assert "URLError" in complaint


def test_a_command_gets_the_event_on_its_input(tmp_path: Path, seen: Glance) -> None:
    program = f"import sys; open({str(tmp_path / 'got')!r}, 'a').write(sys.stdin.read())"
    assert told(Notify(command=(sys.executable, "-c", program)), seen, {}, "failed") == []
    assert json.loads((tmp_path / "got").read_text())["event"] == "failure"


def test_a_command_that_fails_or_is_missing_is_said(seen: Glance) -> None:
    program = "import sys; print('no mail today', file=sys.stderr); sys.exit(3)"
    (complaint,) = told(Notify(command=(sys.executable, "-c", program)), seen, {}, "failed")
    assert complaint.endswith("the command failed with exit code 3: no mail today")
    (complaint,) = told(Notify(command=("/no/such/program",)), seen, {}, "failed")
    assert "FileNotFoundError" in complaint


def test_a_slow_receiver_holds_up_nobody(seen: Glance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PATIENCE_SECONDS", 0.2)
    settings = Notify(command=(sys.executable, "-c", "import time; time.sleep(60)"))
    complaints: list[str] = []
    notifier = Notifier(settings, complaints.append, {})
    notifier.see(seen)
    # The thread has not ended the receiver before it is let go on.
    delivering = threading.Event()
    notifier.sends.insert(0, lambda event: delivering.wait(60))
    notifier.see(msgspec.structs.replace(seen, state="failed"))
    delivering.set()
    notifier.close()
    assert "took longer than" in complaints[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Notify(), "--notify has no receiver"),
        (Notify(webhook_variable="HOOK"), "HOOK must hold an http or https address"),
        (Notify(command=("x",), on=("ends",)), "unknown event 'ends'; did you mean 'end'"),
    ],
)
def test_settings_that_cannot_be_meant(settings: Notify, message: str) -> None:
    with pytest.raises(UserError, match=message):
        receivers(settings, {"HOOK": "file:///etc/passwd"})


def test_a_run_that_has_ended_before_the_first_look_is_told_here_and_not_sent(
    seen: Glance, service: Service
) -> None:
    said: list[str] = []
    notifier = Notifier(Notify(webhook_variable="HOOK"), said.append, {"HOOK": service.address})
    notifier.see(msgspec.structs.replace(seen, state="failed"))
    notifier.close()
    assert said == [f"{seen.run} has failed already, so no message is sent"]
    assert service.got == []
