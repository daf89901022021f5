"""The sections that describe one trial: data, model, training, evaluation, resources.

Every default is given where the field is declared; docs/method.md gives the reason for each.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from adadim_core.spec.backbones import BACKBONES, BackboneName
from adadim_core.spec.base import NonNegativeFloat, PositiveFloat, Probability, Section
from adadim_core.spec.datasets import DATASETS, DatasetName
from adadim_core.spec.metrics import METRICS


def warmup_of(given: int | None, epochs: int) -> int:
    """Epochs of warm-up: as given, or the default for this number of epochs."""
    return min(10, epochs // 10) if given is None else given


class AugmentationSpec(Section):
    """The two-view augmentation. A field left out takes the data set's own default."""

    crop_scale: Annotated[
        list[Annotated[float, Field(gt=0.0, le=1.0)]] | None,
        Field(
            min_length=2,
            max_length=2,
            description="Smallest and largest share of the image's area a random resized crop keeps.",
        ),
    ] = None
    flip: Annotated[Probability | None, Field(description="Probability of a horizontal flip.")] = None
    jitter: Annotated[
        Probability | None, Field(description="Strength of brightness, contrast, saturation and hue jitter.")
    ] = None
    grayscale: Annotated[Probability | None, Field(description="Probability of dropping colour.")] = None
    blur: Annotated[Probability | None, Field(description="Probability of a Gaussian blur.")] = None
    solarize: Annotated[Probability | None, Field(description="Probability of solarisation.")] = None

    @model_validator(mode="after")
    def _crop_scale_is_ordered(self) -> Self:
        if self.crop_scale is not None and self.crop_scale[0] > self.crop_scale[1]:
            raise ValueError("crop_scale must be [smallest, largest]")
        return self


class SourceSpec(Section):
    """Where images and their labels are read from."""

    dataset: Annotated[
        DatasetName,
        Field(description="digits comes with scikit-learn; every other is read from path."),
    ] = "digits"
    path: Annotated[
        str | None,
        Field(min_length=1, max_length=1000, description="File or folder of the data, as the workers see it."),
    ] = None
    bad_files: Annotated[
        Literal["fail", "skip"],
        Field(
            description="What to do about image files that cannot be decoded. skip: check all files first, leave "
            "those out and name them; more than 1 % of the files, and more than ten, still fail."
        ),
    ] = "fail"

    @model_validator(mode="after")
    def _path_where_needed(self) -> Self:
        needs_path = DATASETS[self.dataset].needs_path
        if not needs_path and self.path is not None:
            raise ValueError(f"{self.dataset} takes no path: {DATASETS[self.dataset].origin}")
        if needs_path and self.path is None:
            raise ValueError(f"{self.dataset} needs path, its file or folder")
        if self.path is not None and ".." in self.path.replace("\\", "/").split("/"):
            raise ValueError("path must not contain '..'")
        return self


class DataSpec(SourceSpec):
    """Which images to train on."""

    image_size: Annotated[
        int | None,
        Field(ge=4, le=1024, description="Side in pixels that images are resized to. Default: no resizing."),
    ] = None
    augmentation: AugmentationSpec = AugmentationSpec()


class ProjectorSpec(Section):
    """The projector that maps R to Z: linear layers with BatchNorm and ReLU between them."""

    layers: Annotated[int, Field(ge=1, le=8, description="Number of linear layers.")] = 3
    hidden: Annotated[int, Field(ge=1, le=16384, description="Width of the hidden layers.")] = 2048
    out: Annotated[int, Field(ge=2, le=16384, description="D_z, the number of dimensions of Z.")] = 2048


class ModelSpec(Section):
    """Encoder (image to R) and projector (R to Z)."""

    backbone: Annotated[
        BackboneName,
        Field(description="conv_small: three convolutions, for small images."),
    ] = "resnet18"
    width: Annotated[
        int | None,
        Field(
            ge=1,
            le=512,
            description="Channels after the first layer of a convolutional network, default 64; R has 4 times as many "
            "(conv_small), 8 times (resnet18, resnet34) or 32 times (resnet50). A ViT has a fixed width.",
        ),
    ] = None
    stem: Annotated[
        Literal["auto", "cifar", "imagenet"],
        Field(description="First layers of a ResNet. auto: cifar for images of up to 64 pixels."),
    ] = "auto"
    projector: ProjectorSpec = ProjectorSpec()

    @model_validator(mode="after")
    def _settings_fit_backbone(self) -> Self:
        backbone = BACKBONES[self.backbone]
        if not backbone.takes_width and self.width is not None:
            raise ValueError(f"{self.backbone} has a fixed width; leave width out")
        if not backbone.takes_stem and self.stem != "auto":
            raise ValueError(f"stem is for ResNets; {self.backbone} has none")
        return self


class CollapseSpec(Section):
    """The collapse watch: flags a trial whose effective rank of R falls under a share of its maximum so far."""

    share: Annotated[Probability, Field(description="Share of the maximum; 0 turns the watch off.")] = 0.25
    stop: Annotated[bool, Field(description="End the trial when it collapses.")] = False


