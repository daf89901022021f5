"""The experiment spec as a whole, and how a trial's values are set in it."""

import copy
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, PrivateAttr, ValidationInfo, model_validator

from adadim_core.spec.backbones import BACKBONES
from adadim_core.spec.base import KIND_FIELDS, MAX_VALUES, Section
from adadim_core.spec.conditions import check_batch, check_gpus, check_images
from adadim_core.spec.datasets import DATASETS
from adadim_core.spec.objective import ObjectiveSpec
from adadim_core.spec.presets import PRESETS, PresetName, extent, filled_in
from adadim_core.spec.scheduler import StopSpec
from adadim_core.spec.search import SearchSpec
from adadim_core.spec.sections import DataSpec, EvaluationSpec, ModelSpec, ResourcesSpec, TrainingSpec
from adadim_core.spec.space import extremes

MAX_LABELS = 16
LabelKey = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
LabelValue = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")]


class ExperimentSpec(Section):
    """One experiment: a sweep when it has a `search` section, a single run otherwise."""

    version: Annotated[Literal[1], Field(description="Version of this format.")] = 1
    name: Annotated[
        str,
        Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$", description="Shown in lists."),
    ]
    description: Annotated[str, Field(max_length=2000)] = ""
    labels: Annotated[
        dict[LabelKey, LabelValue],
        Field(max_length=MAX_LABELS, description="What it belongs to, as {project: x}: lists are filtered by it."),
    ] = {}
    preset: Annotated[
        PresetName | None,
        Field(
            description="Fills in what is left out. "
            + " ".join(f"{preset.name}: {preset.description}." for preset in PRESETS.values())
            + " Used up when the spec is read: a stored one has the values themselves."
        ),
    ] = None
    from_preset: Annotated[
        str | None,
        Field(
            max_length=40,
            description="The preset that filled this spec in; written when it is read, and changes nothing.",
            json_schema_extra={"readOnly": True},
        ),
    ] = None
    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    objective: ObjectiveSpec = ObjectiveSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    resources: ResourcesSpec = ResourcesSpec()
    search: SearchSpec | None = None
    stop: StopSpec = StopSpec()
    retries: Annotated[int, Field(ge=0, le=100, description="Number of new attempts after lost ones.")] = 2
    _own_data: bool = PrivateAttr(default=False)

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, fields: Any) -> Any:
        name = fields.get("preset") if isinstance(fields, Mapping) else None
        if not isinstance(name, str) or name not in PRESETS:  # there is none, or the field's type refuses it
            return fields
        if "from_preset" in fields:
            raise ValueError(
                f"preset: {name} would fill in nothing, since a stored spec has every field; write one with preset and "
                "the fields of your own"
            )
        filled = filled_in(fields, PRESETS[name].values)
        if extent(filled) > MAX_VALUES:
            raise ValueError(
                f"a spec has at most {MAX_VALUES} fields and values, with those that preset: {name} fills in; take "
                "fewer alternatives or points, or smaller sections of them"
            )
        return filled | {"preset": None, "from_preset": name}

    @model_validator(mode="after")
    def _trial_can_be_built(self, info: ValidationInfo) -> Self:
        self._own_data = bool((info.context or {}).get("own_data"))
        training, resources, dataset = self.training, self.resources, DATASETS[self.data.dataset]
        check_batch(training.batch_size, processes=resources.workers, accumulate=training.accumulate)
        check_gpus(resources.gpus_per_worker, processes=resources.workers)
        if self._own_data:
            return self
        if dataset.train_images is not None:
            check_images(training.batch_size, images=dataset.train_images, dataset=dataset.name)
        side = self.data.image_size or dataset.side
        if side is not None:
            BACKBONES[self.model.backbone].check_side(side)
        return self

    @model_validator(mode="after")
    def _search_metric_is_measured(self) -> Self:
        lacking = self.evaluation.lacking(self.search.metric) if self.search is not None else None
        if self.search is not None and lacking and not any(path.startswith("evaluation") for path in self.search.space):
            raise ValueError(f"search.metric {self.search.metric} needs {lacking}")
        if self.search is not None and self.search.metric == "knn_map" and self._images_have_one_label():
            raise ValueError(
                f"search.metric knn_map needs several labels per image, and {self.data.dataset} has one: use knn_top1"
            )
        return self

    @model_validator(mode="after")
    def _decisions_have_values_to_go_by(self) -> Self:
        if self.search is None:
            return self
        early = self.search.scheduler.decides or self.stop.plateau is not None
        if early and self.evaluation.known_at_the_end(self.search.metric):
            other = "evaluation.linear_probe: online" if self.search.metric == "linear_top1" else "another metric"
            raise ValueError(
                f"search.metric {self.search.metric} is known only after the last epoch; a scheduler and stop.plateau "
                f"need it while trials train: use {other}"
            )
        self.search.scheduler.check_experiment(self)
        return self

    def _images_have_one_label(self) -> bool:
        searched = any(path in ("data", "data.dataset") for path in self.search.space) if self.search else False
        return DATASETS[self.data.dataset].one_label and not self._own_data and not searched

    @property
    def epochs(self) -> int:
        """Epochs of the longest trial."""
        searched = self.search.space.get("training.epochs") if self.search is not None else None
        return max([self.training.epochs] if searched is None else [int(value) for value in extremes(searched)])

    @property
    def context(self) -> dict[str, Any]:
        """The context with which pydantic validated this spec."""
        return {"own_data": self._own_data}

    def with_params(self, params: dict[str, Any]) -> Self:
        """The spec of one trial: the given fields set, the search section gone.

        Args:
            params: dotted path to value, as in `TrialPlan.params`.

        Raises:
            pydantic.ValidationError: the values do not fit the spec.
            KeyError: a path does not exist.
        """
        return type(self).model_validate(with_paths(self.trial_fields(params), params), context=self.context)

    def trial_fields(self, paths: Iterable[str]) -> dict[str, Any]:
        """The fields that a trial has, to be varied by `with_paths` along these paths: all but the search.

        Sections that no path leads through are as they are: pydantic takes them for valid, so that a trial costs what
        it changes.
        """
        fields = {name: value for name, value in self if name != "search"}
        for path in paths:
            section: Any = fields
            for parent in path.split(".")[:-1]:
                below = section.get(parent)
                if isinstance(below, BaseModel):
                    section[parent] = below = dict(below)
                section = below if isinstance(below, dict) else {}
        return fields


