"""What every browser test stands on: a real service whose job is played by the test, and what a page complains of."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Page, expect

from adadim.client import Client
from tests.e2e.conftest import ServiceProcess, wait_for
from tests.service.service_harness import RayStandIn, take_over_by_http


@dataclass
class Worker:
    """Reports over HTTP, with the token its job was given."""

    url: str
    token: str
    began: float = field(default_factory=time.time)

    def report(self, **content: Any) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        httpx.post(self.url, json=content, headers=headers, trust_env=False, timeout=60).raise_for_status()

    def points(self, trial: int, steps: range, **values: Any) -> dict[str, Any]:
        """A series; a metric's value is a number for all steps, or a function of the step."""
        columns = {name: [at(k) if callable(at) else at for k in steps] for name, at in values.items()}
        times = [self.began + k for k in steps]
        return {
            "trial": trial,
            "steps": list(steps),
            "epochs": [k / 10 for k in steps],
            "times": times,
            "values": columns,
        }


class Lab:
    """A service, its stand-in for Ray, and what is submitted to it."""

    def __init__(self, service: ServiceProcess, ray: RayStandIn, storage: Path) -> None:
        self.service, self.ray, self.storage = service, ray, storage
        self.connect()

    def connect(self) -> None:
        client = self.service._connect()
        assert client is not None
        self.client: Client = client

    def start(self, spec: str) -> tuple[int, Worker]:
        """Submit an experiment and be its worker."""
        number = self.client.submit(spec)["id"]
        job = wait_for(lambda: self.ray.job_of(number), timeout_s=120, what="the job")
        return number, Worker(*take_over_by_http(self.client.url, job))


@dataclass
class Console:
    """What a page complained about."""

    errors: list[str] = field(default_factory=list)
    requests_fail: bool = False

    def asked(self, url: str) -> None:
        """A request to anybody but the service is an error."""
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
            self.errors.append(f"asked another host: {url}")

    def expect_failed_requests(self) -> None:
        """The browser tells of every request that fails; here some must, and may do so until the page is closed."""
        self.requests_fail = True

    def complaints(self) -> list[str]:
        """What nobody expected."""
        return [e for e in self.errors if not (self.requests_fail and e.startswith("Failed to load resource"))]


def sign_in(page: Page, lab: Lab, token: str) -> None:
    """By a link with a token, as `adadim serve` prints it."""
    page.goto(f"{lab.client.url}/#token={token}")
    page.get_by_role("button", name="Sign in as").click()
    expect(page.get_by_text("Sign out")).to_be_visible()
