"""Writing an experiment in a real browser: completion, problems where they are, the plan, examples, cloning."""

import re

from playwright.sync_api import Page, expect

from tests.browser.lab import Console, Lab, sign_in
from tests.e2e.conftest import sweep


def editor(page: Page) -> str:
    """What is written."""
    text: str = page.locator(".cm-content").inner_text()
    return text


def write(page: Page, text: str) -> None:
    """Put a text in place of all, as pasted."""
    page.locator(".cm-content").fill(text)


def complete(page: Page, word: str) -> None:
    """Ask for what may stand here, and take it."""
    page.keyboard.press("Control+Space")
    page.locator(".cm-tooltip-autocomplete li", has_text=re.compile(f"^{word}")).first.click()


def test_a_spec_is_written_by_completion_planned_and_submitted(page: Page, lab: Lab, console: Console) -> None:
    page.goto(lab.client.url)
    page.get_by_role("link", name="New experiment").click()
    plan = page.get_by_role("region", name="Plan")
    expect(plan).to_contain_text("1 trial")
    write(page, "name: written-here\ntraining: {epochs: 3, warmup_epochs: 0}\n")
    page.keyboard.press("Control+End")
    complete(page, "model")
    page.keyboard.type(" {")
    complete(page, "backbone")
    complete(page, "conv_small")
    page.keyboard.type("\n")
    page.locator(".cm-content").press("Control+End")
    assert "model: {backbone: conv_small" in editor(page)
    write(
        page,
        "name: written-here\ntraining: {epochs: 3, warmup_epochs: 0}\nmodel: {backbone: conv_small}\n"
        "search:\n  algorithm: grid\n  seeds: 2\n  space:\n    training.lr: {choice: [0.1, 0.2, 0.3]}\n",
    )
    expect(plan).to_contain_text("3 configurations x 2 seeds = 6 trials")
    expect(plan.locator(".varied")).to_contain_text("training.lr0.1, 0.2, 0.3")
    expect(plan.locator(".varied")).to_contain_text("training.seed0, 1")
    assert not any(e["name"] == "written-here" for e in lab.client.experiments())  # planning submits nothing
    page.get_by_role("button", name="Submit 6 trials").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("written-here")
    assert next(e for e in lab.client.experiments() if e["name"] == "written-here")["trial_count"] == 6
    console.expect_failed_requests()  # 422: who types slowly has what is half written planned too


def test_what_is_wrong_is_said_where_it_is(page: Page, lab: Lab, console: Console) -> None:
    page.goto(f"{lab.client.url}/new")
    plan = page.get_by_role("region", name="Plan")
    expect(plan).to_contain_text("1 trial")
    write(page, "name: wrong\ntraining:\n  epochs: many\nmodel: {width: 0}\n")
    expect(plan.locator("li")).to_have_count(2)
    expect(page.locator(".cm-lintRange-error")).to_have_text(["epochs", "width"])
    expect(page.get_by_role("button", name="Submit")).to_be_disabled()
    plan.get_by_role("button", name="/model/width").click()
    expect(page.locator(".cm-activeLine")).to_have_text("model: {width: 0}")
    write(page, "name: wrong\nmodel: {width: [\n")
    expect(plan.locator("li")).to_have_count(1)
    expect(page.locator(".cm-gutter-lint .cm-lint-marker-error")).to_have_count(1)
    write(page, "name: right\n")
    expect(plan).to_contain_text("1 trial")
    expect(page.locator(".cm-lintRange-error")).to_have_count(0)
    console.expect_failed_requests()  # 422


def test_the_keyboard_gets_out_of_the_editor(page: Page, lab: Lab) -> None:
    page.goto(f"{lab.client.url}/new")
    expect(page.get_by_role("button", name="Submit")).to_be_enabled()
    expect(page.locator(".cm-content")).to_be_focused()
    page.keyboard.press("Tab")  # indents
    expect(page.locator(".cm-content")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(page.locator(".cm-content")).not_to_be_focused()


def test_an_example_begins_one_and_the_network_s_past_tells_the_time(page: Page, lab: Lab) -> None:
    _, worker = lab.start(
        "{name: paced, model: {backbone: conv_small, width: 4}, training: {epochs: 2, warmup_epochs: 0}}"
    )
    worker.report(trials=[{"number": 0, "state": "running", "epoch": 0, "epochs": 2}])
    worker.report(trials=[{"number": 0, "state": "succeeded", "epoch": 2, "epochs": 2}])
    worker.report(outcome={"state": "succeeded"})
    page.goto(f"{lab.client.url}/new")
    example = page.locator("option", has_text=re.compile("^digits-sweep:")).get_attribute("value")
    page.get_by_label("Start from an example").select_option(example)
    plan = page.get_by_role("region", name="Plan")
    expect(plan).to_contain_text("4 configurations x 10 seeds = 40 trials")
    expect(plan).to_contain_text("objective.weighting")
    expect(plan).to_contain_text(re.compile(r"About \d+[smh].* earlier trials? of conv_small, width 4, on digits took"))


def test_a_clone_is_edited_before_it_is_submitted(page: Page, lab: Lab) -> None:
    number = lab.client.submit(sweep(3).replace("e2e-sweep", "the-original"))["id"]
    page.goto(f"{lab.client.url}/experiments/{number}")
    page.get_by_role("button", name="Clone").click()
    expect(page).to_have_url(f"{lab.client.url}/new?from={number}")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Clone of the-original #{number}")
    expect(page.locator(".cm-content")).to_contain_text("name: the-original")
    expect(page.get_by_role("region", name="Plan")).to_contain_text("4 configurations x 1 seed = 4 trials")
    assert lab.client.experiments(1)[0]["id"] == number
    write(page, editor(page).replace("the-original", "the-changed-clone"))
    page.keyboard.press("Control+Enter")  # before it is planned: it is sent as soon as it is
    expect(page.get_by_role("heading", level=1)).to_have_text("the-changed-clone")


def test_a_clone_of_a_preset_is_of_the_values_that_it_gave(page: Page, lab: Lab) -> None:
    number = lab.client.submit("name: of-a-preset\npreset: best\n")["id"]
    page.goto(f"{lab.client.url}/new?from={number}")
    expect(page.locator(".cm-content")).to_contain_text('"name": "of-a-preset"')
    expect(page.locator(".cm-content")).not_to_contain_text("preset: best")
    expect(page.get_by_role("region", name="Plan")).to_contain_text("1 trial")


def test_a_viewer_is_told_that_they_may_not_submit(blank: Page, lab: Lab, console: Console) -> None:
    sign_in(blank, lab, lab.client.create_token("reader", "viewer")["token"])
    blank.goto(f"{lab.client.url}/new")
    expect(blank.get_by_role("region", name="Plan")).to_contain_text("Forbidden")
    expect(blank.get_by_role("button", name="Submit")).to_be_disabled()
    console.expect_failed_requests()  # 403
