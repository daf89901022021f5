"""The tables of docs/benchmarks.md about GPUs, made from what gpu_suite.py wrote; several runs share a table.

    .venv/bin/python benchmarks/gpu_report.py FILE...

With the committed runs (benchmarks/results/gpu-run*.json) it prints what the documentation shows.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Run = dict[str, Any]
"""What gpu_suite.py wrote."""
Row = list[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="results of gpu_suite.py")
    print(tables([json.loads(file.read_text()) for file in parser.parse_args().files]), end="")


def tables(runs: list[Run]) -> str:
    """Markdown of all parts that have figures."""
    speed = ["network", "CUDA graph", "images/s (lowest to highest)", "step", "share of the matrix peak", "memory"]
    floor = ["network", "operations at the peak", "floor, operator by operator", "share of the peak there",
             "floor, joined", "share there", "measured step"]  # fmt: skip
    beside = ["loss alone", "ours, images/s", "CUDA graph", "lightly", "ratio", "lightly, step alone",
              "lightly, loading alone"]  # fmt: skip
    cost = ["CUDA graph", "step without", "at every step", "at every tenth, the default", "alpha's, of 200 steps"]
    counts = _members(runs)
    packing = ["network", "in turn, graph", "in turn, plain calls", *(f"pack of {count}" for count in counts),
               "processes with graphs", "processes"]  # fmt: skip
    study = ["sweep", "trials", "time", "what the product says"]
    sections = [
        _runs(runs),
        _table("Tests of the core", ["tests", "run", "failed", "skipped", "time"], _rows(runs, "core", _core)),
        _table(
            "Through Ray and the service",
            ["case", "outcome", "processes on the card at once"],
            _rows(runs, "product", _product),
        ),
        _table("Throughput", speed, _rows(runs, "throughput", _throughput)),
        _table("What a step takes at least", floor, _rows(runs, "throughput", _floor)),
        _by_network(runs, "Where the time of a step goes, by kind of kernel", " profile", "shares", "{:.1%}"),
        _by_network(runs, "Pieces of a step, each by itself", " pieces", None, "{:.3g} ms"),
        _table("Beside lightly 1.6", beside, _rows(runs, "lightly", _lightly)),
        _table("What the measurements cost, of the training time", cost, _rows(runs, "information", _information)),
        _table(
            "Many trials on one card",
            packing,
            _rows(runs, "packing", lambda found: _packing(found, counts)),
            "Images a second over all members; behind a pack, how many times as fast it is as its members in turn.",
        ),
        _table("The study", study, [*_rows(runs, "sweeps", _study), *_rows(runs, "study", _study)]),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _runs(runs: list[Run]) -> str:
    """What ran on what, the measured ceilings, and which parts did not end well."""
    rows = []
    for run in runs:
        found = run["parts"].get("throughput", {}).get("results", {})
        peak, copies = found.get("matrix_peak_tflops"), found.get("copy_gb_per_s")
        ceilings = f"{peak:.4g} TFLOP/s, {copies:.4g} GB/s" if peak and copies else ""
        ended = [f"{name} {part['status']}" for name, part in run["parts"].items() if part["status"] != "ok"]
        card = f"{run['card']}; driver {run.get('driver', 'none')}, CUDA {run.get('cuda', 'none')}"
        rows.append([run.get("code", ""), run["images"], card, run["machine"], ceilings, ", ".join(ended) or "none"])
    columns = ["code", "images", "card", "machine", "products of matrices in bfloat16, copies", "parts not ended well"]
    return _table("What ran", columns, _numbered(runs, rows))


def _numbered(runs: list[Run], rows: Iterable[Row]) -> list[Row]:
    """One row a run, with its number where there are several."""
    return [[number, *row] if len(runs) > 1 else row for number, row in enumerate(rows, 1)]


def _rows(runs: list[Run], part: str, make: Callable[[dict[str, Any]], Iterable[Row]]) -> list[Row]:
    """The rows of a part in all runs, each with its run's number where there are several."""
    return [
        [number, *row] if len(runs) > 1 else row
        for number, run in enumerate(runs, 1)
        if (found := run["parts"].get(part, {}).get("results"))
        for row in make(found)
    ]


def _core(found: dict[str, Any]) -> Iterator[Row]:
    for name, counts in found.items():
        if isinstance(counts, dict) and "tests" in counts:
            failed = Counter(one["test"].removeprefix("tests.adadim_core.").split("[")[0] for one in counts["failed"])
            named = ", ".join(f"{test} ({times})" for test, times in failed.items())
            number = counts["failures"] + counts["errors"]
            yield [name, counts["tests"], f"{number}: {named}" if number else 0, counts["skipped"],
                   f"{counts['seconds']:.0f} s"]  # fmt: skip


def _product(found: dict[str, Any]) -> Iterator[Row]:
    for name, case in found.items():
        trials = f"{len(case.get('trials', []))} trials succeeded"
        outcome = _brief(case["error"]) if "error" in case else case.get("skipped", trials)
        seen = case.get("processes_on_card_at_once")
        yield [name, outcome, "" if seen is None else f"{seen}, {case['memory_gib']:.1f} GiB"]


def _throughput(found: dict[str, Any]) -> Iterator[Row]:
    for name, value in found.items():
        if not isinstance(value, dict) or name.endswith((" profile", " pieces")):
            continue
        if "error" in value:
            yield [name, "", _brief(value["error"]), "", "", ""]
        else:
            yield [name, _yes(value), _speed(value["images_per_s"]), f"{value['step_ms']:.1f} ms",
                   f"{value['share_of_matrix_peak']:.1%}", f"{value['memory_gib']:.1f} GiB"]  # fmt: skip


