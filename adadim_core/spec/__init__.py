"""The experiment spec and the worker report: the two data contracts shared by core, workers and service.

Owns: pydantic models, parsing, search planning, metric names. Does not own: anything that needs torch,
ray, HTTP or a database. Importing this package never imports torch.
"""

from adadim_core.spec.experiment import MAX_LABELS, ExperimentSpec, json_schema
from adadim_core.spec.intent import unintended
from adadim_core.spec.labels import trial_label, value_label
from adadim_core.spec.notation import MAX_SPEC_BYTES
from adadim_core.spec.parsing import parse_spec, validate_spec
from adadim_core.spec.plan import TrialPlan, configuration_of, plan_summary, plan_trials, planned_seeds, seed_of
from adadim_core.spec.problems import Problem, SpecError

__all__ = [
    "MAX_LABELS",
    "MAX_SPEC_BYTES",
    "ExperimentSpec",
    "Problem",
    "SpecError",
    "TrialPlan",
    "configuration_of",
    "json_schema",
    "parse_spec",
    "plan_summary",
    "plan_trials",
    "planned_seeds",
    "seed_of",
    "trial_label",
    "unintended",
    "validate_spec",
    "value_label",
]
