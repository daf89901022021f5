"""What every process of a run needs to know: the spec, the folder, and where to report. Plain data, no behaviour."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from adadim_core.spec import ExperimentSpec, TrialPlan
from workers.data_paths import absolute
from workers.reporting.connection import ServiceAddress
from workers.storage.folder import Storage
from workers.storage.opening import open_storage


@dataclass(frozen=True)
class RunContext:
    """One run of an experiment. Travels to the trial actors through Ray's object store, not through their logs."""

    spec: ExperimentSpec
    location: str
    """Where results go: a folder, or an object store's address."""
    run: str
    """Names this run among the attempts at the experiment; part of its spool files' names."""
    service: ServiceAddress | None
    """None: the run reports to nobody; everything else is the same."""
    data_folder: Path = Path()
    """Where a relative data.path begins; absolute."""
    opened: Storage | None = None
    """The driver's storage, which its process has open already. Every other process opens one at its first use."""

    @cached_property
    def storage(self) -> Storage:
        return self.opened or open_storage(self.location)

    @property
    def root(self) -> Path:
        """The storage folder on this node."""
        return self.storage.root

    def __getstate__(self) -> dict[str, Any]:
        """Without the connection to an object store: each process opens its own."""
        return {key: value for key, value in self.__dict__.items() if key != "storage"} | {"opened": None}

    def trial_spec(self, plan: TrialPlan) -> ExperimentSpec:
        """What one trial trains by."""
        return absolute(self.spec.with_params(plan.params), self.data_folder)
