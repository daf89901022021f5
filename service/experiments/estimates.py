"""How long a plan may take, told from what the same network took on the same data before."""

from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec import ExperimentSpec
from service.experiments import repository
from service.experiments.schemas import EstimateRead


async def estimated(session: AsyncSession, spec: ExperimentSpec, trials: int) -> EstimateRead | None:
    """The time of so many trials of a spec; None where nothing like it has trained, or where trials differ in it."""
    model, data = spec.model, spec.data
    if spec.search is not None and any(path.split(".")[0] in ("model", "data") for path in spec.search.space):
        return None
    found = await repository.pace(session, backbone=model.backbone, width=model.width, dataset=data.dataset)
    if found.seconds_per_epoch is None:
        return None
    each = found.seconds_per_epoch * spec.epochs
    at_once = min(max(found.at_once or 1.0, 1.0), trials)
    width = "" if model.width is None else f", width {model.width}"
    return EstimateRead(
        seconds=each * trials / at_once,
        seconds_per_trial=each,
        at_once=at_once,
        network=f"{model.backbone}{width}, on {data.dataset}",
        trials=found.trials,
    )
