"""The page of a sweep: one filter, one colour and one address for tables, curves, plane and parallel coordinates."""

import csv
import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pypdf
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.lab import Lab, Worker
from tests.e2e.conftest import wait_for

SWEEP = """\
name: broad
description: What does the rate do to each weighting?
training: {epochs: 4, warmup_epochs: 0}
search:
  algorithm: grid
  seeds: 2
  space:
    objective.weighting: {choice: [{policy: fixed, alpha: 0.0}, {policy: fixed, alpha: 1.0}, {policy: adaptive}]}
    training.lr: {choice: [0.02, 0.003, 0.001]}
"""
DIVERGED = 4
"""The trial of SWEEP whose H(R) leaves the others far behind."""
FAILED = 9


def level(params: dict[str, Any]) -> float:
    """The accuracy a trial ends with."""
    weighting = params["objective.weighting"]
    best = 0.9 if weighting["policy"] == "adaptive" else 0.8 - 0.1 * weighting["alpha"]
    return best - 0.02 * math.log10(params["training.lr"] / 0.001) + 0.01 * (params["training.seed"] % 2)


def report(worker: Worker, trials: list[dict[str, Any]], *, points: int = 9) -> None:
    """All trials from start to end, in one report; metrics are measured every half epoch."""
    series, states = [], []
    for trial in trials:
        number, last = trial["number"], level(trial["params"])
        found = worker.points(
            number,
            range(points),
            h_r=lambda k, last=last: 2 + last * (1 - 0.5**k),
            i_rz=lambda k, last=last, n=number: 1 + last + 0.01 * k + 0.001 * n,
            loss=lambda k, n=number: (n + 1) * 10.0 ** (2 - k / 2),
            knn_top1=lambda k, last=last: round(359 * last * (1 - 0.5 ** (k + 1))) / 359,
        )
        found["epochs"] = [k / 2 for k in range(points)]
        if number == DIVERGED:
            found["values"]["h_r"][-1] = 1e6
        series.append(found)
        failed = {"number": number, "state": "failed", "error": "out of memory"}
        done = {"number": number, "state": "succeeded", "epoch": 4, "epochs": 4}
        states.append(failed if number == FAILED else done)
    worker.report(trials=states, series=series)
    worker.report(outcome={"state": "succeeded"})


@pytest.fixture(scope="module")
def sweep(lab: Lab) -> int:
    """An ended sweep of 9 configurations with 2 seeds."""
    number, worker = lab.start(SWEEP)
    report(worker, lab.client.trials(number))
    return number


@pytest.fixture
def opened(page: Page, lab: Lab, sweep: int) -> Page:
    """Its page, with its curves."""
    page.goto(f"{lab.client.url}/experiments/{sweep}")
    expect(chart(page, "h_r")).to_have_accessible_name("H(R): 9 curves of 81 points")
    return page


def chart(page: Page, metric: str) -> Locator:
    return page.locator(f".chart.{metric} .chart-plot")


def configurations(page: Page) -> Locator:
    return page.locator(".configurations tbody tr:not(.gap):not(.of-configuration)")


def trials(page: Page) -> Locator:
    return page.locator(".trials tbody tr:not(.gap)")


def painted(plot: Locator) -> int:
    """Pixels of a chart's data."""
    found: int = plot.locator(".layer-data").evaluate(
        """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
            .data.filter((value, at) => at % 4 === 3 && value > 0).length"""
    )
    return found


def box(place: Locator) -> dict[str, float]:
    place.scroll_into_view_if_needed()
    found = place.bounding_box()
    assert found is not None
    return dict(found)


def colours(rows: Locator) -> list[str]:
    """Of the lines before the rows."""
    found: list[str] = rows.locator(".swatch line").evaluate_all("lines => lines.map(line => line.style.stroke)")
    return found


def module(page: Page, name: str, expression: str) -> Any:
    """What an expression gives with a script of the page as `m`."""
    return page.evaluate(f"import('/static/js/{name}.js').then(m => ({expression}))")


