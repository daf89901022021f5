"""axe-core finds nothing serious on any page, light or dark, wide or narrow."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.lab import Console, Lab
from tests.e2e.conftest import sweep

AXE = (Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js").read_text()
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


def findings(page: Page) -> list[str]:
    """What axe-core holds for serious or critical: the rule, and the first element that breaks it."""
    page.evaluate(AXE)
    found: list[dict[str, Any]] = page.evaluate("axe.run().then(({ violations }) => violations)")
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:160]} {one['nodes'][0]['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.fixture(scope="module")
def experiment(lab: Lab) -> int:
    """A sweep with curves, a failure and an answer."""
    number, worker = lab.start(
        sweep(3).replace("e2e-sweep", "examined").replace("model:", "labels: {project: x}\nmodel:")
    )
    worker.report(
        trials=[
            {"number": 0, "state": "failed", "error": "out of memory"},
            *({"number": n, "state": "succeeded", "epoch": 3, "epochs": 3} for n in (1, 2, 3)),
        ],
        series=[worker.points(n, range(5), h_r=2.0, i_rz=1.0, alpha=0.5, knn_top1=0.5 + n / 10) for n in (1, 2, 3)],
        outcome={"state": "succeeded"},
    )
    return number


PAGES = {
    "": "Experiments",
    "experiments/{0}": "examined",
    "experiments/{0}/trials/1": "Trial 1",
    "diff?of={0}.1,{0}.2": "2 side by side",
    "new": "New experiment",
    "new?from={0}": "Clone of examined",
    "nonsense": "No such page",
}


def examine(page: Page, lab: Lab, experiment: int) -> dict[str, list[str]]:
    found = {}
    for path, heading in PAGES.items():
        page.goto(f"{lab.client.url}/{path.format(experiment)}")
        expect(page.get_by_role("heading", level=1)).to_contain_text(heading)
        if path.startswith("new"):
            expect(page.get_by_role("button", name="Submit")).to_be_enabled()
        if path.startswith("experiments"):
            expect(page.get_by_role("img").first).to_be_visible()
        found[path] = findings(page)
    return {path: problems for path, problems in found.items() if problems}


def test_nothing_serious_in_light(page: Page, lab: Lab, experiment: int, console: Console) -> None:
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    assert examine(page, lab, experiment) == {}
    page.get_by_text("Sign out").or_(page.get_by_role("link", name="All experiments")).first.click()
    console.expect_failed_requests()  # nonsense


@pytest.mark.slow
@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "dark"), (PHONE, "light"), (PHONE, "dark")])
def test_nothing_serious_in_the_dark_and_on_a_phone(
    page: Page, lab: Lab, experiment: int, console: Console, size: Any, scheme: Any
) -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    assert examine(page, lab, experiment) == {}
    console.expect_failed_requests()  # nonsense


def test_nothing_serious_where_one_signs_in(blank: Page, lab: Lab, console: Console) -> None:
    blank.goto(lab.client.url)
    expect(blank.get_by_label("Access token")).to_be_visible()
    assert findings(blank) == []
    console.expect_failed_requests()  # 401
