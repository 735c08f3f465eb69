"""Take a picture of a page with a headless Chromium of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from jobctl.jobs.core.durable import write_named
from jobctl.jobs.core.errors import UserError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
SIZE = (1920, 1080)
"""Pixels of a slide."""
PATIENCE_SECONDS = 60


def find_browser() -> str:
    """Return the path of a Chromium: ``$JOBCTL_BROWSER``, or else a program with one of the usual names.

    Raises UserError if there is none.
    """
    chosen = os.environ.get("JOBCTL_BROWSER", "")
    candidates = (chosen,) if chosen else NAMES
    path = next((path for name in candidates if (path := shutil.which(name))), None)
    if path is None:
        raise UserError(
            f"--png needs a Chromium, but {chosen or 'none of ' + ', '.join(NAMES)} is on the PATH",
            hint="set JOBCTL_BROWSER to a Chromium. Or write the page with -o FILE.html and open it on a "
            "machine with a browser: each figure has a PNG button",
        )

    return path


def options(profile: Path) -> list[str]:
    """Return the options of a headless browser that leaves the user's own files alone."""
    words = [
        "--headless=new",
        f"--user-data-dir={profile}",
        "--disable-gpu",
        # Docker gives /dev/shm 64 MB, with which Chromium crashes.
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-extensions",
        "--disable-background-networking",
    ]
    # Chromium refuses its sandbox to root. We have just written the page, so it is safe.
    return [*words, "--no-sandbox"] if os.geteuid() == 0 else words


def take_picture(page: Path, picture: Path, *, figure: str = "", dark: bool = False) -> None:
    """Write a PNG of a report's figures, or of one of them. Raises UserError if the browser fails."""
    browser = find_browser()
    address = f"{page.resolve().as_uri()}#slide={figure}&theme={'dark' if dark else 'light'}"
    with tempfile.TemporaryDirectory(prefix="jobctl-browser-") as folder:
        # The user's file is not written directly: a browser that fails may leave half of a picture.
        shot = Path(folder) / "shot.png"
        words = [
            browser,
            *options(Path(folder) / "profile"),
            f"--screenshot={shot}",
            f"--window-size={SIZE[0]},{SIZE[1]}",
            # Scripts draw before the picture is taken; virtual time costs no real seconds.
            "--virtual-time-budget=2000",
            address,
        ]

        try:
            done = subprocess.run(words, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{browser} made no picture: {error}", code=1) from None

        # The file decides, because an exit code does not prove that a picture exists.
        if not shot.is_file():
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise UserError(f"{browser} made no picture: {' '.join(last)}", code=1)

        write_named(picture, shot.read_bytes())