def test_the_answer_leads_to_configurations_and_their_trials(opened: Page) -> None:
    expect(opened.locator(".description")).to_have_text("What does the rate do to each weighting?")
    expect(opened.locator(".counts")).to_have_text("17 succeeded, 1 failed")
    expect(configurations(opened)).to_have_count(9)
    best = configurations(opened).first
    expect(best).to_contain_text("adaptive, lr=0.001")
    expect(best.locator("svg.intervals")).to_have_count(1)
    best.get_by_role("button", name="Open the trials of adaptive").click()
    under = opened.locator(".of-configuration")
    expect(under).to_have_count(2)
    expect(under.first).to_contain_text("seed 0")
    # Two more curves in each chart: the single trials.
    expect(chart(opened, "h_r")).to_have_accessible_name("H(R): 11 curves of 99 points")
    expect(under.first.get_by_role("link")).to_have_attribute("href", re.compile(r"/experiments/\d+/trials/\d+$"))


def readable(page: Page) -> bool:
    """Whether the standing of every configuration is on screen as a whole."""
    return bool(
        page.locator(".configurations .standing .lines").evaluate_all(
            """cells => cells.length > 0 && cells.every(cell => {
                const place = cell.getBoundingClientRect();
                return cell.scrollHeight <= cell.clientHeight + 1 && cell.scrollWidth <= cell.clientWidth
                    && place.right <= cell.closest(".scroll").getBoundingClientRect().right;
            })"""
        )
    )


def test_the_standing_of_each_configuration_can_be_read(opened: Page, lab: Lab, sweep: int) -> None:
    opened.set_viewport_size({"width": 1440, "height": 900})
    standings = [c["cells"][5] for c in lab.client.answer(sweep)["configurations"]]
    assert any(len(text) > 30 for text in standings), standings
    expect(opened.locator(".configurations .standing .lines")).to_have_text(standings)
    wait_for(lambda: readable(opened), timeout_s=60, what="standings that can be read")
    opened.set_viewport_size({"width": 800, "height": 900})
    wait_for(lambda: readable(opened), timeout_s=60, what="standings in view beside the columns that do not fit")
    heights = configurations(opened).evaluate_all("rows => rows.map(row => row.getBoundingClientRect().height)")
    assert len(set(heights)) == 1, "as the list takes them, which draws only those in view"


def test_curves_are_means_with_bands_and_single_trials_on_demand(opened: Page) -> None:
    means = painted(chart(opened, "knn_top1"))
    opened.locator("label").filter(has_text="single trials").click()
    expect(chart(opened, "h_r")).to_have_accessible_name("H(R): 18 curves of 162 points")
    assert 0 < painted(chart(opened, "knn_top1")) < means, "bands cover more than lines"


def test_the_plane_is_by_configuration_and_one_that_diverged_does_not_squeeze_it(opened: Page) -> None:
    plane = opened.locator(".chart.phase")
    expect(plane.locator(".chart-plot")).to_have_accessible_name("I(R;Z) against H(R): 9 configurations")
    expect(plane.locator(".chart-note")).to_have_text("mean, 95 % interval over seeds")
    before = painted(plane)
    plane.get_by_role("button", name="paths").click()
    assert painted(plane) > before
    opened.reload()
    expect(plane.get_by_role("button", name="paths")).to_have_attribute("aria-pressed", "true")
    low, high = (module(opened, "ranges", f"m.rangeOfDots([2.1, 2.2, 2.3, 2.4, 1e6]).{end}") for end in ("low", "high"))
    assert (low, high) == (2.1, 2.4)
    assert module(opened, "ranges", "m.rangeOfDots([1, 2.945, 2.946, 3.9]).high") == 3.9
    assert module(opened, "ranges", "m.rangeOfDots([NaN, 5]).low") == 5
    area = box(plane.locator(".u-over"))
    opened.mouse.move(area["x"] + 40, area["y"] + 40)
    opened.mouse.down()
    opened.mouse.move(area["x"] + 140, area["y"] + 160, steps=3)
    opened.mouse.up()
    expect(opened).to_have_url(re.compile("plane="))
    plane.get_by_role("button", name="whole").click()
    expect(opened).not_to_have_url(re.compile("plane="))


