"""The list in a real browser: searched, filtered, sorted, compared, live, by keyboard, on a phone, by role."""

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.lab import Console, Lab, sign_in
from tests.e2e.conftest import sweep

TRIALS = "search: {algorithm: grid, space: {training.seed: {choice: [%s]}}}"


def names(page: Page) -> Locator:
    return page.locator(".experiments .row-link")


def row(page: Page, name: str) -> Locator:
    return page.locator(".experiments tbody tr").filter(has=page.get_by_role("link", name=name, exact=True))


def submit(lab: Lab, name: str, label: str, rest: str = "") -> int:
    number: int = lab.client.submit(f"name: {name}\nlabels: {{suite: {label}, kind: {name[:2]}}}\n{rest}")["id"]
    return number


def test_it_is_searched_filtered_and_sorted_and_the_address_says_how(page: Page, lab: Lab) -> None:
    first = submit(lab, "ab-one", "listed", TRIALS % "1")
    submit(lab, "cd-three", "listed", TRIALS % "1, 2, 3")
    submit(lab, "ab-two", "listed", TRIALS % "1, 2")
    submit(lab, "ab-elsewhere", "other")
    page.goto(f"{lab.client.url}/?label=suite%3Dlisted")
    expect(names(page)).to_have_text(["ab-two", "cd-three", "ab-one"])
    page.get_by_role("button", name="Name", exact=True).click()
    expect(names(page)).to_have_text(["ab-one", "ab-two", "cd-three"])
    expect(page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", "ascending")
    page.get_by_role("button", name="Trials", exact=True).click()
    expect(names(page)).to_have_text(["cd-three", "ab-two", "ab-one"])
    page.get_by_role("searchbox").fill("AB-")
    expect(names(page)).to_have_text(["ab-two", "ab-one"])
    row(page, "ab-one").get_by_role("button", name="kind=ab").click()
    expect(page).to_have_url(f"{lab.client.url}/?q=AB-&label=suite%3Dlisted&label=kind%3Dab&sort=-trials")
    page.reload()
    expect(page.get_by_role("searchbox")).to_have_value("AB-")
    expect(names(page)).to_have_text(["ab-two", "ab-one"])
    page.get_by_role("searchbox").fill(f"#{first}")
    expect(names(page)).to_have_text(["ab-one"])
    page.get_by_role("searchbox").fill("nothing is called so")
    expect(page.get_by_role("status").filter(has_text="No experiment")).to_be_visible()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Remove the filter suite=listed").click()
    expect(names(page).filter(has_text="ab-elsewhere")).to_have_count(1)
    page.get_by_label("State").select_option("failed")
    expect(names(page).filter(has_text="ab-")).to_have_count(0)


def test_failed_trials_are_counted_and_rows_follow_what_happens(page: Page, lab: Lab) -> None:
    _, worker = lab.start(sweep(3).replace("e2e-sweep", "counted"))
    page.goto(f"{lab.client.url}/?q=counted")
    expect(row(page, "counted")).to_contain_text("0 / 4")
    worker.report(
        trials=[
            {"number": 0, "state": "succeeded", "epoch": 3, "epochs": 3},
            {"number": 1, "state": "failed", "error": "out of memory"},
            {"number": 2, "state": "failed", "error": "out of memory"},
        ],
        series=[worker.points(0, range(1), knn_top1=0.75)],
    )
    expect(row(page, "counted")).to_contain_text("3 / 4")
    expect(row(page, "counted")).to_contain_text("1 succeeded, 2 failed")
    expect(row(page, "counted")).to_contain_text("0.750")


def test_two_are_compared_by_keyboard(page: Page, lab: Lab) -> None:
    one = submit(lab, "compared-a", "compare", "training: {epochs: 7}")
    two = submit(lab, "compared-b", "compare", "training: {epochs: 9}\nmodel: {backbone: conv_small}")
    page.goto(f"{lab.client.url}/?label=suite%3Dcompare")
    expect(names(page)).to_have_count(2)
    for name in ("compared-a", "compared-b"):
        page.get_by_label(f"Choose {name}").focus()
        page.keyboard.press("Space")
    page.get_by_role("link", name="Compare 2").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{lab.client.url}/diff?of={one},{two}")
    fields = page.locator(".diff tbody").first.locator("tr th[scope=row]")
    expect(fields).to_have_text(["model.backbone", "name", "training.epochs"])
    expect(page.get_by_role("row", name="training.epochs")).to_contain_text("79")
    page.go_back()
    expect(names(page)).to_have_count(2)


def test_a_phone_shows_what_matters_within_its_width(page: Page, lab: Lab) -> None:
    _, worker = lab.start(sweep(3).replace("e2e-sweep", "on-a-phone-with-a-long-name"))
    worker.report(
        trials=[{"number": 0, "state": "succeeded"}, {"number": 1, "state": "failed", "error": "gone"}],
        series=[worker.points(0, range(1), knn_top1=0.875)],
        outcome={"state": "succeeded"},
    )
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{lab.client.url}/?q=on-a-phone")
    found = row(page, "on-a-phone-with-a-long-name")
    for text in ("succeeded", "1 failed", "0.875"):
        cell = found.locator("td").filter(has_text=text).last
        expect(cell).to_be_visible()
        box = cell.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    found.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("on-a-phone-with-a-long-name")


def test_viewers_look_and_do_not_write(blank: Page, lab: Lab) -> None:
    viewer = lab.client.create_token("visitor", "viewer")["token"]
    sign_in(blank, lab, viewer)
    expect(blank.get_by_role("heading", level=1)).to_be_visible()
    expect(blank.get_by_role("link", name="New experiment")).to_have_count(0)


def test_where_nothing_is_a_page_says_so(blank: Page, lab: Lab, console: Console) -> None:
    answer = blank.goto(f"{lab.client.url}/nonsense")
    assert answer is not None
    assert answer.status == 404
    expect(blank.get_by_role("heading", level=1)).to_have_text("No such page")
    blank.get_by_role("link", name="All experiments").click()
    expect(blank).to_have_url(f"{lab.client.url}/")
    console.expect_failed_requests()  # 404, and 401 before signing in


@pytest.mark.slow
def test_the_documentation_is_dark_where_the_system_is(page: Page, lab: Lab) -> None:
    for scheme, light in (("dark", False), ("light", True)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(f"{lab.client.url}/docs")
        expect(page.get_by_text("List Experiments")).to_be_visible()
        colour = page.evaluate("getComputedStyle(document.querySelector('.swagger-ui')).color")
        red = int(colour.split("(")[1].split(",")[0])
        assert (red < 128) == light


def test_submitters_write_but_change_only_what_is_theirs(blank: Page, lab: Lab) -> None:
    others = submit(lab, "of-the-admin", "roles")
    sign_in(blank, lab, lab.client.create_token("carol", "submitter")["token"])
    expect(blank.get_by_role("link", name="New experiment")).to_be_visible()
    blank.goto(f"{lab.client.url}/experiments/{others}")
    expect(blank.get_by_role("button", name="Clone")).to_be_visible()
    expect(blank.get_by_role("button", name="Delete")).to_be_hidden()
    blank.goto(f"{lab.client.url}/new")
    blank.get_by_role("button", name="Submit 1 trial").click()
    expect(blank.get_by_role("heading", level=1)).to_have_text("my-experiment")
    expect(blank.get_by_role("button", name="Delete")).to_be_visible()


@pytest.mark.slow
def test_it_says_when_the_service_is_away_and_goes_on_when_it_is_back(page: Page, lab: Lab, console: Console) -> None:
    submit(lab, "before-the-outage", "outage")
    page.goto(f"{lab.client.url}/?label=suite%3Doutage")
    expect(names(page)).to_have_text(["before-the-outage"])
    page.context.set_offline(True)
    expect(page.locator("#live")).to_have_text("reconnecting")
    expect(names(page)).to_have_text(["before-the-outage"])  # what is known stays
    submit(lab, "during-the-outage", "outage")
    page.context.set_offline(False)
    expect(names(page)).to_have_text(["during-the-outage", "before-the-outage"])
    expect(page.locator("#live")).to_be_hidden()
    console.expect_failed_requests()  # meanwhile
