"""The page of a trial and the comparison in a real browser, with an encoder that loads."""

from pathlib import Path

import torch
from playwright.sync_api import Page, expect

from adadim_core import load_encoder
from adadim_core.export import save_encoder
from adadim_core.models import build_encoder
from adadim_core.spec.sections import ModelSpec
from tests.browser.lab import Console, Lab
from tests.e2e.conftest import sweep


def test_it_follows_the_trial_and_hands_out_its_encoder(page: Page, lab: Lab, tmp_path: Path) -> None:
    number, worker = lab.start(sweep(3).replace("e2e-sweep", "with-an-encoder"))
    page.goto(f"{lab.client.url}/experiments/{number}/trials/3")
    expect(page.get_by_role("heading", level=1)).to_have_text("Trial 3")
    expect(page.locator(".experiment-title .state")).to_have_text("pending")
    expect(page.get_by_role("link", name="Download the encoder")).to_be_hidden()
    worker.report(
        trials=[{"number": 3, "state": "running", "epoch": 1, "epochs": 3}],
        series=[worker.points(3, range(8), h_r=lambda k: k / 4, knn_top1=0.5)],
    )
    expect(page.locator(".experiment-title .state")).to_have_text("running")
    expect(page.get_by_role("img", name="H(R): 8 points, the last 1.750")).to_be_visible()
    worker.report(
        trials=[{"number": 3, "state": "succeeded", "epoch": 3, "epochs": 3}],
        series=[worker.points(3, range(8, 12), h_r=lambda k: k / 4, knn_top1=0.9)],
        outcome={"state": "succeeded"},
    )
    expect(page.get_by_role("img", name="H(R): 12 points, the last 2.750")).to_be_visible()
    expect(page.get_by_role("region", name="Last values").get_by_role("row", name="k-NN accuracy")).to_contain_text(
        "0.900"
    )
    varied = page.get_by_role("region", name="Configuration").locator("tr.chosen").first
    expect(varied).to_contain_text("objective.weighting")
    expect(page.get_by_role("region", name="Configuration")).to_contain_text("model.projector.hidden32")
    expect(page.get_by_role("region", name="Attempts").locator("tbody tr")).to_have_count(1)

    encoder = build_encoder(ModelSpec(backbone="conv_small", width=4), mean=(0.3,), std=(0.4,), image_size=8)
    job = next(name for name in lab.ray.jobs if name.endswith(f"-{number}-1"))
    save_encoder(encoder, lab.storage / job.removesuffix("-1") / "trials" / "0003")
    with page.expect_download() as found:
        page.get_by_role("link", name="Download the encoder").click()
    file = tmp_path / found.value.suggested_filename
    found.value.save_as(file)
    assert file.name == f"experiment-{number}-trial-3-encoder.safetensors"
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(load_encoder(file)(images), encoder.eval()(images).detach())


def test_trials_are_compared_in_what_differs(page: Page, lab: Lab) -> None:
    number, worker = lab.start(sweep(3).replace("e2e-sweep", "compared-trials"))
    worker.report(
        trials=[{"number": n, "state": "succeeded", "epoch": 3, "epochs": 3} for n in range(4)],
        series=[worker.points(n, range(2), knn_top1=0.5 + n / 10) for n in range(4)],
        outcome={"state": "succeeded"},
    )
    page.goto(f"{lab.client.url}/experiments/{number}/trials/0")
    page.get_by_role("link", name="Compare with the best").click()
    expect(page).to_have_url(f"{lab.client.url}/diff?of={number}.3,{number}.0")
    fields = page.locator(".diff tbody").first.locator("th[scope=row]")
    expect(fields.filter(has_text="objective.weighting.policy")).to_have_count(1)
    expect(fields.filter(has_text="training.")).to_have_count(0)  # what is the same is not shown
    expect(page.get_by_role("row", name="k-NN accuracy")).to_contain_text("0.800")
    expect(page.locator("p.muted")).to_contain_text("the same in all")
    page.locator(".diff thead a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Trial 3")


def test_trials_and_comparisons_that_are_not_there_say_so(page: Page, lab: Lab, console: Console) -> None:
    number = lab.client.submit("name: small")["id"]
    page.goto(f"{lab.client.url}/experiments/{number}/trials/7")
    expect(page.get_by_role("heading", level=1)).to_have_text("No such trial")
    page.goto(f"{lab.client.url}/diff?of={number},999999")
    expect(page.get_by_role("alert")).to_contain_text("There is no experiment 999999")
    page.goto(f"{lab.client.url}/diff")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing to compare")
    console.expect_failed_requests()  # 404
