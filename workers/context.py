"""What every process of a run needs to know: the spec, the folder, and where to report. Plain data, no behaviour."""

from dataclasses import dataclass
from pathlib import Path

from adadim_core.spec import ExperimentSpec, TrialPlan
from workers.connection import ServiceAddress
from workers.storage import Storage


@dataclass(frozen=True)
class RunContext:
    """One run of an experiment. Travels to the trial actors through Ray's object store, not through their logs."""

    spec: ExperimentSpec
    root: Path
    """The storage folder."""
    run: str
    """Names this run among the attempts at the experiment; part of its spool files' names."""
    service: ServiceAddress | None
    """None: nobody listens, everything else is the same."""

    @property
    def storage(self) -> Storage:
        return Storage(self.root)

    def trial_spec(self, plan: TrialPlan) -> ExperimentSpec:
        return self.spec.with_params(plan.params)
