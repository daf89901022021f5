"""What the dashboard's pages weigh, and when the list is painted: wanted are under 700 kB and under 500 ms.

    .venv/bin/python benchmarks/page_weight.py [--runs 7]

A real service with 60 experiments, a small sweep among them, and the machine's Chromium with an empty cache each time.
Weights are the bytes that travelled, compressed where the service compresses.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from browsing import WIDE, browsing, serving, sign_in
from machine import describe
from playwright.sync_api import Browser, BrowserContext

from adadim.client import Client

_SWEEP = """
name: small-sweep
model: {backbone: conv_small, width: 4, projector: {layers: 2, hidden: 32, out: 32}}
training: {epochs: 3, warmup_epochs: 1, optimizer: adamw}
search: {algorithm: grid, space: {training.lr: {choice: [0.001, 0.002]}}}
"""
_OTHERS = 60
_PAGES = {  # address, and what is there once it shows what it is about
    "list": ("/", ".experiments tbody tr"),
    "experiment": ("/experiments/1", ".answer-sentence"),
    "trial": ("/experiments/1/trials/0", ".trial-curves canvas"),
    "diff": ("/diff?of=1.0,1.1", ".diff tbody td"),
    "new": ("/new?from=1", ".plan-summary"),
    "documentation of the API": ("/docs", ".opblock"),
}
_SHOWN = """selector => new Promise(done => {
    const look = () => document.querySelector(selector) ? done(performance.now()) : requestAnimationFrame(look);
    look();
})"""
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    print(describe("playwright", "fastapi", "uvicorn"))
    with (
        tempfile.TemporaryDirectory(prefix="adadim-pages-") as directory,
        serving(Path(directory)) as (client, token),
        browsing() as browser,
    ):
        _fill(client)
        context = browser.new_context(viewport=WIDE)
        sign_in(context.new_page(), client.url, token)
        state: Any = context.storage_state()
        for name, (path, selector) in _PAGES.items():
            found = [_visit(browser, state, client.url + path, selector) for _ in range(runs)]
            print(f"{name}: {_told(found)}")


def _fill(client: Client) -> None:
    number = client.submit(_SWEEP)["id"]
    for event in client.events(number):
        if event.kind == "experiment" and event.data["state"] in ("succeeded", "failed"):
            break
    for k in range(_OTHERS):
        client.cancel(client.submit(f"name: other-{k}")["id"])


def _visit(browser: Browser, state: Any, url: str, selector: str) -> tuple[int, int, float, float]:
    """Bytes and requests of a page, and after how many milliseconds it painted first, and showed what it is about."""
    context: BrowserContext = browser.new_context(viewport=WIDE, storage_state=state)
    page = context.new_page()
    sizes: list[int] = []
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
    page.goto(url, wait_until="commit")
    shown = page.evaluate(_SHOWN, selector)
    page.wait_for_load_state("load")
    painted = page.evaluate(_PAINTED)
    context.close()
    return sum(sizes), len(sizes), painted, shown


def _told(found: list[tuple[int, int, float, float]]) -> str:
    size, requests, painted, shown = map(statistics.median, zip(*found, strict=True))
    return f"{size / 1000:.0f} kB in {requests:.0f} requests, first paint {painted:.0f} ms, content {shown:.0f} ms"


if __name__ == "__main__":
    main()