def test_one_filter_goes_for_rows_and_curves(opened: Page) -> None:
    field = opened.get_by_label("Filter", exact=True)
    field.fill("weighting=adaptive lr>0.002")
    expect(configurations(opened)).to_have_count(2)
    expect(trials(opened)).to_have_count(4)
    expect(chart(opened, "h_r")).to_have_accessible_name("H(R): 2 curves of 18 points")
    expect(opened.locator(".filter-found")).to_have_text("2 of 9 configurations, 4 of 18 trials")
    opened.reload()
    expect(configurations(opened)).to_have_count(2)
    field.fill("state=failed")
    expect(trials(opened)).to_have_count(1)
    expect(configurations(opened)).to_have_count(1)
    field.fill("lr>5")
    expect(chart(opened, "h_r")).to_have_accessible_name("H(R): nothing passes the filter")
    field.fill("speed>3")
    expect(opened.locator(".filter-found")).to_contain_text("there is no field “speed”")
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("")
    expect(configurations(opened)).to_have_count(9)


def test_the_notation_of_filters(page: Page) -> None:
    def passes(text: str, values: dict[str, Any]) -> bool:
        found: bool = page.evaluate(
            """([text, values]) => import('/static/js/filter.js').then(m => m.matches(
                m.parseFilter(text, () => true).terms, {text: values.label ?? '', value: name => values[name]}))""",
            [text, values],
        )
        return found

    lr = {"lr": 0.002, "label": "adaptive, lr=0.002"}
    assert passes("lr=2e-3 lr>=0.002 lr<0.01", lr)
    assert not passes("lr>0.002", lr)
    assert passes("ADAPT", lr)
    assert not passes("other=1", lr), "what has no value passes no term on it"
    assert passes('kind="a b",c', {"kind": "C"}) is False, "a text in quotes is one value"
    assert passes("kind=a,c", {"kind": "C"})
    assert passes("kind!=a", {"kind": "c"})
    assert not passes("kind!=a", {"kind": "a"})
    assert passes("seed=1", {"seed": [0, 1]}), "of several values one must fit"
    problem = module(page, "filter", "m.parseFilter('lr>fast x=1 lr=', name => name === 'lr').problem")
    assert problem == "lr> needs a number; there is no field “x”; lr= needs a value"
    assert module(page, "filter", "m.withTerms('a=1 lr>2 word', 'lr', ['lr<5'])") == "a=1 word lr<5"


def test_points_that_a_trial_was_ahead_of_take_nothing_back(page: Page) -> None:
    shown = page.evaluate(
        """import('/static/js/experiment_data.js').then(({ ExperimentData }) => {
          const data = new ExperimentData(1, { change() {}, live() {}, failed() {} });
          data.experiment = { id: 1, state: "running" };
          const trial = { number: 0, state: "succeeded", latest: { h_r: 2.969 }, latest_steps: { h_r: 6 } };
          data.take("trial", trial);
          const points = (step, value) => ({ series: [{ trial: 0, metric: "h_r", steps: [step], values: [value] }] });
          const shown = [[5, 2.978], [7, 2.5]].map(([step, value]) => {
            data.take("points", points(step, value));
            return data.trials.get(0).latest.h_r;
          });
          data.dispose();
          return shown;
        })"""
    )
    assert shown == [2.969, 2.5]


def test_a_column_a_swept_field_sorts_by_number(opened: Page) -> None:
    table = opened.locator(".trials")
    table.get_by_role("button", name="lr", exact=True).click()
    column = [heading.strip(" ↑↓") for heading in table.locator("thead th").all_inner_texts()].index("lr")
    values = [float(trials(opened).nth(k).locator("th, td").nth(column).inner_text()) for k in range(18)]
    assert values == [0.001] * 6 + [0.003] * 6 + [0.02] * 6
    opened.reload()
    expect(table.locator("th[aria-sort=ascending]")).to_have_text("lr")
    opened.get_by_text("Columns").click()
    opened.get_by_role("group", name="Columns").get_by_label("lr", exact=True).uncheck()
    expect(table.get_by_role("button", name="lr", exact=True)).to_have_count(0)
    opened.keyboard.press("Escape")
    expect(opened.get_by_role("group", name="Columns")).to_be_hidden()


def test_one_colour_a_configuration_or_a_value_of_a_field(opened: Page) -> None:
    expect(configurations(opened)).to_have_count(9)
    of_trials = colours(trials(opened))
    assert len(set(of_trials)) == 8  # eight colours, the ninth configuration has dashes
    opened.get_by_label("Colour by").select_option("weighting")
    expect(opened.locator(".legend li")).to_have_text(["weighting", "adaptive", "fixed"])
    rows = trials(opened)
    pairs = {
        (rows.nth(k).locator(".label").inner_text().split()[0].strip(","), colours(rows.nth(k))[0]) for k in range(18)
    }
    assert len(pairs) == 2
    opened.reload()
    expect(opened.get_by_label("Colour by")).to_have_value("weighting")


