"""Vision transformers (Dosovitskiy et al. 2021) in the sizes of DeiT (Touvron et al. 2021), without their classifier.

Shapes: N images, T tokens (class token first), D dimensions, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from adadim_core.spec.backbones import patch_size

_MLP_RATIO = 4
_INIT_STD = 0.02
_NORM_EPSILON = 1e-6


class VisionTransformer(nn.Module):
    """(N, channels, S, S) to (N, dim): R is the class token after the last norm. Positions are learned."""

    def __init__(self, channels: int, image_size: int, *, dim: int, heads: int, depth: int) -> None:
        super().__init__()
        patch = patch_size(image_size)
        self.out_features = dim
        self.image_size = image_size
        self.patches = nn.Conv2d(channels, dim, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.zeros(1, 1 + (image_size // patch) ** 2, dim))
        self.blocks = nn.Sequential(*(TransformerBlock(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=_NORM_EPSILON)
        for parameter in (self.class_token, self.positions):
            nn.init.trunc_normal_(parameter, std=_INIT_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=_INIT_STD)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"this ViT was built for {self.image_size}x{self.image_size} pixels, not {x.shape[2]}x{x.shape[3]}"
            )
        tokens_NTD = self.patches(x).flatten(2).transpose(1, 2)
        tokens_NTD = torch.cat([self.class_token.expand(len(x), -1, -1), tokens_NTD], dim=1) + self.positions
        # The norm works on each token alone: that of the class token is all that is needed.
        r_ND: Tensor = self.norm(self.blocks(tokens_NTD)[:, 0])
        return r_ND


class TransformerBlock(nn.Module):
    """Attention and a two-layer perceptron, each after a LayerNorm and with a residual connection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_NORM_EPSILON)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=_NORM_EPSILON)
        self.mlp = nn.Sequential(nn.Linear(dim, _MLP_RATIO * dim), nn.GELU(), nn.Linear(_MLP_RATIO * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x_NTD = x + self.attention(self.norm1(x))
        out_NTD: Tensor = x_NTD + self.mlp(self.norm2(x_NTD))
        return out_NTD


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q_NHTd, k_NHTd, v_NHTd = self.qkv(x).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        mixed_NHTd = scaled_dot_product_attention(q_NHTd, k_NHTd, v_NHTd)
        out_NTD: Tensor = self.out(mixed_NHTd.transpose(1, 2).reshape(n, t, d))
        return out_NTD