class TrainingSpec(Section):
    """How long and how the networks are optimised."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 100
    batch_size: Annotated[int, Field(ge=4, le=65_536, description="Images per step, over all workers of a trial.")] = (
        256
    )
    optimizer: Literal["adamw", "lars", "sgd"] = "lars"
    lr: Annotated[PositiveFloat, Field(le=100.0, description="Peak learning rate.")] = 0.3
    weight_decay: Annotated[NonNegativeFloat, Field(le=10.0)] = 1e-4
    warmup_epochs: Annotated[
        int | None,
        Field(
            ge=0,
            description="Epochs of linear warm-up; a cosine to zero follows. Default: 10, at most a tenth of epochs.",
        ),
    ] = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="Arithmetic of the forward pass; auto: bfloat16 where the hardware has it."),
    ] = "auto"
    log_every_steps: Annotated[int, Field(ge=1, description="Steps between two points of losses, H(R) and I(R;Z).")] = (
        10
    )
    accumulate: Annotated[
        int,
        Field(
            ge=1,
            le=1024,
            description="Parts in which a batch is computed, to save memory; losses are of the whole batch.",
        ),
    ] = 1
    clip_norm: Annotated[
        PositiveFloat | None, Field(description="Largest norm of the gradient; larger gradients are scaled down.")
    ] = None
    compile: Annotated[
        bool | Literal["auto"],
        Field(
            description="How a step runs on a GPU. auto: replayed as one CUDA graph. true: the network through "
            "torch.compile first, on the CPU too; takes half a minute. false: neither. What fails falls back."
        ),
    ] = "auto"
    collapse: CollapseSpec = CollapseSpec()

    @property
    def warmup(self) -> int:
        """Epochs of warm-up: as given, or the default for this number of epochs."""
        return warmup_of(self.warmup_epochs, self.epochs)

    @model_validator(mode="after")
    def _warmup_is_shorter_than_training(self) -> Self:
        if self.warmup >= self.epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs}) must be smaller than epochs ({self.epochs}); set both"
            )
        return self


class EvaluationSpec(Section):
    """How well R serves to classify the held-out images."""

    every_epochs: Annotated[
        int, Field(ge=1, description="Epochs between two evaluations; the last epoch is always evaluated.")
    ] = 1
    knn_k: Annotated[int, Field(ge=1, le=10_000, description="Number of neighbours.")] = 20
    knn_temperature: Annotated[PositiveFloat, Field(le=10.0)] = 0.07
    linear_probe: Annotated[
        Literal["off", "online", "offline"],
        Field(
            description="linear_top1 by a linear classifier on R. online: trained beside the encoder on detached R. "
            "offline: fitted to convergence after the last epoch."
        ),
    ] = "off"
    few_labels: Annotated[
        bool,
        Field(description="few_labels_1 and few_labels_10: the offline probe fitted on 1 % and on 10 % of the labels."),
    ] = False
    transfer: Annotated[
        SourceSpec | None,
        Field(
            description="A second data set, each image with one label, on which R is judged after the last epoch: "
            "transfer_knn_top1 and transfer_linear_top1."
        ),
    ] = None

    def lacking(self, metric: str) -> str | None:
        """The setting without which a metric is not measured, in words; None: it is measured."""
        match METRICS[metric].asked_by:
            case "linear_probe" if self.linear_probe == "off":
                return "evaluation.linear_probe: online or offline"
            case "few_labels" if not self.few_labels:
                return "evaluation.few_labels: true"
            case "transfer" if self.transfer is None:
                return "evaluation.transfer, a second data set"
        return None

    def known_at_the_end(self, metric: str) -> bool:
        """Whether a metric is measured after the last epoch only."""
        asked_by = METRICS[metric].asked_by
        return METRICS[metric].at_the_end or (asked_by == "linear_probe" and self.linear_probe == "offline")


class ResourcesSpec(Section):
    """The resources of one trial."""

    workers: Annotated[
        int, Field(ge=1, le=1024, description="Processes per trial; with more than one it trains with DDP.")
    ] = 1
    cpus_per_worker: Annotated[int, Field(ge=1, le=1024)] = 1
    gpus_per_worker: Annotated[
        Annotated[float, Field(ge=0.0, le=64.0)] | Literal["auto"],
        Field(description="auto: one if the cluster has any. A fraction lets trials share a GPU."),
    ] = "auto"
    max_concurrent_trials: Annotated[
        int | None, Field(ge=1, le=10_000, description="Default: as many as fit on the cluster.")
    ] = None
    max_failures: Annotated[
        int,
        Field(ge=0, le=100, description="How often a trial that fails continues from its last checkpoint."),
    ] = 0

    @model_validator(mode="after")
    def _whole_gpus_above_one(self) -> Self:
        if self.gpus_per_worker != "auto" and self.gpus_per_worker > 1 and self.gpus_per_worker % 1:
            raise ValueError(f"gpus_per_worker ({self.gpus_per_worker}) must be a whole number above 1")
        return self