def test_the_loss_is_marked_and_not_ranked_across_weightings(opened: Page) -> None:
    expect(chart(opened, "loss")).to_have_accessible_name(re.compile("not comparable"))
    heading = opened.locator(".trials th[data-column='latest.loss']")
    expect(heading.get_by_role("button")).to_have_count(0)
    expect(heading.locator(".no-sort")).to_have_attribute("title", re.compile("Not comparable here, so not ranked"))
    opened.locator(".chart.loss").get_by_role("button", name="log").click()
    expect(opened).to_have_url(re.compile("log=loss"))
    assert painted(chart(opened, "loss")) > 0
    opened.reload()
    expect(opened.locator(".chart.loss").get_by_role("button", name="log")).to_have_attribute("aria-pressed", "true")


def test_the_tooltip_says_where_its_values_were_measured(opened: Page) -> None:
    area = box(chart(opened, "knn_top1").locator(".u-over"))
    for share in (0.31, 0.47, 0.93):  # none of these is where a point is
        opened.mouse.move(area["x"] + share * area["width"], area["y"] + 0.3 * area["height"])
        title = opened.locator(".tooltip-title")
        expect(title).to_have_text(re.compile(r"^epoch \d(\.5)?$"))
    expect(opened.locator(".tooltip-row").first).to_contain_text("±")


def test_a_stroke_along_an_axis_filters_everything(opened: Page) -> None:
    opened.get_by_text("Fields and results").click()
    plot = opened.locator(".parallel-plot")
    expect(plot).to_have_accessible_name("Fields and results of 9 configurations, 9 pass the filter")
    area = box(plot)
    places = opened.evaluate("""async () => {
        const { width } = document.querySelector('.parallel-plot').getBoundingClientRect();
        const side = Math.min(70, width * 0.12);
        return side; }""")
    first = area["x"] + places  # the axis of the first field
    opened.mouse.move(first, area["y"] + 31)
    opened.mouse.down()
    opened.mouse.move(first, area["y"] + 60, steps=4)
    opened.mouse.up()
    expect(opened.locator(".filter-found")).to_contain_text(re.compile("^[1-6] of 9 configurations"))
    field = opened.get_by_label("Filter", exact=True)
    assert field.input_value() != ""
    assert configurations(opened).count() < 9
    expect(plot).to_have_accessible_name(re.compile("[1-6] pass the filter"))
    opened.mouse.click(first, area["y"] + 150)
    expect(field).to_have_value("")
    expect(configurations(opened)).to_have_count(9)


def test_what_was_chosen_survives_reload_and_back(opened: Page, lab: Lab) -> None:
    opened.get_by_label("Filter", exact=True).fill("lr<0.01")
    expect(configurations(opened)).to_have_count(6)
    opened.locator("label").filter(has_text=re.compile("^step$")).click()
    configurations(opened).nth(1).locator(".pick").click()
    expect(configurations(opened).nth(1)).to_have_class(re.compile("picked"))
    area = box(chart(opened, "h_r").locator(".u-over"))
    opened.mouse.move(area["x"] + 0.3 * area["width"], area["y"] + 40)
    opened.mouse.down()
    opened.mouse.move(area["x"] + 0.7 * area["width"], area["y"] + 40, steps=3)
    opened.mouse.up()
    expect(opened).to_have_url(re.compile("zoom="))
    address = opened.url
    opened.get_by_role("link", name="AdaDim").click()
    expect(opened.get_by_role("heading", level=1)).to_have_text("Experiments")
    opened.go_back()
    for _ in ("after back", "after reload"):
        expect(configurations(opened)).to_have_count(6)
        expect(configurations(opened).nth(1)).to_have_class(re.compile("picked"))
        expect(opened.get_by_label("step", exact=True)).to_be_checked()
        expect(opened.get_by_role("button", name="Reset zoom")).to_be_visible()
        assert opened.url == address
        opened.reload()


