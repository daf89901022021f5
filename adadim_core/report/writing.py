"""Writes a report's folder.

report.html                  everything in one page that needs no other file
figures/NAME.pdf, NAME.svg   each figure, with embedded or plain text, and its provenance in the metadata
configurations.csv, .tex     the table, in full and as printed
methods.txt                  a paragraph for the methods section
answer.json                  the analysis as the API gives it
spec.yaml, reproduce.sh      what runs it again
"""

import hashlib
import io
import json
from pathlib import Path

import matplotlib as mpl
import yaml
from matplotlib.figure import Figure

from adadim_core.report import methods, tables
from adadim_core.report.figures import FIGURES, STYLE
from adadim_core.report.material import Material
from adadim_core.report.page import page
from adadim_core.version import VERSION


def write_report(material: Material, folder: Path) -> list[Path]:
    """Write all files of a report, over those of an earlier one. Returns them, the page first.

    Raises:
        OSError: the folder cannot be written.
    """
    spec = yaml.safe_dump(dict(material.spec), sort_keys=False, allow_unicode=True)
    paragraph = methods.paragraph(material)
    commands = ["adadim submit spec.yaml --watch", "# or, without the service:", "python -m workers spec.yaml"]
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    drawings: dict[str, str] = {}
    written: list[Path] = []
    with mpl.rc_context(STYLE):
        for name, (draw, caption) in FIGURES.items():
            figure = draw(material)
            if figure is None:
                continue
            for form in ("pdf", "svg"):
                path = folder / "figures" / f"{name}.{form}"
                content = _rendered(figure, form, _provenance(material, spec, caption))
                path.write_bytes(content)
                written.append(path)
                if form == "svg":
                    drawings[name] = content.decode()
    texts = {
        "report.html": page(material, drawings, paragraph, spec, commands),
        "configurations.csv": tables.to_csv(material.answer),
        "configurations.tex": tables.to_latex(material.answer, material.answer.sentence),
        "methods.txt": paragraph + "\n",
        "answer.json": json.dumps(material.answer.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n",
        "spec.yaml": spec,
        "reproduce.sh": "\n".join(["#!/bin/sh", f"# {material.source}".replace("\n", " "), *commands[:1]]) + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [*(folder / name for name in texts), *written]


def _rendered(figure: Figure, form: str, provenance: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    if form == "pdf":
        metadata = {
            "Title": provenance["title"],
            "Subject": provenance["caption"],
            "Keywords": provenance["source"],
            "Creator": provenance["creator"],
            "CreationDate": None,  # the same results give the same file
        }
    else:
        metadata = {
            "Title": provenance["title"],
            "Description": provenance["caption"],
            "Source": provenance["source"],
            "Creator": provenance["creator"],
            "Date": None,
        }
    figure.savefig(buffer, format=form, metadata=metadata)
    return buffer.getvalue()


def _provenance(material: Material, spec: str, caption: str) -> dict[str, str]:
    """What a file's metadata says of where it comes from."""
    digest = hashlib.sha256(spec.encode()).hexdigest()[:16]
    return {
        "title": material.name,
        "caption": caption,
        "source": f"{material.source}; spec sha256 {digest}; {material.answer.trials} trials",
        "creator": f"adadim {VERSION}",
    }
