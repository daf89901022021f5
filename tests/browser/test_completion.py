"""What the editor offers at a place of a spec that is being typed, block or flow style: `|` is the cursor."""

from typing import Any

from playwright.sync_api import Page

from adadim_core.spec import json_schema
from tests.browser.lab import Lab

OFFERED = """async ({ cases, schema }) => {
    const { placeAt } = await import("/static/js/spec_text.js");
    const { keysAt, valuesAt } = await import("/static/js/spec_schema.js");
    return cases.map((text) => {
        const { path, key, siblings } = placeAt(text.replace("|", ""), text.indexOf("|"));
        if (key === null) return keysAt(path, siblings, schema).map(({ name }) => name);
        return valuesAt(path, key, siblings, schema).map(({ text }) => text);
    });
}"""
# Text, some of what must be offered, and what must not be.
CASES: list[tuple[str, set[str], set[str]]] = [
    ("na|", {"name", "model", "search", "preset"}, {"backbone", "from_preset"}),
    ("name: x\npreset: |", {"paper", "best"}, {"preset"}),
    ("name: x\n|", {"model"}, {"name"}),
    ("model:\n  |", {"backbone", "projector"}, {"name"}),
    ("model: {backbone: |", {"conv_small", "resnet18"}, {"backbone"}),
    ("model: {backbone: conv_small, w|", {"width"}, {"backbone"}),
    ("# model: {\ntraining:\n  epochs: 3\n  op|", {"optimizer", "lr"}, {"epochs", "backbone"}),
    ("training:\n  optimizer: |", {"adamw", "sgd"}, {"epochs"}),
    ("model:\n  projector:\n    layers: 2\n  |", {"backbone"}, {"hidden", "projector"}),
    ("objective:\n  weighting:\n    policy: fixed\n    |", {"alpha"}, {"floor", "start", "policy"}),
    ("objective:\n  weighting:\n    |\n    policy: cosine\ntraining: {}", {"start", "end"}, {"alpha", "epochs"}),
    ("objective: {weighting: {|", {"policy", "floor", "alpha"}, {"weighting"}),
    ("objective: {weighting: {| policy: fixed}}", {"alpha"}, {"floor"}),
    ("search:\n  metric: kn|", {"knn_top1", "h_r"}, {"metric"}),
    ("search:\n  scheduler: |", {"{name: asha}", "{name: race}"}, {"name"}),
    ("search:\n  space:\n    tr|", {"training.lr", "objective.weighting"}, {"search", "resources.workers"}),
    ("search:\n  space:\n    training.lr: |", {"{uniform: ", "{choice: "}, {"training.lr"}),
    ("search: {space: {training.lr: {ch|", {"uniform", "choice"}, {"training.lr"}),
    ("search:\n  space:\n    data.dataset: {choice: [|", {"digits", "cifar10"}, {"choice"}),
    ("search:\n  space:\n    objective.weighting:\n      choice:\n        - {policy: fixed, |", {"alpha"}, {"policy"}),
    (
        "search:\n  space:\n    objective.weighting:\n      choice:\n      - policy: |",
        {"fixed", "adaptive"},
        {"policy"},
    ),
    ("search:\n  points:\n    - {objective.weighting: {policy: |", {"fixed", "linear"}, {"policy"}),
]


def test_what_may_stand_at_a_place_is_offered_and_nothing_else(page: Page, lab: Lab) -> None:
    cases = [text for text, _, _ in CASES]
    offered: list[list[Any]] = page.evaluate(OFFERED, {"cases": cases, "schema": json_schema()})
    wrong = [
        (text, sorted(must - set(found)), sorted(never & set(found)))
        for (text, must, never), found in zip(CASES, offered, strict=True)
        if must - set(found) or never & set(found)
    ]
    assert wrong == []