def set_paths(fields: dict[str, Any], params: dict[str, Any]) -> None:
    """Set dotted paths in nested dictionaries, in place. Raises KeyError for a path that does not exist."""
    for path, value in params.items():
        *parents, leaf = path.split(".")
        section: Any = fields
        for parent in parents:
            section = section[parent]
        if not isinstance(section, dict) or leaf not in section:
            raise KeyError(path)
        section[leaf] = copy.deepcopy(value)


def with_paths(fields: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with dotted paths set: what the paths lead through is copied into dictionaries, the rest is shared.

    Raises KeyError for a path that does not exist.
    """
    copied: dict[str, dict[str, Any]] = {"": dict(fields)}

    def section(path: str) -> dict[str, Any]:
        if path not in copied:
            parent, _, name = path.rpartition(".")
            below = section(parent)[name]
            copied[path] = section(parent)[name] = dict(below) if isinstance(below, dict | BaseModel) else {}
        return copied[path]

    for path, value in params.items():
        parent, _, leaf = path.rpartition(".")
        if leaf not in section(parent):
            raise KeyError(path)
        section(parent)[leaf] = value
    return copied[""]


def dotted_paths(fields: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every dotted path of nested dictionaries, sections before what is in them."""
    found = []
    for name, value in fields.items():
        found.append(prefix + name)
        if isinstance(value, Mapping):
            found += dotted_paths(value, f"{prefix}{name}.")
    return found


def kind_section(path: str) -> str | None:
    """The section whose kind a dotted path chooses, as objective.weighting for objective.weighting.policy.

    Each kind has fields of its own: another kind cannot be put in place of one without replacing the whole section.
    """
    section, _, leaf = path.rpartition(".")
    return section if section and leaf in KIND_FIELDS else None


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the spec, for editors and clients."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ExperimentSpec.model_json_schema()}
