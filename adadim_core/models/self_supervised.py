"""Encoder and projector as the one module that is trained."""

from torch import Tensor, nn

from adadim_core.models.encoder import Encoder


class SelfSupervisedModel(nn.Module):
    """Maps images (N, C, H, W) to R (N, D_r) and Z (N, D_z)."""

    def __init__(self, encoder: Encoder, projector: nn.Sequential) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        r_ND: Tensor = self.encoder(images)
        z_ND: Tensor = self.projector(r_ND)
        return r_ND, z_ND
