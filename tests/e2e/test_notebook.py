"""The tutorial notebook, run from its first cell to its last against a real service."""

import os
from pathlib import Path
from unittest import mock

import nbformat
import pytest
from nbclient import NotebookClient

from tests.e2e.conftest import ServiceProcess

NOTEBOOK = Path(__file__).parents[2] / "examples" / "tutorial.ipynb"

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.timeout(600)
def test_the_tutorial_leads_from_a_spec_to_an_encoder(service: ServiceProcess, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with mock.patch.dict(os.environ, {**service.environment, "ADADIM_URL": "", "ADADIM_TOKEN": ""}):
        NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [str(output.get("data", {}).get("text/html", "")) for output in outputs]
    assert any("<progress" in text and "tutorial) succeeded: 12 succeeded" in text for text in shown), "the bar"
    assert any("(3 seeds)" in text or "within noise" in text for text in shown), "the statement of the answer"
    assert any("image/png" in output.get("data", {}) for output in outputs), "the plane"
    (printed,) = [output["text"] for output in outputs if output.output_type == "stream"]
    assert printed.startswith("R has 16 dimensions")
    assert float(printed.split("accuracy ")[1].split()[0]) > 0.8
