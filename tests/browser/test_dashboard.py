"""The dashboard in a real browser, before a real service: signing in, experiments, a service that goes away.

The lab that all browser tests share is in conftest.py.
"""

import contextlib
import io
import json
import signal
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
import rich.console
from playwright.sync_api import Dialog, Locator, Page, expect

from adadim.client import ClientError
from service.cli.watch import print_answer
from tests.browser.lab import Console, Lab
from tests.e2e.conftest import sweep, wait_for

SEEDS = """\
name: seeds
training: {epochs: 3, warmup_epochs: 0}
search:
  algorithm: grid
  seeds: 3
  space:
    objective.weighting: {choice: [{policy: fixed, alpha: 0.0}, {policy: fixed, alpha: 1.0}, {policy: adaptive}]}
"""
HTML = '<img src="x" onerror="document.title=1"><script>document.title=1</script>'


def chart(page: Page, metric: str) -> Locator:
    return page.locator(f".chart.{metric} .chart-plot")


def row(page: Page, trial: int) -> Locator:
    return page.locator(".trials tbody tr").filter(has=page.locator(".pick-number", has_text=str(trial)))


def plain(value: str) -> str:
    """A whole number without its point, as the page and its readers write it."""
    return value.removesuffix(".0")


def painted(plot: Locator) -> int:
    """Pixels of the curves."""
    found: int = plot.locator(".layer-data").evaluate(
        """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
            .data.filter((value, at) => at % 4 === 3 && value > 0).length"""
    )
    return found


