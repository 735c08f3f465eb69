"""A real headless Chromium that a test drives through its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.monitoring.browser import find_browser, options
from tests.absent import absent

AXE = Path(__file__).resolve().parents[3] / ".venv/npm/node_modules/axe-core/axe.min.js"
PATIENCE_SECONDS = 60


def missing() -> str:
    """Return why no browser test can run here; nothing where they can."""
    try:
        find_browser()
    except UserError as error:
        return error.message

    return "" if AXE.is_file() else f"{AXE} is missing: npm install --prefix .venv/npm axe-core"


def need_browser() -> None:
    """Skip a test where there is no browser, or fail it where one is required."""
    if reason := missing():
        absent("JOBCTL_REQUIRE_BROWSER", reason)


class Tab:
    """One page in the browser."""

    def __init__(self, address: str) -> None:
        self.socket = websocket.create_connection(address, timeout=PATIENCE_SECONDS, suppress_origin=True)
        self.numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; events that come before it are kept."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

            self.events.append(message)

    def wait_for(self, event: str) -> None:
        """Wait until the browser has told ``event``."""
        while not any(message.get("method") == event for message in self.events):
            self.events.append(json.loads(self.socket.recv()))

    def run(self, expression: str) -> Any:
        """Return the value of JavaScript; a promise is waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def key(self, name: str) -> None:
        """Press a key and let it go."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Escape": 27, "Tab": 9}
        text = {"text": name} if len(name) == 1 else {}
        code = codes.get(name, ord(name[0]))
        self.call("Input.dispatchKeyEvent", type="keyDown", key=name, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def open(
        self, page: Path, *, width: int = 1400, height: int = 1000, dark: bool = False, hash: str = ""
    ) -> None:
        """Open a page in a window of a size, and wait until it is loaded."""
        self.call("Page.enable")
        self.call("Network.enable")
        self.call("Runtime.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        # From another page, for going to another place of the same one loads nothing.
        self.events.clear()
        self.call("Page.navigate", url="about:blank")
        self.wait_for("Page.loadEventFired")
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri() + hash)
        self.wait_for("Page.loadEventFired")

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked for since it was opened."""
        sent = [m for m in self.events if m.get("method") == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    @property
    def problems(self) -> list[str]:
        """What the page wrote as errors, and what it threw."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(m["params"])[:400] for m in self.events if m.get("method") in kinds]


@contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """Start a Chromium with a profile in ``folder``; its first tab."""
    words = [find_browser(), *options(folder / "profile"), "--remote-debugging-port=0", "about:blank"]
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.PIPE)

    assert process.stderr
    try:
        port = _port(process.stderr)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE_SECONDS) as answer:
            tabs = [entry for entry in json.load(answer) if entry["type"] == "page"]

        tab = Tab(tabs[0]["webSocketDebuggerUrl"])
        yield tab
        tab.socket.close()
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder / "profile", ignore_errors=True)


def _port(stream: Any) -> int:
    """Return the port that the browser says it listens on."""
    for line in stream:
        if b"DevTools listening on" in line:
            return int(line.split(b":")[2].split(b"/")[0])

    raise AssertionError("the browser ended before it listened")
