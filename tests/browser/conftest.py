"""One service and one browser for every test of this folder, whichever file it is in.

A worker's reports come over HTTP as from an attempt; its job is the record of the stand-in for Ray, so that nothing has
to be trained. Tests share the database: find experiments by number or name, and count nothing that others submit.
"""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from service.cluster.ports import free_ports
from tests.browser.lab import Console, Lab, sign_in
from tests.e2e.conftest import run_service
from tests.service.service_harness import RAY_TOKEN, RayStandIn

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

expect.set_options(timeout=90_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser there is nothing to show the dashboard in."""
    if BROWSER is None:
        for item in items:
            if item.path.is_relative_to(__file__.rpartition("/")[0]):
                item.add_marker(pytest.mark.skip(reason="there is no Chromium or Chrome here"))


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    ray = RayStandIn()
    [port] = free_ports(1)  # one of its own: pages find the service again after a restart
    storage = tmp_path_factory.mktemp("storage")
    for service in run_service(
        tmp_path_factory,
        RAY_ADDRESS=ray.address,
        RAY_AUTH_TOKEN=RAY_TOKEN,
        ADADIM_PORT=str(port),
        ADADIM_STORAGE=str(storage),
        ADADIM_SLOTS="200",
    ):
        yield Lab(service, ray, storage)
    ray.go_away()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=180_000
        )
        yield browser
        browser.close()


@pytest.fixture
def console() -> Console:
    return Console()


@pytest.fixture
def blank(browser: Browser, console: Console) -> Iterator[Page]:
    """A page of somebody who has not signed in. The console stays empty, and no other host is asked."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(90_000)
    page = context.new_page()
    page.on("console", lambda message: message.type == "error" and console.errors.append(message.text))
    page.on("pageerror", lambda error: console.errors.append(str(error)))
    page.on("request", lambda request: console.asked(request.url))
    yield page
    context.close()
    assert console.complaints() == []


@pytest.fixture
def page(blank: Page, lab: Lab) -> Page:
    """Signed in as admin, by the link that `adadim serve` prints."""
    sign_in(blank, lab, lab.service.token)
    return blank
