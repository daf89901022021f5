"""A service and a browser on its dashboard, for what is measured of pages and for pictures of them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from adadim.client import Client, ClientError
from adadim.connection import open_client

WIDE: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[tuple[Client, str]]:
    """A service with this state directory and a local Ray: a client of it, and the admin's token."""
    os.environ |= {"ADADIM_STATE_DIR": str(directory), "ADADIM_PORT": "0"}
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "service.log").open("wb") as log:
        service = subprocess.Popen([sys.executable, "-m", "service.cli.main", "serve"], stdout=log, stderr=log)
    try:
        with _connected(service) as client:
            yield client, (directory / "token").read_text().strip()
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)


def _connected(service: subprocess.Popen[bytes]) -> Client:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and service.poll() is None:
        with contextlib.suppress(ClientError):
            client = open_client()
            if client.is_ready():
                return client
        time.sleep(0.1)
    raise SystemExit("the service did not start")


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """The Chromium or Chrome of this machine."""
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        raise SystemExit("there is no Chromium or Chrome here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


def sign_in(page: Page, url: str, token: str) -> None:
    """By the link that `adadim serve` prints."""
    page.goto(f"{url}/#token={token}")
    page.get_by_role("button", name="Sign in as").click()
    page.get_by_text("Sign out").wait_for()
