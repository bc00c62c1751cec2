"""Xception-Mini: mini-Xception of Arriaga, Valdenegro-Toro and Plöger 2017.

Source: "Real-time Convolutional Neural Networks for Emotion and Gender Classification",
arXiv:1710.07557, figure 4, in the shape of the authors' public code (``mini_XCEPTION``): two
3x3 convolutions without padding, four residual blocks of depthwise-separable convolutions,
a 3x3 convolution to the classes and global average pooling; no dense layer.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from projects.models.layers import Classifier, Size, init_keras

__all__ = ["XceptionMini"]

WIDTHS = (8, 16, 32, 64, 128)  # the stem and the four blocks


def _conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, bias=False)
    return [conv, nn.BatchNorm2d(out_channels)]


def _separable_bn(in_channels: int, out_channels: int) -> list[nn.Module]:
    depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
    return [depthwise, *_conv_bn(in_channels, out_channels, 1)]


def _same_pool(size: Size, stride: int) -> nn.Module:
    """Build a 3x3 max-pooling with the windows of Keras' ``same`` padding, even sizes included."""
    if stride == 1:
        return nn.MaxPool2d(3, stride=1, padding=1)
    return nn.MaxPool2d(3, stride=2, padding=(size[0] % 2, size[1] % 2), ceil_mode=True)


class _Block(nn.Module):
    """Two separable convolutions and a pooling beside a strided 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, *, size: Size, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_separable_bn(in_channels, out_channels),
            nn.ReLU(inplace=True),
            *_separable_bn(out_channels, out_channels),
            _same_pool(size, stride),
        )
        self.shortcut = nn.Sequential(*_conv_bn(in_channels, out_channels, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.residual(x)
        return out


def _blocks(size: Size) -> list[nn.Module]:
    """Halve at each block, rounding up, while the map stays at least 2x2."""
    blocks: list[nn.Module] = []
    for in_channels, out_channels in pairwise(WIDTHS):
        stride = 2 if min(size) > 2 else 1
        blocks.append(_Block(in_channels, out_channels, size=size, stride=stride))
        size = -(-size[0] // stride), -(-size[1] // stride)
    return blocks


class XceptionMini(Classifier):
    """Mini-Xception; features are the 128 global averages before the last convolution.

    A block halves the map only while it stays at least 2x2: from 21 pixels on this is the
    published network; below, batch norm would meet a single value in a batch of one image.
    Batch norm has PyTorch's momentum and epsilon.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width in pixels, both at least 8.
        n_classes: Number of logits.
    """

    def __init__(self, *, in_channels: int, image_size: Size, n_classes: int) -> None:
        """Build the layers; the class documents the arguments."""
        super().__init__()
        self.trunk = nn.Sequential(
            *(*_conv_bn(in_channels, 8, 3), nn.ReLU(inplace=True)),
            *(*_conv_bn(8, 8, 3), nn.ReLU(inplace=True)),
            *_blocks((image_size[0] - 4, image_size[1] - 4)),
        )  # (B, 128, h, w)
        self.head = nn.Conv2d(128, n_classes, 3, padding=1)
        init_keras(self)

    def features(self, x: Tensor) -> Tensor:
        """Average the last map: float (B, C, H, W) to (B, 128)."""
        return torch.mean(self.trunk(x), dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the last map and average: float (B, C, H, W) to logits (B, n_classes)."""
        return torch.mean(self.head(self.trunk(x)), dim=(2, 3))
