"""A headless browser, where there is one."""

import shutil
import subprocess
from typing import NamedTuple

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Seen(NamedTuple):
    """A page as a browser rendered it."""

    dom: str
    console: list[str]


def browse(page, profile, *flags):
    """Load a page, a file or an address; return its DOM and all console messages.

    Skip without a browser.
    """
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is on PATH")
    command = [
        program,
        "--headless=new",
        "--no-sandbox",  # tests may run as root, where the sandbox cannot
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        "--v=0",
        *flags,
        "--dump-dom",
        page if isinstance(page, str) else page.resolve().as_uri(),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    messages = [line for line in run.stderr.splitlines() if ":CONSOLE" in line]
    return Seen(run.stdout, messages)
