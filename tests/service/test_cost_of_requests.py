"""A spec or a report of 64 KiB costs under 50 ms of a processor and 20 MB, whatever its shape, or is refused."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from adadim_core.spec import ExperimentSpec
from adadim_core.spec.experiment import dotted_paths
from adadim_core.spec.report import Report
from adadim_core.spec.report_binary import encode
from tests.cost_of_reading import KILOBYTES, costs, mutations, unbounded

SIZE = KILOBYTES * 1024
SPEC = b"{name: a, search: {trials: 5, space: {training.lr: {uniform: [0.1, 0.5]}}}}"
PATHS = dotted_paths(ExperimentSpec(name="a").model_dump(mode="json"))


def fill(piece: str, begin: str = "", end: str = "", between: str = "") -> bytes:
    """As many pieces as fit into 64 KiB."""
    room = SIZE - len(begin.encode()) - len(end.encode())
    count = room // (len(piece.encode()) + len(between.encode()))
    return (begin + between.join([piece] * count) + end).encode()


def search(space: Any, **fields: Any) -> bytes:
    return json.dumps(
        {"name": "a", "search": {"trials": 1000, "space": space} | fields}, separators=(",", ":")
    ).encode()


def in_preset(space: Any) -> bytes:
    return json.dumps(
        {"name": "a", "preset": "best", "search": {"trials": 1, "space": space}}, separators=(",", ":")
    ).encode()


def skewed(levels: int) -> Any:
    node: Any = {"policy": "fixed", "alpha": {"uniform": [0, 1]}}
    for level in range(levels):
        node = {"choice": [node, {"policy": "fixed", "alpha": level / 9}]}
    return node


RANGES: dict[str, Any] = {
    "objective.sample_loss.temperature": {"uniform": [0.1, 5]},
    "objective.weighting.smoothing": {"uniform": [0.1, 0.5]},
    "objective.mutual_information.gamma": {"uniform": [0.1, 0.5]},
    "training.lr": {"log_uniform": [0.1, 0.5]},
    "training.weight_decay": {"uniform": [0.001, 0.1]},
    "training.epochs": {"integer": [20, 90]},
    "evaluation.knn_temperature": {"uniform": [0.1, 0.5]},
    "model.projector.out": {"integer": [20, 90]},
}
SECTIONS = [{"policy": "fixed", "alpha": number / 1000} for number in range(1000)]
TERMS = [{"mutual_information": {"gamma": number / 1000}} for number in range(990)]
WIDE = {"training.epochs": {"choice": [*range(1, 1001)]}}
NESTED: Any = {"choice": [{"choice": [{"choice": [n, n + 0.5]}, n + 0.25]} for n in range(1, 200)]}

SPECS_JSON = {
    "random ranges": search(RANGES, trials=750),
    "quasi-random ranges": search(RANGES, trials=750, algorithm="quasi_random"),
    "too many draws": search(RANGES),
    "tpe": search(RANGES, trials=750, algorithm="tpe"),
    "grid of sections": search({"objective.weighting": {"choice": SECTIONS}}, algorithm="grid", trials=None),
    "wide choice": search(WIDE),
    "points": search(WIDE, points=[{"training.epochs": n} for n in range(1, 1001)]),
    "wrong points": search(WIDE, points=[{"training.epoch": n} for n in range(1, 1001)]),
    "wrong kinds": search({"objective.weighting.policy": {"choice": [f"x{n}" for n in range(1000)]}}),
    "wrong sections": search(
        {"objective.weighting": {"choice": [{**s, "alpha": 2 + n} for n, s in enumerate(SECTIONS)]}}
    ),
    "skewed": search({"objective.weighting": skewed(6)}),
    "skewed and deeper": search({"objective.weighting": skewed(11)}),
    "rare": search(
        {"objective.weighting": {"choice": [*SECTIONS[:300], {"policy": "fixed", "alpha": {"uniform": [0, 1]}}]}}
    ),
    "nested": search({"training.lr": NESTED}),
    "filled in by a preset": in_preset({"objective": {"choice": TERMS[:200]}}),
    "filled in too much": in_preset({"objective": {"choice": TERMS}}),
    "many distributions": search({"training.lr": {"choice": [{"x": {"uniform": [0, n]}} for n in range(1, 900)]}}),
    "seeds": search({"training.lr": {"choice": [0.1]}}, algorithm="grid", trials=None, seeds=[*range(1000)]),
    "unknown fields": json.dumps({"name": "a", **{f"x{n}": 1 for n in range(3900)}}).encode(),
    "long value": json.dumps({"name": "a", "training": {"lr": ["y" * 50] * 1000, "optimizer": "x" * 9000}}).encode(),
    "deep lists": b'{"name":"a","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep maps": fill('{"a":', '{"name":"a","x":'),
    "empty maps": fill("{}", '{"name":"a","x":[', "]}", ","),
    "the same name": fill('"a":1', "{", "}", ","),
    "names": json.dumps({f"k{n}": 1 for n in range(5500)} | {"name": "a"}).encode()[:-1] + b',"k5499":1}',
    "huge numbers": fill("9" * 4_000, '{"name":"a","x":[', "]}", ","),
    "one huge number": fill("9", '{"name":"a","x":', "}"),
    "escapes": fill("\\\\u00e9".replace("\\\\", "\\"), '{"name":"a","description":"', '"}'),
    "long name": fill("x", '{"name":"a","', '":1}'),
}

SPECS_YAML = {
    "list": fill("1", "name: a\nx: [", "]", ", "),
    "block list": fill("- 1\n", "name: a\nx:\n"),
    "anchors": fill("- &a 1\n", "name: a\nx:\n"),
    "aliases": b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in range(97, 120)),
    "merges": fill("<<: {a: 1}\n", "name: a\n"),
    "flow deep": fill("[", "name: a\nx: "),
    "maps deep": fill("{a: ", "name: a\nx: "),
    "block deep": "\n".join(" " * n + "a:" for n in range(350)).encode(),
    "questions": fill("? "),
    "dashes": fill("- "),
    "quotes": fill("''", "name: a\nx: '", "'"),
    "escapes": fill("\\u1234", 'name: a\nx: "', '"'),
    "open quote": fill("a b\n\n", 'name: "'),
    "block scalar": fill("  a\n", "name: a\ndescription: |\n"),
    "folded": fill("  a\n\n", "name: a\ndescription: >\n"),
    "directives": fill("%TAG !a! tag:x\n"),
    "documents": fill("--- a\n"),
    "tag": fill("a", "name: !", " x"),
    "comments": fill("#a\n", "name: a\n"),
    "numbers": fill("1e9", "name: a\nx: [", "]", ","),
    "one number": fill("1", "name: "),
    "almost numbers": fill("1e", "name: "),
    "times": fill("1:", "name: "),
    "odd spaces": fill("\u00a0", "name", ": a"),
    "keys": fill("a: 1\n", "name: a\n"),
    "sections": b"name: a\nsearch: {algorithm: grid, space: {objective.weighting: {choice: ["
    + b", ".join(b"{policy: fixed, alpha: %.3f}" % (n / 1000) for n in range(1000))
    + b"]}}}",
}


def random_specs(count: int) -> dict[str, bytes]:
    """Documents of the spec's own paths with values of all kinds, nested at random."""
    found = {}
    for number in range(count):
        rng = random.Random(number)

        def value(depth: int, rng: random.Random = rng) -> Any:
            several = rng.choice((0, 1, 2, 3) if depth else (1, 3, 40))
            match rng.randrange(8 if depth < 5 else 5):
                case 0:
                    return rng.choice((rng.random(), rng.randrange(-9, 10**6), 1e308, None, True))
                case 1:
                    return rng.choice(("fixed", "adaptive", "x" * rng.randrange(300)))
                case 2:
                    return {rng.choice(("uniform", "log_uniform", "integer")): [rng.random(), 1 + rng.random()]}
                case 3 | 4:
                    return rng.randrange(100)
                case 5:
                    return {"choice": [value(depth + 1) for _ in range(several)]}
                case 6:
                    return [value(depth + 1) for _ in range(several)]
                case _:
                    return {rng.choice(PATHS): value(depth + 1) for _ in range(several)}

        space = {rng.choice(PATHS): {"choice": [value(0) for _ in range(rng.choice((1, 5, 30)))]} for _ in range(9)}
        document = search(space, trials=rng.choice((1, 100, 1000)), algorithm=rng.choice(("random", "tpe", "grid")))
        if len(document) <= SIZE:
            found[f"random {number}"] = document
    return found


