"""The AdaDim method: losses, information estimators, weighting, models, data, trainer, evaluation.

Knows nothing of Ray, HTTP or databases. Names load on first use, so that importing `adadim_core.spec`
(which the service does) never imports torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adadim_core.augmentation import Augmentation, augment
    from adadim_core.checkpoint import CheckpointError
    from adadim_core.data import DataError, ImageDataset, load_dataset
    from adadim_core.evaluation import embed, knn_accuracy
    from adadim_core.export import load_encoder, save_encoder
    from adadim_core.information import alignment, effective_rank, matrix_entropy, mutual_information, uniformity
    from adadim_core.losses import (
        barlow_twins_loss,
        covariance_term,
        invariance_term,
        nt_xent_loss,
        variance_term,
        vicreg_loss,
        vicreg_terms,
    )
    from adadim_core.models import Encoder, EncoderConfig, build_encoder, build_projector, register_backbone
    from adadim_core.probe import linear_probe_accuracy
    from adadim_core.reports import ReportFn
    from adadim_core.spec import ExperimentSpec, parse_spec, validate_spec
    from adadim_core.trainer import Trainer
    from adadim_core.weighting import AlphaPolicy, alpha_from_rank, weights_at

__all__ = [
    "AlphaPolicy",
    "Augmentation",
    "CheckpointError",
    "DataError",
    "Encoder",
    "EncoderConfig",
    "ExperimentSpec",
    "ImageDataset",
    "ReportFn",
    "Trainer",
    "alignment",
    "alpha_from_rank",
    "augment",
    "barlow_twins_loss",
    "build_encoder",
    "build_projector",
    "covariance_term",
    "effective_rank",
    "embed",
    "invariance_term",
    "knn_accuracy",
    "linear_probe_accuracy",
    "load_dataset",
    "load_encoder",
    "matrix_entropy",
    "mutual_information",
    "nt_xent_loss",
    "parse_spec",
    "register_backbone",
    "save_encoder",
    "uniformity",
    "validate_spec",
    "variance_term",
    "vicreg_loss",
    "vicreg_terms",
    "weights_at",
]

_HOME = {
    name: module
    for module, names in {
        "augmentation": ["Augmentation", "augment"],
        "checkpoint": ["CheckpointError"],
        "data": ["DataError", "ImageDataset", "load_dataset"],
        "evaluation": ["embed", "knn_accuracy"],
        "export": ["load_encoder", "save_encoder"],
        "information": ["alignment", "effective_rank", "matrix_entropy", "mutual_information", "uniformity"],
        "losses": [
            "barlow_twins_loss",
            "covariance_term",
            "invariance_term",
            "nt_xent_loss",
            "variance_term",
            "vicreg_loss",
            "vicreg_terms",
        ],
        "models": ["Encoder", "EncoderConfig", "build_encoder", "build_projector", "register_backbone"],
        "probe": ["linear_probe_accuracy"],
        "reports": ["ReportFn"],
        "spec": ["ExperimentSpec", "parse_spec", "validate_spec"],
        "trainer": ["Trainer"],
        "weighting": ["AlphaPolicy", "alpha_from_rank", "weights_at"],
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