def _floor(found: dict[str, Any]) -> Iterator[Row]:
    """What share of the matrix peak a step can reach when each operator takes the longer of its operations and bytes.

    The first entry of a network in the throughput part has the batch of its floor.
    """
    for title, pieces in found.items():
        network = title.removesuffix(" pieces")
        name, step = next(((name, x) for name, x in found.items() if name.startswith(f"{network} batch ")), ("", {}))
        if network == title or "floor, operator by operator" not in pieces or "tflop_per_step" not in step:
            continue
        alone = 1e3 * step["tflop_per_step"] / found["matrix_peak_tflops"]
        floors = [pieces[f"floor, {kind}"] for kind in ("operator by operator", "what can be joined left out")]
        measured = f"{step['step_ms']:.1f} ms{'' if step['replayed'] else ', without a graph'}"
        yield [name, f"{alone:.1f} ms", *(cell for f in floors for cell in (f"{f:.1f} ms", f"{alone / f:.0%}")),
               measured]  # fmt: skip


def _lightly(found: dict[str, Any]) -> Iterator[Row]:
    for loss in ("NT-Xent", "VICReg"):
        mine, theirs = found.get(f"trainer, {loss}"), found.get(f"lightly, {loss}, end to end")
        if mine:
            alone, loading = (found.get(f"lightly, {loss}, {what}") for what in ("step alone", "loading alone"))
            ratio = f"{mine['median'] / theirs['median']:.2f}x" if theirs else ""
            yield [loss, _speed(mine), _yes(mine), _speed(theirs), ratio, _speed(alone), _speed(loading)]


def _information(found: dict[str, Any]) -> Iterator[Row]:
    names = ("share_at_every_step", "share_at_every_10_steps", "alpha_share_of_an_epoch_of_200_steps")
    shares = ["" if found.get(name) is None else f"{found[name]:.2%}" for name in names]
    yield [_yes(found), f"{found['step_ms_without']:.1f} ms", *shares]


def _members(runs: list[Run]) -> list[str]:
    """The numbers of members that packs were measured with."""
    found = [run["parts"].get("packing", {}).get("results", {}) for run in runs]
    packs = [value for values in found for name, value in values.items() if name.endswith(": pack")]
    return sorted({count for pack in packs for count in pack if count != "error"}, key=int)


def _packing(found: dict[str, Any], counts: list[str]) -> Iterator[Row]:
    for network in dict.fromkeys(name.split(":")[0] for name in found):
        graph, plain = (found.get(f"{network}: {kind} alone") for kind in ("graph", "eager"))
        pack = found.get(f"{network}: pack", {})
        in_turn = graph if isinstance(graph, float) else plain
        processes = [found.get(f"{network}: processes{more}", {}) for more in (", each with a graph", "")]
        measured = ["; ".join(f"{n}: {ways[n]:,.0f}" for n in counts if isinstance(ways.get(n), float))
                    for ways in processes]  # fmt: skip
        yield [network, _rate(graph), _rate(plain), *(_rate(pack.get(n), in_turn) for n in counts), *measured]


def _study(found: dict[str, Any]) -> Iterator[Row]:
    for name, sweep in found.items():
        if isinstance(sweep, dict) and "sentence" in sweep:
            yield [name, sweep["ended"], f"{sweep['seconds']:.0f} s", sweep["sentence"]]


def _by_network(runs: list[Run], title: str, suffix: str, key: str | None, shown: str) -> str:
    """A table with a column for each network of each run."""
    columns: dict[str, dict[str, float]] = {}
    for number, run in enumerate(runs, 1):
        for name, value in run["parts"].get("throughput", {}).get("results", {}).items():
            if name.endswith(suffix) and "error" not in value:
                graph = ", graph" if value.get("replayed") else ""
                label = f"{name.removesuffix(suffix)}{f', run {number}' if len(runs) > 1 else ''}{graph}"
                columns[label] = value[key] if key else value
    kinds = dict.fromkeys(kind for values in columns.values() for kind in values if not kind.startswith("floor"))
    rows = [[kind, *(shown.format(v[kind]) if kind in v else "" for v in columns.values())] for kind in kinds]
    return _section(title, ["", *columns], rows) if rows else ""


def _table(title: str, columns: list[str], rows: list[Row], note: str = "") -> str:
    """Nothing where there are no rows; with a column for the run where rows have one more cell than columns."""
    if not rows:
        return ""
    return _section(title, ["run", *columns] if len(rows[0]) > len(columns) else columns, rows, note)


def _section(title: str, columns: list[str], rows: Iterable[Row], note: str = "") -> str:
    lines = [f"### {title}", "", *([note, ""] if note else [])]
    lines += [_line(columns), "|" + "---|" * len(columns), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _brief(error: str) -> str:
    """What kind of error it was."""
    return ": ".join(error.split(": ")[:2]).split(". ")[0].rstrip(".")[:100]


def _yes(value: dict[str, Any]) -> str:
    return "yes" if value["replayed"] else "no"


def _speed(value: dict[str, float] | None) -> str:
    return "" if value is None else f"{value['median']:,.0f} ({value['min']:,.0f} to {value['max']:,.0f})"


def _rate(value: Any, in_turn: Any = None) -> str:
    if not isinstance(value, float):
        return _brief(value["error"]) if isinstance(value, dict) else str(value or "")
    return f"{value:,.0f}" + (f" ({value / in_turn:.2f}x)" if isinstance(in_turn, float) else "")


if __name__ == "__main__":
    main()
