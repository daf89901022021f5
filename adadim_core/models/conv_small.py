"""A small convolutional network for small images: three 3x3 convolutions, average pooling. D_r = 4 * width."""

from torch import Tensor, nn


class ConvSmall(nn.Module):
    """(N, channels, H, W) to (N, 4 * width). Channels double and the sides halve twice."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.out_features = 4 * width
        self.layers = nn.Sequential(
            *_layer(channels, width, stride=1),
            *_layer(width, 2 * width, stride=2),
            *_layer(2 * width, 4 * width, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features.mean(dim=(2, 3))


def _layer(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
