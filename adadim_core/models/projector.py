"""The projector, R to Z: linear layers with BatchNorm and ReLU between them, the last one plain."""

from torch import nn

from adadim_core.spec.sections import ProjectorSpec


def build_projector(spec: ProjectorSpec, features: int) -> nn.Sequential:
    """(N, features) to (N, spec.out)."""
    layers: list[nn.Module] = []
    for _ in range(spec.layers - 1):
        # A bias would be taken out again by the BatchNorm behind it.
        layers += [nn.Linear(features, spec.hidden, bias=False), nn.BatchNorm1d(spec.hidden), nn.ReLU(inplace=True)]
        features = spec.hidden
    return nn.Sequential(*layers, nn.Linear(features, spec.out, bias=False))