def test_an_address_stays_below_2000_characters(opened: Page) -> None:
    opened.get_by_label("Filter", exact=True).fill("lr<0.01")
    expect(opened).to_have_url(re.compile("q=lr"))
    longest = opened.evaluate("""import('/static/js/viewstate.js').then(m => {
        const view = new m.ViewState();
        view.set({ pick: Array.from({ length: 900 }, (_, k) => k) });
        return [location.href, view.list('pick').length];
    })""")
    assert len(longest[0]) <= 2000
    assert "q=lr" in longest[0]
    assert longest[1] == 900, "what does not fit into the address still holds on the page"


def saved(page: Page, metric: str, form: str) -> tuple[str, bytes]:
    card = page.locator(f".chart.{metric}")
    with page.expect_download() as found:
        card.locator(".menu summary").click()
        card.get_by_role("menuitem", name=form).click()
    return found.value.suggested_filename, found.value.path().read_bytes()


def test_a_chart_is_saved_as_svg_pdf_and_csv(opened: Page, sweep: int) -> None:
    name, svg = saved(opened, "h_r", "SVG")
    assert name == f"broad-{sweep}-h_r.svg"
    drawing = ET.fromstring(svg)
    texts = [node.text for node in drawing.iter() if node.tag.endswith("}text")]
    assert "H(R) (nats)" in texts
    assert "adaptive, lr=0.001" in texts
    assert sum(node.tag.endswith("}path") for node in drawing.iter()) > 18  # nine bands, nine lines, axes

    name, pdf = saved(opened, "phase", "PDF")
    assert name == f"broad-{sweep}-plane.pdf"
    [sheet] = pypdf.PdfReader(io.BytesIO(pdf), strict=True).pages
    assert "I(R;Z) against H(R)" in sheet.extract_text()
    assert "adaptive, lr=0.001" in sheet.extract_text()

    opened.locator(".answer > .menu summary").click()
    with opened.expect_download() as found:
        opened.locator(".answer").get_by_role("menuitem", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(found.value.path().read_text())))
    assert [row["lr"] for row in rows if row["weighting"] == "adaptive"] == ["0.001", "0.003", "0.02"]
    assert float(rows[0]["low"]) < float(rows[0]["knn_top1"]) < float(rows[0]["high"])

    _, text = saved(opened, "knn_top1", "CSV")
    rows = list(csv.DictReader(io.StringIO(text.decode())))
    assert len(rows) == 81
    one = next(row for row in rows if row["configuration"] == "adaptive, lr=0.001" and float(row["epoch"]) == 4)
    assert float(one["low"]) < float(one["knn_top1"]) < float(one["high"])
    assert one["trials"] == "2"


def test_means_follow_a_sweep_that_runs(page: Page, lab: Lab) -> None:
    number, worker = lab.start(SWEEP)
    page.goto(f"{lab.client.url}/experiments/{number}")
    for steps in (range(3), range(3, 6)):
        worker.report(
            trials=[{"number": trial, "state": "running", "epoch": 0, "epochs": 4} for trial in (0, 9)],
            series=[worker.points(trial, steps, h_r=1.0 + trial) for trial in (0, 9)],
        )
        expect(chart(page, "h_r")).to_have_accessible_name(f"H(R): 1 curve of {steps.stop} points")
    expect(page.locator(".chart.phase .chart-note")).to_have_text("where training is")
    expect(page.locator(".counts")).to_have_text("2 running")


def test_an_experiment_that_failed_says_why(page: Page, lab: Lab) -> None:
    number, worker = lab.start("{name: broke}")
    worker.report(outcome={"state": "failed", "error": "There is no image in /data/empty."})
    page.goto(f"{lab.client.url}/experiments/{number}")
    expect(chart(page, "h_r")).to_contain_text("no points: There is no image in /data/empty.")
    expect(page.locator(".chart.phase")).to_contain_text("There is no image in /data/empty.")
    page.get_by_text("History").click()
    steps = page.locator(".history li")
    expect(steps.first).to_contain_text("failed")
    expect(steps.first).to_contain_text("There is no image in /data/empty.")
    expect(steps.last).to_contain_text("by admin")


