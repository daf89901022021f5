"""`adadim report`: the report of an experiment, or of a run that was made without the service, as one folder.

What it shows is adadim_core.report's; where the results come from is this module's.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adadim.client import Client, ClientError
from adadim_core.spec.report import decode_float

if TYPE_CHECKING:
    from adadim_core.report import Material

_POINTS = 2_000
"""Points of a curve that are asked for: more than a printed figure can show."""


def report_of_run(folder: Path, output: Path | None) -> list[Path]:
    """Write the report of a run's folder, by default beside its results. Raises ClientError, OSError."""
    _require_matplotlib()
    from adadim_core.report import write_report
    from adadim_core.report.run_folder import NoRunError, material_of_run

    try:
        return write_report(material_of_run(folder), output or folder / "report")
    except NoRunError as error:
        raise ClientError(str(error)) from None


def report_of_experiment(client: Client, experiment_id: int, output: Path | None) -> list[Path]:
    """Write the report of an experiment of the service. Raises ClientError, OSError."""
    _require_matplotlib()
    from adadim_core.report import write_report

    material = _material(client, experiment_id)
    return write_report(material, output or Path(f"experiment-{experiment_id}-report"))


def _material(client: Client, experiment_id: int) -> "Material":
    from adadim_core.answers.document import Answer
    from adadim_core.report import Material
    from adadim_core.report.material import wanted_metrics

    experiment = client.experiment(experiment_id)
    answer = Answer.model_validate(client.answer(experiment_id))
    series = client.metrics(experiment_id, wanted_metrics(answer), max_points=_POINTS)["series"]
    return Material(
        name=experiment["name"],
        spec=experiment["spec"],
        answer=answer,
        curves=_curves(series),
        source=f"experiment {experiment_id} of {client.url}",
    )


def _curves(series: list[dict[str, Any]]) -> "dict[str, dict[int, Any]]":
    from adadim_core.report import Curve

    found: dict[str, dict[int, Curve]] = {}
    for part in series:
        values = [decode_float(value) for value in part["values"]]
        found.setdefault(part["metric"], {})[part["trial"]] = Curve(part["epochs"], values)
    return found


def _require_matplotlib() -> None:
    missing = [name for name in ("matplotlib", "numpy", "pyarrow") if find_spec(name) is None]
    if missing:
        raise ClientError(f"a report takes {', '.join(missing)}: pip install 'adadim[report]'")
