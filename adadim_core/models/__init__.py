"""Networks: encoders (image to R) and projectors (R to Z). Architecture only, no training."""

from adadim_core.models.encoder import Encoder, EncoderConfig, build_encoder, register_backbone
from adadim_core.models.projector import build_projector
from adadim_core.models.self_supervised import SelfSupervisedModel

__all__ = [
    "Encoder",
    "EncoderConfig",
    "SelfSupervisedModel",
    "build_encoder",
    "build_projector",
    "register_backbone",
]