def test_a_sweep_is_extended_by_a_number(page: Page, lab: Lab) -> None:
    number, worker = lab.start(SWEEP)
    report(worker, lab.client.trials(number))
    page.goto(f"{lab.client.url}/experiments/{number}")
    page.get_by_role("button", name="Extend").click()
    dialog = page.get_by_role("dialog", name="Extend")
    seeds = dialog.get_by_label("seeds of each configuration")
    expect(seeds).to_have_value("4")
    seeds.fill("3")
    dialog.get_by_role("button", name="Extend").click()
    expect(dialog).to_be_hidden()
    expect(page.locator(".experiment-head .progress")).to_contain_text("/ 27")


def test_importance_is_refused_for_few_configurations(opened: Page) -> None:
    opened.get_by_text("Importance of fields").click()
    expect(opened.locator(".importance-sentence")).to_have_text(
        "No importance: it takes 20 configurations with a result, there are 8."
    )
    expect(opened.locator(".importance")).to_be_hidden()


@pytest.mark.slow
def test_a_sweep_without_room_says_who_holds_it(page: Page, lab: Lab) -> None:
    holder, holding = lab.start(SWEEP)
    holding.report(trials=[{"number": 0, "state": "running", "epoch": 0, "epochs": 4}])
    number, worker = lab.start(SWEEP.replace("search:", "resources: {cpus_per_worker: 2}\nsearch:"))
    worker.report(trials=[])
    page.goto(f"{lab.client.url}/experiments/{number}")
    # After the 20 s that a job may take to start its first trial.
    expect(page.locator(".reason")).to_contain_text("waits for 2 CPUs, held by #", timeout=60_000)
    expect(page.locator(".reason")).not_to_contain_text(f"#{number}")
    holding.report(outcome={"state": "failed", "error": f"ended, so that {holder} holds nothing"})


def test_the_page_is_used_by_keyboard(opened: Page) -> None:
    opened.locator(".opener").first.focus()
    opened.keyboard.press("Enter")
    expect(opened.locator(".of-configuration")).to_have_count(2)
    expect(opened.locator(".opener").first).to_have_attribute("aria-expanded", "true")
    opened.keyboard.press("Tab")
    opened.keyboard.press("Space")
    expect(configurations(opened).first.locator(".pick")).to_have_attribute("aria-pressed", "true")
    menu = opened.locator(".chart.h_r .menu summary")
    menu.focus()
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("menuitem", name="SVG")).to_be_visible()
    opened.keyboard.press("Escape")
    expect(opened.get_by_role("menuitem", name="SVG")).to_be_hidden()
    expect(menu).to_be_focused()


@pytest.fixture
def phone(browser: Browser, lab: Lab, sweep: int) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    context.set_default_timeout(90_000)
    page = context.new_page()
    page.goto(f"{lab.client.url}/#token={lab.service.token}")
    page.get_by_role("button", name="Sign in as admin").click()
    expect(page.get_by_text("Sign out")).to_be_visible()
    page.goto(f"{lab.client.url}/experiments/{sweep}")
    expect(chart(page, "h_r")).to_have_accessible_name("H(R): 9 curves of 81 points")
    yield page
    context.close()


def test_a_thumb_reads_values_and_accuracy_is_on_screen(phone: Page) -> None:
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    accuracy = configurations(phone).first.locator("td:not(.medium-up)").first
    expect(accuracy).to_contain_text("0.9")
    assert box(accuracy)["x"] + box(accuracy)["width"] <= 390
    standings = configurations(phone).locator(".standing .lines")
    assert all(box(standings.nth(k))["x"] + box(standings.nth(k))["width"] <= 390 for k in range(3)), "scrolled to"
    latest = trials(phone).first.locator("td.number:not(.medium-up)").first
    expect(latest).to_contain_text("0.")
    assert box(latest)["x"] + box(latest)["width"] <= 390
    area = box(chart(phone, "knn_top1").locator(".u-over"))
    phone.touchscreen.tap(area["x"] + 0.6 * area["width"], area["y"] + 0.3 * area["height"])
    expect(phone.locator(".tooltip")).to_be_visible()
    expect(phone.locator(".tooltip-title")).to_have_text(re.compile("^epoch "))
    tip = phone.locator(".tooltip").bounding_box()
    assert tip is not None
    assert tip["x"] >= 0
    assert tip["x"] + tip["width"] <= 390
    phone.touchscreen.tap(200, 20)
    expect(phone.locator(".tooltip")).to_be_hidden()
