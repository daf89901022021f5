"""Adding a kind takes at most two product files: a copy of the product gets one more of each, and uses them all.

The anchors are the tables that docs/contributing.md names in its recipes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

Edits = dict[str, list[tuple[str, str]]]
"""File to (anchor, what stands in its place)."""

RECIPES: dict[str, Edits] = {
    "dimension loss": {
        "adadim_core/spec/losses.py": [
            ("DimensionLoss = Annotated[VICReg", "DimensionLoss = Annotated[Spread | VICReg"),
            (
                "DimensionLoss = ",
                """class Spread(Kind):
    "Standard deviations pulled up to one."

    title = "Spread"
    name: Literal["spread"] = "spread"
    target: PositiveFloat = 1.0


DimensionLoss = """,
            ),
        ],
        "adadim_core/losses.py": [
            ("import BarlowTwins, ", "import BarlowTwins, Spread, "),
            (
                "        case BarlowTwins(",
                """        case Spread(target=target):
            return LossValue(variance_term(z1, target=target) + variance_term(z2, target=target))
        case BarlowTwins(""",
            ),
        ],
    },
    "sample loss": {
        "adadim_core/spec/losses.py": [
            (
                "def _nt_xent_by_default",
                """class Nearness(Kind):
    "The two views close to each other."

    title = "Nearness"
    name: Literal["nearness"] = "nearness"


def _nt_xent_by_default""",
            ),
            (
                "SampleLoss = Annotated[NTXent,",
                'SampleLoss = Annotated[NTXent | Nearness, Field(discriminator="name"),',
            ),
        ],
        "adadim_core/losses.py": [
            ("import BarlowTwins, ", "import BarlowTwins, Nearness, "),
            (
                "        case NTXent(",
                """        case Nearness():
            return LossValue(invariance_term(z1, z2))
        case NTXent(""",
            ),
        ],
    },
    "weighting policy": {
        "adadim_core/spec/weightings.py": [
            ("    AdaptiveWeighting | ", "    StepWeighting | AdaptiveWeighting | "),
            (
                "Weighting = Annotated",
                """class StepWeighting(Kind):
    "alpha is 0, and 1 from a share of training on."

    title = "step"
    labelled = frozenset({"at"})
    policy: Literal["step"] = "step"
    at: Probability = 0.5

    def label(self) -> str:
        return f"{self.title} at {self.at:.3g}"


Weighting = Annotated""",
            ),
        ],
        "adadim_core/weighting.py": [
            ("    LinearWeighting,\n", "    LinearWeighting,\n    StepWeighting,\n"),
            (
                "            case FixedWeighting(",
                """            case StepWeighting(at=at):
                return float(progress >= at)
            case FixedWeighting(""",
            ),
        ],
    },
    "data set": {
        "adadim_core/spec/datasets.py": [
            (
                "_TABLE = (",
                """_TABLE = (
    Dataset(name="few", title="a few digits", origin="from scikit-learn", needs_path=False, train_images=359),""",
            ),
        ],
        "adadim_core/data/registry.py": [
            ("\nimport os\n", "\nimport dataclasses\nimport os\n"),
            (
                "_LOADERS: dict[str, Loader] = {",
                """def _few(_path: Path, image_size: int | None) -> RawDataset:
    digits = load_digits(image_size)
    return dataclasses.replace(digits, name="few", train=digits.test)


_LOADERS: dict[str, Loader] = {
    "few": _few,""",
            ),
        ],
    },
    "backbone": {
        "adadim_core/spec/backbones.py": [
            ("_TABLE = (", """_TABLE = (\n    Backbone(name="flat", title="pixels as they are", takes_width=False),"""),
        ],
        "adadim_core/models/encoder.py": [
            (
                "_BACKBONES: dict[str, BackboneFactory] = {",
                """_BACKBONES: dict[str, BackboneFactory] = {
    "flat": lambda c: nn.Sequential(nn.Flatten(), nn.Linear(c.channels * c.image_size**2, 8)),""",
            ),
        ],
    },
    "metric": {
        "adadim_core/spec/metrics.py": [
            (
                "_TABLE = (",
                """_TABLE = (
    Metric(name="mass_z", title="Mass of Z", description="mean squared length of centred Z", ranks=True),""",
            ),
        ],
        "adadim_core/information.py": [
            ('        "erank_r": ', '        "mass_z": batch.z.gram.diagonal().mean(),\n        "erank_r": '),
        ],
    },
    "search algorithm": {
        "adadim_core/spec/algorithms.py": [
            (
                "_TABLE = (",
                """def _middle(space: Mapping[str, Any], _seed: int) -> Iterator[dict[str, Any]]:
    while True:
        yield assign(space, lambda _, distribution: distribution.at(0.5))


_TABLE = (
    Algorithm(name="middle", title="middle", description="the middle of the space", assignments=_middle),""",
            ),
        ],
    },
    "search algorithm that learns": {
        "adadim_core/spec/algorithms.py": [
            (
                "_TABLE = (",
                """_TABLE = (
    Algorithm(name="unlearned", title="unlearned", description="by Optuna", assignments=_open, learns=True),""",
            ),
        ],
        "workers/sweep/tpe.py": [
            (
                '    "tpe": lambda seed',
                '    "unlearned": lambda seed, _: optuna.samplers.RandomSampler(seed),\n    "tpe": lambda seed',
            ),
        ],
    },
    "scheduler": {
        "adadim_core/spec/scheduler.py": [
            ("Scheduler = Annotated[NoScheduler", "Scheduler = Annotated[StopAt | NoScheduler"),
            (
                "Scheduler = Annotated[",
                """class StopAt(SchedulerKind):
    "Stops every trial at one epoch."

    title = "stop at"
    name: Literal["stop_at"] = "stop_at"
    epoch: Annotated[int, Field(ge=1)] = 1

    def check_experiment(self, spec: "ExperimentSpec") -> None:
        if self.epoch > spec.epochs:
            raise ValueError("search.scheduler.epoch is after the last epoch")


Scheduler = Annotated[""",
            ),
        ],
        "workers/sweep/judges.py": [
            ("import Asha, ", "import StopAt, Asha, "),
            (
                "        case Asha(",
                """        case StopAt(epoch=epoch):
            return StopAtJudge(epoch)
        case Asha(""",
            ),
            (
                "class AshaJudge:",
                """class StopAtJudge:
    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def observe(self, number: int, epoch: int, value: float) -> Behind | None:
        return Behind(value, 1) if epoch >= self._epoch else None


class AshaJudge:""",
            ),
        ],
    },
    "preset": {
        "adadim_core/spec/presets.py": [
            (
                "_TABLE = (\n",
                """_TABLE = (
    Preset(name="short", description="an epoch", values={"training": {"epochs": 1}}),
""",
            ),
        ],
    },
}

USES_ALL = """
import json

from adadim_core import Trainer
from adadim_core.spec import SpecError, json_schema, plan_trials, trial_label, validate_spec
from adadim_core.spec.metrics import METRICS
from workers.sweep.judges import make_judge
from workers.sweep.tpe import Tpe

document = {
    "name": "every kind",
    "data": {"dataset": "few"},
    "model": {"backbone": "flat", "projector": {"layers": 1, "hidden": 8, "out": 4}},
    "objective": {
        "dimension_loss": {"name": "spread"},
        "sample_loss": {"name": "nearness"},
        "weighting": {"policy": "step"},
    },
    "training": {"epochs": 2, "batch_size": 32, "optimizer": "sgd", "lr": 0.01, "log_every_steps": 1},
    "search": {
        "algorithm": "middle",
        "trials": 1,
        "metric": "mass_z",
        "scheduler": {"name": "stop_at", "epoch": 2},
        "space": {
            "objective.dimension_loss": {"choice": [{"name": "vicreg"}, {"name": "spread", "target": 2.0}]},
            "objective.weighting.at": {"uniform": [0.0, 1.0]},
            "model.backbone": {"choice": ["conv_small", "flat"]},
            "data.dataset": {"choice": ["digits", "few"]},
        },
    },
}
spec = validate_spec(document)
unnamed = validate_spec({"name": "stored before", "objective": {"sample_loss": {"temperature": 0.5}}})
short = validate_spec({"name": "filled in", "preset": "short"})
[plan] = plan_trials(spec)
points = []
Trainer(spec.with_params(plan.params), report=lambda *point: points.append(point)).fit()
judge = make_judge(spec, "max", {0: 0})
learned = validate_spec(document | {"search": document["search"] | {"algorithm": "unlearned"}})
try:
    validate_spec(document | {"search": document["search"] | {"scheduler": {"name": "stop_at", "epoch": 3}}})
    refused = None
except SpecError as error:
    refused = str(error)
print(
    json.dumps(
        {
            "unnamed": unnamed.objective.sample_loss.name,
            "filled_in": [short.from_preset, short.training.epochs],
            "label": trial_label(spec, plan.params),
            "alphas": sorted({values["alpha"] for _, _, values in points if "alpha" in values}),
            "measured": sorted({name for _, _, values in points for name in values} & {"mass_z", "loss"}),
            "title": METRICS["mass_z"].title,
            "behind": [judge.observe(0, epoch, 1.0) is not None for epoch in (1, 2)],
            "open": [plan.params for plan in plan_trials(learned)],
            "chosen": sorted(Tpe(learned.search).start(0, {})),
            "refused": refused,
            "schema": json_schema()["$defs"]["SearchSpec"]["properties"]["algorithm"]["enum"],
        }
    )
)
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages that know kinds, to be changed freely."""
    for package in ("adadim_core", "workers"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def apply(edits: Edits, root: Path) -> None:
    for name, replacements in edits.items():
        text = (root / name).read_text()
        for anchor, replacement in replacements:
            assert anchor in text, f"{name} has no {anchor!r} any more: correct the recipe here and in the docs"
            text = text.replace(anchor, replacement, 1)
        (root / name).write_text(text)


@pytest.mark.slow
def test_each_kind_is_added_in_at_most_two_files_and_works_everywhere(copy: Path) -> None:
    for kind, edits in RECIPES.items():
        assert len(edits) <= 2, kind
        apply(edits, copy)
    run = subprocess.run(
        [sys.executable, "-c", USES_ALL],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["label"] == "step at 0.5, a few digits, pixels as they are, Spread (target=2)"
    assert found["unnamed"] == "nt_xent"
    assert found["filled_in"] == ["short", 1]
    assert found["alphas"] == [0.0, 1.0]
    assert found["measured"] == ["loss", "mass_z"]
    assert found["title"] == "Mass of Z"
    assert found["behind"] == [False, True]
    assert found["open"] == [{}]
    assert found["chosen"] == ["data.dataset", "model.backbone", "objective.dimension_loss", "objective.weighting.at"]
    assert found["refused"] == "spec: search.scheduler.epoch is after the last epoch"
    assert found["schema"] == ["unlearned", "middle", "grid", "random", "quasi_random", "tpe"]


def test_the_recipes_of_the_docs_name_these_files() -> None:
    recipes = (ROOT / "docs" / "contributing.md").read_text()
    for edits in RECIPES.values():
        for file in edits:
            assert f"`{file.removeprefix('adadim_core/')}`" in recipes


def test_a_kind_whose_behaviour_was_forgotten_is_a_type_error(copy: Path) -> None:
    pytest.importorskip("mypy")
    spec_half = {"adadim_core/spec/weightings.py": RECIPES["weighting policy"]["adadim_core/spec/weightings.py"]}
    apply(spec_half, copy)
    # Reading all of pydantic takes half a minute; what matters here is that sections are classes.
    (copy / "pydantic.pyi").write_text(
        "from typing import Any\nclass BaseModel: ...\ndef __getattr__(name: str) -> Any: ...\n"
    )
    files = ["adadim_core/weighting.py", "adadim_core/spec/weightings.py", "adadim_core/spec/base.py", "pydantic.pyi"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=skip", "--cache-dir", str(copy / "cache"), *files],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=220,
    )
    [error] = [line for line in run.stdout.splitlines() if "StepWeighting" in line]
    assert 'expected "Never"' in error
