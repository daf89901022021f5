"""report.html: the answer, every figure and table in one file that needs no other."""

import html
import re

from adadim_core.report import tables
from adadim_core.report.figures import FIGURES
from adadim_core.report.material import Material
from adadim_core.spec.metrics import metric_title

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
.statement { font-size: 1.2rem; border-left: 4px solid #009e73; padding-left: .8rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem }
th, td { text-align: left; padding: .25rem .7rem; border-bottom: 1px solid #d9dee3; white-space: nowrap }
figure { margin: 1.5rem 0 } figure svg { max-width: 100%; height: auto }
figcaption { color: #57606a; font-size: .85rem }
pre { background: #f4f6f8; padding: .8rem; overflow-x: auto; font-size: .8rem } .source { color: #57606a }
"""
_SVG = re.compile(r"<svg\b.*</svg>", re.DOTALL)
_NAMES = re.compile(r'(\bid="|xlink:href="#|url\(#)')


def page(material: Material, figures: dict[str, str], methods: str, spec: str, commands: list[str]) -> str:
    """The page.

    Args:
        material: what is shown.
        figures: name in `FIGURES` to the text of an SVG file.
        methods: the methods paragraph.
        spec: the spec as YAML.
        commands: what runs it again.
    """
    answer, escape = material.answer, html.escape
    notes = "".join(f"<li>{escape(note)}</li>" for note in answer.notes)
    parts = [
        f"<h1>{escape(material.name)}</h1>",
        f'<p class="statement">{escape(answer.sentence)}</p>',
        f"<p>{escape(answer.why)}</p>" if answer.why else "",
        f"<ul>{notes}</ul>" if notes else "",
        f'<p class="source">Source: {escape(material.source)}</p>',
        "<h2>Configurations</h2>",
        f'<div class="wide">{tables.to_html(answer)}</div>',
        *(_figure(name, svg) for name, svg in figures.items()),
        _without_labels(material),
        f"<h2>Methods</h2><p>{escape(methods)}</p>",
        f"<h2>Run it again</h2><pre>{escape(chr(10).join(commands))}</pre>",
        f"<h2>Specification</h2><pre>{escape(spec)}</pre>",
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(material.name)}: report</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(filter(None, parts)) + "\n</body></html>\n"
    )


def _figure(name: str, svg: str) -> str:
    """The figure in place; its ids get a prefix, since those of two figures in one page must differ."""
    found = _SVG.search(svg)
    drawing = _NAMES.sub(rf"\g<1>{name}-", found[0]) if found else ""
    return f'<figure id="figure-{name}">{drawing}<figcaption>{html.escape(FIGURES[name][1])}</figcaption></figure>'


def _without_labels(material: Material) -> str:
    """How well each measure without labels would have ranked the configurations."""
    answer = material.answer
    if not answer.without_labels:
        return ""
    names = {c.number: c.label for c in answer.configurations}
    body = [
        [
            metric_title(agreement.measure),
            "" if agreement.tau is None else f"{agreement.tau:+.2f}",
            "" if agreement.low is None or agreement.high is None else f"{agreement.low:+.2f} to {agreement.high:+.2f}",
            names[agreement.picks],
            f"{agreement.costs:.4g}",
        ]
        for agreement in answer.without_labels
    ]
    against = metric_title(answer.without_labels[0].against)
    columns = ["measure", "Kendall's tau", "95 % interval", "would have picked", f"at a cost in {against} of"]
    return f'<h2>Selection without labels</h2><div class="wide">{tables.html_table(columns, body)}</div>'
