"""Reports of a worker: points, trial states, heartbeat and outcome of one attempt.

The wire contract between workers and service (POST /api/v1/attempts/{id}/reports), in its JSON form;
report_binary.py has the binary one. A report is idempotent: delivered twice it means the same as once.
"""

import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    FiniteFloat,
    JsonValue,
    PlainSerializer,
    model_validator,
)

from adadim_core.spec.metrics import METRICS

MAX_POINTS_PER_REPORT = 50_000
MAX_TRIALS_PER_REPORT = 1_000
MAX_METRICS_PER_SERIES = len(METRICS) + 48
MAX_STEP, MAX_TRIAL_NUMBER, MAX_EPOCH = 2**62, 2**31 - 1, 1e9

TrialState = Literal["pending", "running", "succeeded", "failed", "stopped", "interrupted"]
OutcomeState = Literal["succeeded", "failed", "interrupted"]


def encode_float(value: float | None) -> float | str | None:
    """JSON has no NaN and no infinities: they travel as the strings "NaN", "Infinity" and "-Infinity"."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def decode_float(value: Any) -> Any:
    """The reverse of `encode_float`; anything else is left for pydantic to judge."""
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


JsonFloat = Annotated[
    float, BeforeValidator(decode_float), PlainSerializer(encode_float, return_type=float | str, when_used="json")
]


def _storable(value: Any) -> Any:
    """Replaces characters that PostgreSQL cannot store in a text: an error message must not be refused."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _bounded(value: Any, limit: int) -> Any:
    """Values are small and plain: what no spec may contain no report may put into one."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("should have no half of a surrogate pair") from None
    except (TypeError, ValueError, RecursionError):
        raise ValueError("should be JSON without NaN and infinities") from None
    if len(text) > limit or "\\u0000" in text.replace("\\\\", ""):  # a backslash before u0000 is no NUL
        raise ValueError(f"should have at most {limit} characters, none of them NUL")
    return value


def _params(value: Any) -> Any:
    return _bounded(value, _MAX_PARAMS)


def _facts(value: Any) -> Any:
    return _bounded(value, _MAX_FACTS)


_MAX_PARAMS = 16_384
_MAX_FACTS = 131_072
ReasonText = Annotated[str, BeforeValidator(_storable), Field(max_length=1_000)]
Waiting = Annotated[
    ReasonText | None,
    Field(description="What the attempt waits for, for people; empty: nothing any more; null says nothing."),
]
_ErrorText = Annotated[str, BeforeValidator(_storable), Field(max_length=20_000)]
_Epochs = Annotated[int, Field(ge=0, le=2**31 - 1)]
DataFacts = Annotated[
    dict[Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")], Annotated[dict[str, JsonValue], BeforeValidator(_facts)]],
    Field(max_length=32, description="What was read of each data set the trials train on, by a name of its place."),
]
METRIC_NAME = r"^[a-z][a-z0-9_]{0,63}$"
MetricName = Annotated[str, Field(pattern=METRIC_NAME)]
TrialNumber = Annotated[int, Field(ge=0, le=MAX_TRIAL_NUMBER, description="The trial's number within its experiment.")]
# A hostile report is refused at its first mistake, not after listing millions of them.
_Values = Annotated[list[JsonFloat | None], Field(max_length=MAX_POINTS_PER_REPORT), FailFast()]
_Step = Annotated[int, Field(ge=0, le=MAX_STEP)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Series(_Message):
    """Points of one trial in columns: `values[m][k]` is metric m at `steps[k]`; None where m was not measured."""

    trial: TrialNumber
    steps: Annotated[list[_Step], Field(min_length=1, max_length=MAX_POINTS_PER_REPORT), FailFast()]
    epochs: Annotated[
        list[Annotated[JsonFloat, Field(ge=0, le=MAX_EPOCH)]],
        Field(max_length=MAX_POINTS_PER_REPORT, description="Epochs done at each step, with the fraction under way."),
        FailFast(),
    ]
    times: Annotated[
        list[FiniteFloat],
        Field(max_length=MAX_POINTS_PER_REPORT, description="Unix time of each step, in seconds."),
        FailFast(),
    ]
    values: Annotated[dict[MetricName, _Values], Field(min_length=1, max_length=MAX_METRICS_PER_SERIES)]

    @model_validator(mode="after")
    def _columns_have_one_length(self) -> Self:
        n = len(self.steps)
        lengths = {"epochs": len(self.epochs), "times": len(self.times)} | {k: len(v) for k, v in self.values.items()}
        for name, length in lengths.items():
            if length != n:
                raise ValueError(f"{name} has {length} entries, steps has {n}")
        return self

    @property
    def point_count(self) -> int:
        """Number of measured values."""
        return sum(value is not None for column in self.values.values() for value in column)


class TrialUpdate(_Message):
    """The state of one trial as its worker sees it. A later update replaces an earlier one."""

    number: Annotated[int, Field(ge=0, le=2**31 - 1)]
    state: TrialState
    epoch: Annotated[_Epochs, Field(description="Epochs completed.")] = 0
    epochs: Annotated[_Epochs, Field(description="Epochs the trial will run.")] = 0
    error: _ErrorText | None = None
    reason: Annotated[
        ReasonText | None,
        Field(description="Why it is in this state, where that is not plain: who stopped it, and when."),
    ] = None
    params: Annotated[
        dict[str, JsonValue] | None,
        Field(max_length=32, description="Its values, where they were chosen or changed by the worker: TPE and PBT."),
        BeforeValidator(_params),
    ] = None


class Outcome(_Message):
    """How the attempt ended, said by the worker itself."""

    state: OutcomeState
    error: _ErrorText | None = None


class Report(_Message):
    """One delivery. An empty report is a heartbeat."""

    data: DataFacts = {}
    trials: Annotated[list[TrialUpdate], Field(max_length=MAX_TRIALS_PER_REPORT)] = []
    series: Annotated[list[Series], Field(max_length=MAX_TRIALS_PER_REPORT)] = []
    outcome: Outcome | None = None
    waiting: Waiting = None

    @model_validator(mode="after")
    def _points_are_bounded(self) -> Self:
        total = sum(series.point_count for series in self.series)
        if total > MAX_POINTS_PER_REPORT:
            raise ValueError(f"{total} points in one report; at most {MAX_POINTS_PER_REPORT} are allowed")
        return self


class ReportReply(BaseModel):
    """The service's answer: what the worker should do next."""

    directive: Annotated[
        Literal["continue", "stop"], Field(description="stop: save a checkpoint, report `interrupted` and end.")
    ] = "continue"
