"""Pictures of every page, light and dark, wide and on a phone, with the demo's answer on them.

    .venv/bin/python benchmarks/screenshots.py [--out screenshots] [--state DIRECTORY]

Runs the demo's sweep and a small one in a service of its own, or shows what the service of a state directory has. The
picture in the README is experiment-light.png: `--readme` puts it there.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from browsing import PHONE, WIDE, browsing, serving, sign_in
from playwright.sync_api import Browser, Page

from adadim.client import Client

_DEMO = Path(__file__).parents[1] / "examples" / "digits-sweep.yaml"
_README = Path(__file__).parents[1] / "docs" / "dashboard.png"
_SMALL = """
name: learning-rates
labels: {project: weighting, stage: pilot}
model: {backbone: conv_small, width: 4, projector: {layers: 2, hidden: 32, out: 32}}
training: {epochs: 3, warmup_epochs: 1, optimizer: adamw}
search: {algorithm: grid, space: {training.lr: {choice: [0.001, 0.002]}}}
"""
_PAGES = {
    "list": "/",
    "experiment": "/experiments/{sweep}",
    "trial": "/experiments/{sweep}/trials/{best}",
    "diff": "/diff?of={sweep}.0,{sweep}.{best}",
    "new": "/new?from={sweep}",
    "api": "/docs",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("screenshots"), help="folder of the pictures")
    parser.add_argument("--state", type=Path, help="state directory of a service that has run the demo")
    parser.add_argument("--readme", action="store_true", help="put one of them into the README")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="adadim-pictures-") as directory,
        serving(options.state or Path(directory)) as (client, token),
        browsing() as browser,
    ):
        if options.state is None:
            _run(client)
        _take(browser, client, token, options.out)
    if options.readme:
        shutil.copy(options.out / "experiment-light.png", _README)


def _run(client: Client) -> None:
    for text in (_SMALL, _DEMO.read_text()):
        number = client.submit(text)["id"]
        for event in client.events(number):
            if event.kind == "experiment" and event.data["state"] in ("succeeded", "failed"):
                print(f"experiment {number}: {event.data['state']}")
                break


def _take(browser: Browser, client: Client, token: str, out: Path) -> None:
    sweep = next(e for e in client.experiments(200) if e["name"] == "digits-sweep" and e["state"] == "succeeded")
    paths = {name: path.format(sweep=sweep["id"], best=sweep["best_trial"]) for name, path in _PAGES.items()}
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        for suffix, size in (("", WIDE), ("-phone", PHONE)):
            page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
            sign_in(page, client.url, token)
            for name, path in paths.items():
                page.goto(client.url + path)
                _settle(page, name)
                file = out / f"{name}-{scheme}{suffix}.png"
                page.screenshot(path=file)
                print(file)
            page.close()


def _settle(page: Page, name: str) -> None:
    """Until the page shows what it is about, and its canvases are drawn."""
    shown = {
        "list": ".experiments tbody tr", "experiment": ".answer-sentence", "trial": ".trial-curves canvas",
        "diff": ".diff tbody td", "new": ".plan-summary", "api": ".opblock",
    }  # fmt: skip
    page.locator(shown[name]).first.wait_for()
    page.wait_for_timeout(800)


if __name__ == "__main__":
    main()
