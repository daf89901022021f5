"""Settings that are allowed but cannot be meant: they change nothing, or rank the worst trial first.

Checked when a spec is submitted, not when a stored one is read: specs that an earlier version accepted still run.
"""

from collections.abc import Iterator

from adadim_core.spec.algorithms import ALGORITHMS
from adadim_core.spec.datasets import DATASETS
from adadim_core.spec.experiment import ExperimentSpec, with_paths
from adadim_core.spec.metrics import METRICS
from adadim_core.spec.plan import configuration_of, plan_trials
from adadim_core.spec.problems import Problem
from adadim_core.spec.scheduler import PopulationBasedTraining

_DECIDING = ("data", "evaluation", "objective.mutual_information", "training.collapse", "training.epochs")
_WHOLE = ("objective", "training")
"""Where a search may change whether a setting can be meant."""


def unintended(spec: ExperimentSpec) -> list[Problem]:
    """The settings of a spec that cannot be meant in any of its trials."""
    search = spec.search
    if search is None or not any(path.startswith(_DECIDING) or path in _WHOLE for path in search.space):
        return [*_problems(spec), *_search_problems(spec)]
    if ALGORITHMS[search.algorithm].learns:  # what it will choose is not known
        return list(_search_problems(spec))
    fields = spec.trial_fields(search.space)
    everywhere: dict[str, Problem] | None = None
    for plan in plan_trials(spec):
        values = configuration_of(plan.params)
        trial = ExperimentSpec.model_validate(with_paths(fields, values), context=spec.context)
        found = {problem.pointer: problem for problem in _problems(trial)}
        everywhere = found if everywhere is None else {p: everywhere[p] for p in everywhere if p in found}
        if not everywhere:
            break
    return [*_search_problems(spec), *(everywhere or {}).values()]


def _problems(spec: ExperimentSpec) -> Iterator[Problem]:
    training, term, images = spec.training, spec.objective.mutual_information, DATASETS[spec.data.dataset].train_images
    if images is not None and spec.evaluation.knn_k > images:
        yield Problem(
            "/evaluation/knn_k",
            f"{spec.evaluation.knn_k} neighbours are more than the {images} training images of {spec.data.dataset}",
        )
    joins = "start_epoch" if term.start_epoch >= term.lag_epochs else "lag_epochs"
    if term.gamma > 0 and max(term.start_epoch, term.lag_epochs) >= training.epochs:
        yield Problem(
            f"/objective/mutual_information/{joins}",
            f"the term never joins the loss: training ends after {training.epochs} epochs. Give a smaller one, or "
            "gamma: 0 to leave the term out",
        )
    if training.collapse.stop and training.collapse.share == 0:
        yield Problem("/training/collapse/stop", "share: 0 turns the watch off, so it can stop no trial")
    if spec.stop.plateau is not None and spec.stop.plateau.patience >= training.epochs:
        yield Problem(
            "/stop/plateau/patience",
            f"no trial can be stopped: training ends after {training.epochs} epochs. Give a smaller one",
        )


def _search_problems(spec: ExperimentSpec) -> Iterator[Problem]:
    if spec.search is None:
        return
    metric, scheduler = METRICS[spec.search.metric], spec.search.scheduler
    if metric.higher_is_better is not None and metric.higher_is_better != (spec.search.mode == "max"):
        better = "max" if metric.higher_is_better else "min"
        yield Problem(
            "/search/mode", f"{spec.search.mode} ranks the worst trial by {metric.name} first; write mode: {better}"
        )
    if isinstance(scheduler, PopulationBasedTraining) and scheduler.every_epochs >= spec.epochs:
        yield Problem(
            "/search/scheduler/every_epochs",
            f"trials are never compared: training ends after {spec.epochs} epochs. Give a smaller one",
        )