POINTS = {"trial": 0, "steps": [1], "epochs": [1.0], "times": [1.0], "values": {"h_r": [1.0]}}
REPORT = json.dumps({"series": [POINTS], "trials": [{"number": 0, "state": "running"}]}).encode()
REPORTS = {
    "series": fill(json.dumps(POINTS), '{"series":[', "]}", ","),
    "empty series": fill("{}", '{"series":[', "]}", ","),
    "wrong series": fill('{"trial":-1,"steps":[],"epochs":0,"values":[]}', '{"series":[', "]}", ","),
    "steps": fill("1", '{"series":[{"trial":0,"steps":[', '],"epochs":[],"times":[],"values":{"a":[]}}]}', ","),
    "wrong steps": fill('""', '{"series":[{"trial":0,"steps":[', '],"epochs":[],"times":[],"values":{"a":[]}}]}', ","),
    "values": fill('"a":[1]', '{"series":[{"trial":0,"steps":[1],"epochs":[1],"times":[1],"values":{', "}}]}", ","),
    "nulls": fill("null", '{"series":[{"trial":0,"steps":[1],"epochs":[1],"times":[1],"values":{"a":[', "]}}]}", ","),
    "trials": fill('{"number":0,"state":"running"}', '{"trials":[', "]}", ","),
    "wrong trials": fill('{"number":0,"state":0}', '{"trials":[', "]}", ","),
    "unknown fields": fill('"a":1', "{", "}", ","),
    "many unknown fields": json.dumps({f"k{n}": 1 for n in range(5000)}).encode(),
    "facts": fill('{"a":[', '{"data":{"a":{"a":[', ""),
    "deep facts": b'{"data":{"a":{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}}}",
    "params": fill("{}", '{"trials":[{"number":0,"state":"running","params":{"a":[', "]}}]}", ","),
    "surrogates": fill("\\ud800", '{"outcome":{"state":"failed","error":"', '"}}'),
    "huge numbers": fill(
        "9" * 4_000, '{"series":[{"trial":0,"steps":[', '],"epochs":[],"times":[],"values":{}}]}', ","
    ),
    "infinite": fill("1e999", '{"series":[{"trial":0,"steps":[1],"epochs":[', '],"times":[],"values":{"a":[]}}]}', ","),
    "lists": fill("["),
    "waiting": fill("x", '{"waiting":"', '"}'),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reader", "ordinary", "inputs"),
    [
        ("spec_json", b'{"name": "a"}', SPECS_JSON | random_specs(40)),
        ("spec_yaml", SPEC, SPECS_YAML | mutations(SPEC, 60, 1)),
        ("report_json", REPORT, REPORTS | mutations(REPORT, 60, 2)),
        ("report_binary", encode(Report.model_validate_json(REPORT)), {}),
    ],
    ids=["spec as JSON", "spec as YAML", "report as JSON", "binary report"],
)
def test_what_is_sent_costs_little_or_is_refused(
    tmp_path: Path, reader: str, ordinary: bytes, inputs: dict[str, bytes]
) -> None:
    if reader == "report_binary":
        series = b'{"trial":0,"steps":1,"metrics":["a"]}'
        head = b'{"series":[' + b",".join([series] * 1_200) + b"]}"
        whole = b"ADR1" + len(head).to_bytes(4, "little") + head
        inputs = {"heads": whole, "columns": whole + bytes(32 * 600)} | mutations(ordinary, 60, 3)
    assert not unbounded(costs(f"tests.readers:{reader}", ordinary, inputs, tmp_path))