@pytest.fixture
def below_a_path(lab: Lab) -> Iterator[str]:
    """The address of a proxy that serves the service under /adadim, streams as well."""
    service = urlsplit(lab.client.url)

    class Proxy(BaseHTTPRequestHandler):
        def answer(self) -> None:
            if not self.path.startswith("/adadim/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            upstream = HTTPConnection(str(service.hostname), service.port or 80)
            upstream.request(self.command, self.path.removeprefix("/adadim"), body, dict(self.headers))
            found = upstream.getresponse()
            self.send_response(found.status)
            for name, value in found.getheaders():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.end_headers()  # HTTP/1.0: the end of the connection is the end of the answer
            with contextlib.suppress(OSError):  # the page has left
                while piece := found.read1():
                    self.wfile.write(piece)
            upstream.close()

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names http.server calls

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # a page asks for thirty files at once

    server = Server(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/adadim"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_it_works_below_a_path_of_a_proxy(blank: Page, lab: Lab, below_a_path: str) -> None:
    number, worker = lab.start(sweep(epochs=2))
    worker.report(series=[worker.points(0, range(1, 4), h_r=1.0)], trials=[{"number": 0, "state": "running"}])
    blank.goto(f"{below_a_path}/#token={lab.service.token}")
    blank.get_by_role("button", name="Sign in as admin").click()
    blank.locator(f"a.row-link[href='/adadim/experiments/{number}']").click()
    expect(blank).to_have_url(f"{below_a_path}/experiments/{number}")
    expect(row(blank, 0)).to_contain_text("running")
    worker.report(trials=[{"number": 0, "state": "succeeded", "epoch": 2, "epochs": 2}])
    expect(row(blank, 0)).to_contain_text("succeeded")  # by the stream
    for _ in ("navigated to", "loaded"):
        blank.get_by_role("link", name="AdaDim").click()
        expect(blank).to_have_url(f"{below_a_path}/")
        blank.go_back()
        blank.reload()
        expect(row(blank, 0)).to_contain_text("succeeded")
    blank.goto("about:blank")  # before the proxy ends


def test_a_token_is_what_opens_it(blank: Page, lab: Lab, console: Console) -> None:
    blank.goto(f"{lab.client.url}/experiments")
    blank.get_by_label("Access token").fill("not-a-token")
    blank.keyboard.press("Enter")
    expect(blank.get_by_role("alert")).to_contain_text("not valid")
    blank.goto(f"{lab.client.url}/experiments#token=wrong-too")
    expect(blank.get_by_role("alert")).to_contain_text("not valid")
    expect(blank).to_have_url(f"{lab.client.url}/experiments")
    blank.get_by_label("Access token").fill(lab.service.token)
    blank.get_by_role("button", name="Sign in").click()
    expect(blank.locator("#account")).to_contain_text("admin")
    assert lab.service.token not in blank.content()
    assert blank.evaluate("document.cookie + Object.values(localStorage)") == ""
    blank.get_by_text("Sign out").click()
    expect(blank.get_by_label("Access token")).to_be_visible()
    blank.reload()
    expect(blank.get_by_label("Access token")).to_be_visible()
    console.expect_failed_requests()  # 401


def test_a_link_with_a_token_asks_before_it_signs_anybody_in(blank: Page, lab: Lab, console: Console) -> None:
    mine = lab.client.create_token("carol", "viewer")["token"]
    blank.goto(f"{lab.client.url}/#token={mine}")
    expect(blank.get_by_role("heading", name="Sign in as carol to this service?")).to_be_visible()
    expect(blank).to_have_url(f"{lab.client.url}/")  # the token is gone from the address
    assert blank.context.cookies() == []
    blank.get_by_role("button", name="Sign in as carol").click()
    expect(blank.locator("#account")).to_contain_text("carol")
    # A link that somebody else sent, while one is signed in: whatever is not the button leaves all as it was.
    blank.goto(f"{lab.client.url}/#token={lab.service.token}")
    expect(blank.get_by_role("heading", name="Sign in as admin to this service?")).to_be_visible()
    blank.get_by_role("button", name="Do not sign in").click()
    expect(blank.locator("#account")).to_contain_text("carol")
    blank.goto(f"{lab.client.url}/#token={lab.service.token}")
    expect(blank.get_by_role("button", name="Sign in as admin")).to_be_visible()
    blank.reload()
    expect(blank.locator("#account")).to_contain_text("carol")


@pytest.mark.slow
def test_a_page_whose_token_is_revoked_asks_for_another(blank: Page, lab: Lab, console: Console) -> None:
    number, _ = lab.start(sweep(3))
    guest = lab.client.create_token("guest", "viewer")
    blank.goto(f"{lab.client.url}/experiments/{number}#token={guest['token']}")
    blank.get_by_role("button", name="Sign in as guest").click()
    expect(row(blank, 0)).to_be_visible()
    expect(blank.locator("#live")).to_have_attribute("data-status", "live")
    lab.client.revoke_token(guest["id"])
    expect(blank.get_by_label("Access token")).to_be_visible()
    console.expect_failed_requests()  # 401


def test_the_documentation_of_the_api_runs_under_its_policy(blank: Page, lab: Lab) -> None:
    blank.goto(f"{lab.client.url}/docs")
    expect(blank.get_by_text("/api/v1/experiments", exact=True).first).to_be_visible()


@pytest.mark.slow
def test_the_list_follows_experiments_on_older_pages_too(page: Page, lab: Lab) -> None:
    number, worker = lab.start(sweep(3).replace("e2e-sweep", "the-oldest"))
    for k in range(51):
        lab.client.pause(lab.client.submit(f"name: later-{k}")["id"])
    page.goto(lab.client.url)
    names = page.locator(".row-link")
    expect(names.first).to_have_text("later-50")
    expect(names).to_have_count(50)
    page.get_by_text("Older experiments").click()
    oldest = page.locator(".experiments tbody tr").filter(has_text="the-oldest")
    expect(oldest).to_contain_text("0 / 4")

    worker.report(
        trials=[{"number": 2, "state": "succeeded", "epoch": 3, "epochs": 3}],
        series=[worker.points(2, range(1), knn_top1=0.75)],
        outcome={"state": "succeeded"},
    )
    expect(oldest).to_contain_text("1 / 4")
    expect(oldest).to_contain_text("0.750 k-NN accuracy")
    expect(oldest).to_contain_text("succeeded")
    oldest.get_by_role("link").click()
    expect(page).to_have_url(f"{lab.client.url}/experiments/{number}")
    expect(page.get_by_role("heading", level=1)).to_have_text("the-oldest")


def test_curves_and_values_grow_while_a_worker_reports(page: Page, lab: Lab) -> None:
    number, worker = lab.start(sweep(3))
    page.goto(f"{lab.client.url}/experiments/{number}")
    expect(chart(page, "h_r")).to_have_accessible_name("H(R): no points yet")
    running = [{"number": trial, "state": "running", "epoch": 0, "epochs": 3} for trial in range(4)]
    worker.report(trials=running)
    expect(row(page, 3)).to_contain_text("running")

    for steps in (range(3), range(3, 8), range(8, 15)):
        # Points alone, as within a long epoch: nothing else may be needed to see them.
        worker.report(
            series=[
                worker.points(trial, steps, h_r=lambda k, t=trial: 2 + t + k / 10, i_rz=lambda k, t=trial: 1 + t + k)
                for trial in range(4)
            ]
        )
        for metric, title in (("h_r", "H(R)"), ("i_rz", "I(R;Z)")):
            expect(chart(page, metric)).to_have_accessible_name(f"{title}: 4 curves of {4 * steps.stop} points")
            assert painted(chart(page, metric)) > 0
        expect(row(page, 1)).to_contain_text(f"{3 + (steps.stop - 1) / 10:.3f}")
    assert painted(page.locator(".chart.phase .chart-plot")) > 0

    page.reload()
    expect(chart(page, "h_r")).to_have_accessible_name("H(R): 4 curves of 60 points")
    expect(row(page, 1)).to_contain_text("4.400")
    worker.report(outcome={"state": "succeeded"})
    expect(page.locator(".experiment-head .state")).to_have_text("succeeded")


def test_page_terminal_and_api_say_the_same_words_and_numbers(page: Page, lab: Lab) -> None:
    """A sweep whose best is known: the page follows the answer while trials end."""
    number, worker = lab.start(SEEDS)
    page.goto(f"{lab.client.url}/experiments/{number}")
    sentence = page.locator(".answer-sentence")
    expect(sentence).to_have_text("No statement yet: no trial has ended with a k-NN accuracy.")
    configurations = {"fixed 0": 0.70, "fixed 1": 0.86, "adaptive": 0.90}
    plan = lab.client.trials(number)
    for trial in plan:
        at, weighting = trial["number"], trial["params"]["objective.weighting"]
        label = "adaptive" if weighting["policy"] == "adaptive" else f"fixed {weighting['alpha']:.0f}"
        accuracy = round(359 * (configurations[label] + 0.01 * (trial["params"]["training.seed"] % 2))) / 359
        worker.report(
            trials=[{"number": at, "state": "succeeded", "epoch": 3, "epochs": 3}],
            series=[worker.points(at, range(2), knn_top1=accuracy, h_r=2 + accuracy + at / 1e4, i_rz=1.5)],
        )
    worker.report(outcome={"state": "succeeded"})
    expect(sentence).to_contain_text("adaptive is best: 0.9")
    answer = lab.client.answer(number)
    assert answer["verdict"] == "best"
    expect(sentence).to_have_text(answer["sentence"])
    expect(page.locator(".answer-why")).to_have_text(answer["why"])
    rows = page.locator(".answer tbody tr")
    expect(rows).to_have_count(3)
    terminal = io.StringIO()
    print_answer(lab.client, number, rich.console.Console(file=terminal, width=300))
    assert answer["sentence"] in terminal.getvalue()
    for at, configuration in enumerate(answer["configurations"]):
        shown = rows.nth(at).locator("th, td:not(.plot-cell)")
        swept = [str(configuration["fields"].get(field["name"], "")) for field in answer["fields"]]
        expect(shown).to_have_text([configuration["cells"][0], *map(plain, swept), *configuration["cells"][1:]])
        for cell in configuration["cells"]:
            assert cell in terminal.getvalue()
    expect(rows.first).to_have_attribute("data-standing", "best")
    expect(page.locator(".answer svg.intervals")).to_have_count(5)  # an interval each, and two differences
    expect(page.get_by_text("★")).to_have_count(0)


def test_values_that_are_none_and_errors_are_shown(page: Page, lab: Lab) -> None:
    number, worker = lab.start(sweep(3))
    page.goto(f"{lab.client.url}/experiments/{number}")
    accuracies: list[Any] = [0.9, "NaN", 0.5, 0.95]
    worker.report(
        trials=[{"number": 2, "state": "failed", "error": "CUDA is out of memory"}],
        series=[worker.points(trial, range(2), knn_top1=value) for trial, value in enumerate(accuracies)],
    )
    expect(row(page, 1)).to_contain_text("NaN")
    expect(row(page, 2)).to_contain_text("CUDA is out of memory")
    worker.report(series=[worker.points(0, range(2, 4), knn_top1=0.99)], outcome={"state": "succeeded"})
    expect(page.locator(".experiment-head .state")).to_have_text("succeeded")
    page.reload()
    expect(page.locator(".trials tbody tr").first).to_contain_text("fixed 0")  # the highest first, once it is settled
    expect(page.locator(".trials .label")).to_have_text(["fixed 0", "adaptive", "fixed 1", "fixed 0.5"])


def test_a_restart_neither_loses_nor_doubles_a_point(page: Page, lab: Lab, console: Console) -> None:
    number, worker = lab.start(sweep(3))
    page.goto(f"{lab.client.url}/experiments/{number}")
    worker.report(series=[worker.points(0, range(10), h_r=2.0)])
    expect(chart(page, "h_r")).to_have_accessible_name("H(R): 1 curve of 10 points")
    expect(page.locator("#live")).to_have_text("live")

    lab.service.stop(signal.SIGKILL)
    expect(page.locator("#live")).to_have_text("reconnecting")
    lab.service.start()
    lab.connect()
    # Nobody knows which of its reports arrived: the worker sends some again.
    worker.report(series=[worker.points(0, range(6, 15), h_r=2.0)])
    worker.report(series=[worker.points(0, range(12, 20), h_r=2.5)])
    # Tries are up to 15 s apart.
    expect(chart(page, "h_r")).to_have_accessible_name("H(R): 1 curve of 20 points", timeout=120_000)
    expect(page.locator("#live")).to_have_text("live")
    expect(row(page, 0)).to_contain_text("2.500")
    worker.report(series=[worker.points(0, range(20, 22), h_r=3.0)], outcome={"state": "succeeded"})
    expect(chart(page, "h_r")).to_have_accessible_name("H(R): 1 curve of 22 points")
    expect(page.locator(".experiment-head .state")).to_have_text("succeeded")
    console.expect_failed_requests()  # while it was down


def test_what_others_write_is_shown_as_text(page: Page, lab: Lab) -> None:
    with pytest.raises(ClientError, match="/name"):
        lab.client.submit(json.dumps({"name": HTML}))
    spec = sweep(3).replace("name: e2e-sweep", f"name: hostile\ndescription: {json.dumps(HTML)}")
    number, worker = lab.start(spec)
    worker.report(
        trials=[{"number": 0, "state": "failed", "error": HTML, "reason": HTML}],
        series=[worker.points(0, range(2), h_r=1.0)],
        waiting=HTML,
    )
    page.goto(f"{lab.client.url}/experiments/{number}")
    expect(page.locator(".trial-error").first).to_have_text(HTML)
    expect(page.locator(".trial-reason").first).to_have_text(HTML)
    expect(page.locator(".reason")).to_have_text(HTML)
    page.get_by_text("Spec", exact=True).click()
    page.get_by_label("Form of the spec").select_option("with defaults")
    expect(page.locator(".panel pre").first).to_contain_text("onerror")
    expect(page.locator("main img, main script")).to_have_count(0)
    expect(page).to_have_title("hostile · AdaDim")
    worker.report(outcome={"state": "failed", "error": HTML})
    expect(page.locator(".reason")).to_have_text(HTML)


@pytest.mark.slow
def test_a_long_series_shows_more_when_zoomed(page: Page, lab: Lab) -> None:
    number, worker = lab.start("{name: long}")
    worker.report(series=[worker.points(0, range(10_000), h_r=lambda k: k % 100)])
    worker.report(outcome={"state": "succeeded"})
    page.goto(f"{lab.client.url}/experiments/{number}")
    plot = chart(page, "h_r")

    def points() -> int:
        words = (plot.get_attribute("aria-label") or "").split()
        return int(words[-2]) if words[-1] == "points" and words[-2].isdigit() else 0

    at_first = wait_for(points, timeout_s=30, what="points")
    assert at_first <= 1000
    plot.scroll_into_view_if_needed()
    box = plot.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 40, steps=3)
    page.mouse.up()
    zoomed = wait_for(lambda: (now := points()) > at_first + 400 and now, timeout_s=30, what="the points of the range")
    page.get_by_text("Reset zoom").click()
    wait_for(lambda: points() < zoomed, timeout_s=30, what="the whole as before")


@pytest.mark.slow
def test_the_page_of_a_deleted_experiment_says_so(page: Page, lab: Lab, console: Console) -> None:
    number, worker = lab.start(sweep(3))
    worker.report(series=[worker.points(0, range(2), h_r=1.0)])
    page.goto(f"{lab.client.url}/experiments/{number}")
    expect(page.locator("#live")).to_have_text("live")
    asked: list[str] = []

    def accept(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept()

    page.on("dialog", accept)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("alert")).to_contain_text(f"There is no experiment {number}", timeout=30_000)
    assert len(asked) == 1
    assert "for good" in asked[0]
    page.get_by_text("All experiments").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Experiments")
    expect(page.locator(f'a[href="/experiments/{number}"]')).to_have_count(0)
    console.expect_failed_requests()  # 404
