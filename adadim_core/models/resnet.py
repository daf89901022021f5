"""Residual networks (He et al. 2016) without their classifier, with the ImageNet stem or the one for small images."""

from typing import Literal

from torch import Tensor, nn

_BOTTLENECK_EXPANSION = 4


class ResNet(nn.Module):
    """(N, channels, H, W) to (N, 8 * width), with bottlenecks (N, 32 * width): four stages, average pooling.

    The ImageNet stem is a 7x7 convolution of stride 2 and a max-pooling; the CIFAR stem is a 3x3 convolution of
    stride 1 and no pooling, so that 32 pixels reach the last stage as 4 and not as 1.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        blocks: tuple[int, int, int, int],
        bottleneck: bool = False,
        stem: Literal["cifar", "imagenet"] = "cifar",
    ) -> None:
        super().__init__()
        self.stem = _cifar_stem(channels, width) if stem == "cifar" else _imagenet_stem(channels, width)
        stages: list[nn.Module] = []
        channels_in = width
        for stage, count in enumerate(blocks):
            middle = width * 2**stage
            channels_out = middle * (_BOTTLENECK_EXPANSION if bottleneck else 1)
            for block in range(count):
                stride = 2 if stage and not block else 1
                residual = _bottleneck if bottleneck else _basic
                stages.append(ResidualBlock(residual(channels_in, middle, stride), channels_in, channels_out, stride))
                channels_in = channels_out
        self.stages = nn.Sequential(*stages)
        self.out_features = channels_in
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.stages(self.stem(x))
        return features.mean(dim=(2, 3))


class ResidualBlock(nn.Module):
    """A residual branch and a shortcut, which is a 1x1 convolution if the shape changes."""

    def __init__(self, residual: nn.Sequential, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(_conv1x1(channels_in, channels_out, stride), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.residual(x)
        shortcut: Tensor = self.shortcut(x)
        return (residual + shortcut).relu_()


def _basic(channels_in: int, middle: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _conv3x3(channels_in, middle, stride),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        _conv3x3(middle, middle),
        nn.BatchNorm2d(middle),
    )


def _bottleneck(channels_in: int, middle: int, stride: int) -> nn.Sequential:
    """Narrow, convolve, widen. The stride is on the 3x3 convolution, as in torchvision."""
    return nn.Sequential(
        _conv1x1(channels_in, middle),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        _conv3x3(middle, middle, stride),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        _conv1x1(middle, middle * _BOTTLENECK_EXPANSION),
        nn.BatchNorm2d(middle * _BOTTLENECK_EXPANSION),
    )


def _cifar_stem(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(_conv3x3(channels, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _imagenet_stem(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def _conv3x3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)


def _conv1x1(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)
