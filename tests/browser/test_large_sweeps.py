"""A page of hundreds of trials stays light: few nodes, few bytes, no long task by the browser's processor time."""

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.lab import Lab

pytestmark = pytest.mark.slow

TRIALS, POINTS = 500, 500
SWEEP = f"""\
name: large
training: {{epochs: 25}}
search:
  algorithm: random
  trials: {TRIALS}
  space:
    objective.weighting: {{choice: [{{policy: fixed, alpha: 0.2}}, {{policy: adaptive}}]}}
    training.lr: {{log_uniform: [0.0001, 0.01]}}
"""
STATIC = Path(__file__).parents[2] / "service" / "dashboard" / "static"


@pytest.fixture(scope="module")
def large(lab: Lab) -> int:
    number, worker = lab.start(SWEEP)
    for first in range(0, TRIALS, 10):
        series = []
        for trial in range(first, first + 10):
            end = 0.5 + 0.4 * math.sin(trial) ** 2
            found = worker.points(
                trial,
                range(POINTS),
                h_r=lambda k, end=end: round(2 + end * (1 - math.exp(-k / 90)), 4),
                i_rz=lambda k, end=end: round(1 + end * k / POINTS, 4),
                knn_top1=lambda k, end=end: round(end * (1 - math.exp(-k / 70)), 4),
            )
            found["epochs"] = [25 * k / POINTS for k in range(POINTS)]
            series.append(found)
        done = [{"number": t, "state": "succeeded", "epoch": 25, "epochs": 25} for t in range(first, first + 10)]
        worker.report(series=series, trials=done)
    worker.report(outcome={"state": "succeeded"})
    return number


def longest_task_ms(trace: dict[str, Any]) -> float:
    """Processor time of the longest task of the page's main thread."""
    events = trace["traceEvents"]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    tasks = [
        e["tdur"] / 1000
        for e in events
        if e.get("ph") == "X"
        and e["name"].endswith("RunTask")
        and "tdur" in e
        and names.get((e["pid"], e["tid"])) == "CrRendererMain"
    ]
    assert tasks
    return float(max(tasks))


def test_five_hundred_trials_are_light(page: Page, lab: Lab, browser: Browser, large: int) -> None:
    received: dict[str, int] = {}
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda e: received.update({e["requestId"]: e["encodedDataLength"]}))
    browser.start_tracing(page=page, categories=["devtools.timeline", "toplevel"])
    page.goto(f"{lab.client.url}/experiments/{large}")
    expect(page.locator(".chart.h_r .chart-plot")).to_have_accessible_name(
        re.compile(rf"H\(R\): {TRIALS} curves of \d+ points")
    )
    field = page.get_by_label("Filter", exact=True)
    field.fill("weighting=adaptive")
    expect(page.locator(".filter-found")).to_contain_text(f"of {TRIALS} configurations")
    page.locator(".trials").get_by_role("button", name="lr", exact=True).click()
    page.get_by_role("region", name="Trial table").evaluate("node => node.scrollTo(0, 3000)")
    expect(page.locator(".trials tr.gap")).to_have_count(2)
    trace = json.loads(browser.stop_tracing())
    assert page.evaluate("document.querySelectorAll('*').length") < 3000
    assert sum(received.values()) < 2_000_000
    assert longest_task_ms(trace) < 200


def test_the_importance_of_fields_has_intervals(page: Page, lab: Lab, large: int) -> None:
    page.goto(f"{lab.client.url}/experiments/{large}?panels=importance")
    expect(page.locator(".importance-sentence")).to_contain_text(f"order of {TRIALS} configurations")
    rows = page.locator(".importance tbody tr")
    answer = page.request.get(f"{lab.client.url}/api/v1/experiments/{large}/importance").json()
    assert {field["field"] for field in answer["fields"]} == {"weighting", "lr", "alpha"}
    for k, field in enumerate(answer["fields"]):
        expect(rows.nth(k)).to_contain_text(field["field"])
        refused = field["share"] is None  # alpha has one value
        expect(rows.nth(k)).to_contain_text(field["refused"] if refused else f"{round(100 * field['share'])} %")
        expect(rows.nth(k).locator("svg.intervals")).to_have_count(0 if refused else 1)


def test_the_whole_page_weighs_less_than_700_kilobytes_compressed() -> None:
    parts = [path for path in STATIC.rglob("*") if path.is_file() and "swagger-ui" not in path.parts]
    weights = {path.name: len(gzip.compress(path.read_bytes())) for path in parts}
    assert sum(weights.values()) < 700_000, weights
