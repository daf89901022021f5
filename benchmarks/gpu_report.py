"""The tables of docs/benchmarks.md about GPUs, made from the file that gpu_suite.py wrote.

.venv/bin/python benchmarks/gpu_report.py [benchmarks/results/gpu.json]
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", default=Path("benchmarks/results/gpu.json"))
    print(tables(json.loads(parser.parse_args().file.read_text())), end="")


def tables(results: dict[str, Any]) -> str:
    """Markdown of all parts that have figures."""
    parts = results["parts"]
    head = f"{results['card']}; driver {results.get('driver', 'none')}, CUDA {results.get('cuda', 'none')}."
    sections = [head, f"{results['machine']}.", f"Images: {results['images']}."]
    makers = {
        "core": _core,
        "product": _product,
        "throughput": _throughput,
        "lightly": _lightly,
        "information": _information,
        "packing": _packing,
        "study": _study,
    }
    for name, make in makers.items():
        part = parts.get(name, {"status": "not run"})
        if part.get("results"):
            sections.append(make(part["results"]))
        if part["status"] != "ok":
            sections.append(f"Part {name}: {part['status']}{', ' + part['reason'] if 'reason' in part else ''}.")
    return "\n\n".join(sections) + "\n"


def _core(found: dict[str, Any]) -> str:
    rows = [
        [name, counts["tests"], counts["failures"] + counts["errors"], counts["skipped"], f"{counts['seconds']:.0f} s"]
        for name, counts in found.items()
        if isinstance(counts, dict) and "tests" in counts
    ]
    return _section("Tests of the core", ["tests", "run", "failed", "skipped", "time"], rows)


def _product(found: dict[str, Any]) -> str:
    rows = []
    for name, case in found.items():
        trials = len(case.get("trials", []))
        outcome = case.get("error") or case.get("skipped") or f"{trials} trials succeeded"
        seen = case.get("processes_on_card_at_once")
        rows.append([name, outcome, "" if seen is None else f"{seen}, {case['memory_gib']:.1f} GiB"])
    return _section("Through Ray and the service", ["case", "outcome", "processes on the card at once"], rows)


def _throughput(found: dict[str, Any]) -> str:
    head = (
        f"Measured ceilings: bfloat16 product of matrices {found['matrix_peak_tflops']:.4g} TFLOP/s, "
        f"copies {found['copy_gb_per_s']:.4g} GB/s (read and written)."
    )
    rows, profiles, pieces = [], {}, {}
    for name, value in found.items():
        if name.endswith(" profile") and "shares" in value:
            profiles[name.removesuffix(" profile")] = value["shares"]
        elif name.endswith(" pieces") and "error" not in value:
            pieces[name.removesuffix(" pieces")] = value
        elif isinstance(value, dict) and "images_per_s" in value:
            rows.append([name, _speed(value["images_per_s"]), f"{value['step_ms']:.4g} ms",
                         f"{value['share_of_matrix_peak']:.1%}", f"{value['memory_gib']:.1f} GiB"])  # fmt: skip
        elif isinstance(value, dict):
            rows.append([name, value.get("error", ""), "", "", ""])
    columns = ["network", "images/s (lowest to highest)", "step", "share of the matrix peak", "memory"]
    sections = [_section("Throughput", columns, rows, head)]
    for title, by_network, shown in (
        ("Where the time of a step goes, by kind of kernel", profiles, lambda x: f"{x:.1%}"),
        ("Pieces of a step, each by itself", pieces, lambda x: f"{x:.3g} ms"),
    ):
        kinds = list(dict.fromkeys(kind for values in by_network.values() for kind in values))
        table = [[kind, *(shown(v[kind]) if kind in v else "" for v in by_network.values())] for kind in kinds]
        sections.append(_section(title, ["", *by_network], table))
    return "\n\n".join(sections)


def _lightly(found: dict[str, Any]) -> str:
    if "skipped" in found:
        return f"Comparison with lightly: {found['skipped']}."
    rows = []
    for loss in ("NT-Xent", "VICReg"):
        mine, theirs = found.get(f"trainer, {loss}"), found.get(f"lightly, {loss}, end to end")
        if mine and theirs:
            alone, loading = (found[f"lightly, {loss}, {what}"] for what in ("step alone", "loading alone"))
            rows.append([loss, _speed(mine), _speed(theirs), f"{mine['median'] / theirs['median']:.2f}x",
                         _speed(alone), _speed(loading)])  # fmt: skip
    columns = ["loss alone", "ours, images/s", "lightly", "ratio", "lightly, step alone", "lightly, loading alone"]
    return _section("Beside lightly 1.6", columns, rows, f"lightly loads with {found['workers']} processes.")


def _information(found: dict[str, Any]) -> str:
    rows = [
        ["H(R), I(R;Z), ranks, uniformity, at every step", _share(found.get("share_at_every_step"))],
        ["the same at every tenth step, the default", _share(found.get("share_at_every_10_steps"))],
        ["alpha's measurement before an epoch of 200 steps", _share(found.get("alpha_share_of_an_epoch_of_200_steps"))],
    ]
    return _section("What the measurements cost", ["measured", "share of the training time"], rows)


def _packing(found: dict[str, Any]) -> str:
    networks = list(dict.fromkeys(name.split(":")[0] for name in found))
    rows = []
    for network in networks:
        alone = {kind: found.get(f"{network}: {kind} alone") for kind in ("graph", "eager")}
        packs = found.get(f"{network}: pack", {})
        for count, rate in packs.items():
            others = [found.get(f"{network}: processes{more}", {}).get(count) for more in ("", ", each with a graph")]
            rows.append([network, count, *(_rate(x, rate) for x in (rate, *alone.values(), *others))])
    columns = ["network", "members", "pack", "graph, in turn", "eager, in turn", "processes", "processes with graphs"]
    note = "Images a second over all members; behind it, how many times as fast the pack is."
    return _section("Many trials on one card", columns, rows, note)


def _study(found: dict[str, Any]) -> str:
    columns = ["configuration", "seed", "epochs", "k-NN", "H(R)", "I(R;Z)", "ER(R)", "alpha at the end"]
    rows = [
        [t["configuration"], t["seed"], t["epochs"], f"{t['knn_top1']:.1%}", f"{t['h_r']:.3f}", f"{t['i_rz']:.3f}",
         f"{t['erank_r']:.1f}", f"{t['alpha']:.3f}"]
        for t in found.get("trials", [])
    ]  # fmt: skip
    return _section("The study: ResNet-18 at full width", columns, rows)


def _section(title: str, columns: list[str], rows: Iterable[list[Any]], note: str = "") -> str:
    lines = [f"### {title}", "", *([note, ""] if note else [])]
    lines += [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _speed(value: dict[str, float]) -> str:
    return f"{value['median']:,.0f} ({value['min']:,.0f} to {value['max']:,.0f})"


def _rate(value: Any, pack: Any) -> str:
    if not isinstance(value, int | float):
        return str(value.get("error", "")) if isinstance(value, dict) else str(value or "")
    ratio = "" if value is pack or not isinstance(pack, int | float) else f" ({pack / value:.2f}x)"
    return f"{value:,.0f}{ratio}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


if __name__ == "__main__":
    main()
