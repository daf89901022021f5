"""The weighting policies: settings and words of each. How alpha follows from them is in adadim_core/weighting.py."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from adadim_core.spec.base import Kind, Probability

Normalizer = Literal["min", "dim", "log", "gain"]


class AdaptiveWeighting(Kind):
    """alpha follows the effective rank of Z: alpha = clamp(ER(Z) / normaliser, floor, ceiling)."""

    title = "adaptive"
    labelled = frozenset({"normalizer", "rows"})
    policy: Literal["adaptive"] = "adaptive"
    normalizer: Annotated[
        Normalizer,
        Field(
            description="min: ER / min(N-1, D). dim: ER / D. log: log ER / log min(N-1, D). gain: what ER gained over "
            "its lowest so far, of what it could gain."
        ),
    ] = "min"
    rows: Annotated[
        int | None,
        Field(
            ge=4,
            le=65_536,
            description="Measure one rank over this many embeddings pooled from several batches (at most an epoch's), "
            "whose N is larger than a batch. Default: the mean of the ranks of `batches` batches.",
        ),
    ] = None
    batches: Annotated[
        int,
        Field(
            ge=1,
            le=1000,
            description="Batches averaged in one measurement of ER(Z); at most one for every 20 steps of an epoch.",
        ),
    ] = 4
    every_epochs: Annotated[int, Field(ge=1, description="Epochs between two measurements.")] = 1
    smoothing: Annotated[float, Field(ge=0.0, lt=1.0, description="Weight of the previous alpha in the next one.")] = (
        0.0
    )
    floor: Probability = 0.0
    ceiling: Probability = 1.0

    @model_validator(mode="after")
    def _floor_is_below_ceiling(self) -> Self:
        if self.floor > self.ceiling:
            raise ValueError(f"floor ({self.floor}) must not be above ceiling ({self.ceiling})")
        return self

    def label(self) -> str:
        said = [*([] if self.normalizer == "min" else [self.normalizer]), *([f"{self.rows} rows"] if self.rows else [])]
        return f"{self.title} ({', '.join(said)})" if said else self.title


class FixedWeighting(Kind):
    """alpha is constant."""

    title = "fixed"
    labelled = frozenset({"alpha"})
    policy: Literal["fixed"] = "fixed"
    alpha: Probability = 0.5

    def label(self) -> str:
        return f"{self.title} {self.alpha:.3g}"


class LinearWeighting(Kind):
    """alpha goes linearly from start to end over training."""

    title = "linear"
    labelled = frozenset({"start", "end"})
    policy: Literal["linear"] = "linear"
    start: Probability = 0.0
    end: Probability = 1.0

    def label(self) -> str:
        return f"{self.title} {self.start:.3g} to {self.end:.3g}"


class CosineWeighting(Kind):
    """alpha goes from start to end over training along half a cosine."""

    title = "cosine"
    labelled = frozenset({"start", "end"})
    policy: Literal["cosine"] = "cosine"
    start: Probability = 0.0
    end: Probability = 1.0

    def label(self) -> str:
        return f"{self.title} {self.start:.3g} to {self.end:.3g}"


Weighting = Annotated[
    AdaptiveWeighting | FixedWeighting | LinearWeighting | CosineWeighting, Field(discriminator="policy")
]
