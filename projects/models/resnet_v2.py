"""ResNetV2: pre-activation bottleneck ResNet of depth 20, as Keras' ``cifar10_resnet.py``.

Source: He, Zhang, Ren and Sun 2016, "Identity Mappings in Deep Residual Networks", in the shape
of Keras' example ResNet20v2 (n = 2): three stages of two bottleneck units, 64, 128 and 256
channels wide, biases in the convolutions. The paper names its "256 dimensional vector" in 4.1.
"""

from torch import Tensor, nn

from projects.models.layers import Classifier, Size, init_resnet

__all__ = ["ResNetV2"]


def _bn_relu_conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2),
    )


class _Unit(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch norm and ReLU before each, and a shortcut.

    The first unit of a stage has a 1x1 convolution as its shortcut; the very first unit also
    leaves out the batch norm and ReLU that the stem has just done.
    """

    def __init__(
        self, in_channels: int, width: int, out_channels: int, *, stride: int, shape: str
    ) -> None:
        super().__init__()
        entry: nn.Module = nn.Conv2d(in_channels, width, 1, stride=stride)
        if shape != "first":
            entry = _bn_relu_conv(in_channels, width, 1, stride)
        self.residual = nn.Sequential(
            entry, _bn_relu_conv(width, width, 3), _bn_relu_conv(width, out_channels, 1)
        )
        self.shortcut: nn.Module = nn.Identity()
        if shape != "inner":
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.residual(x)
        return out


def _stage(in_channels: int, width: int, out_channels: int, *, first: bool) -> nn.Module:
    entry = "first" if first else "entry"
    return nn.Sequential(
        _Unit(in_channels, width, out_channels, stride=1 if first else 2, shape=entry),
        _Unit(out_channels, width, out_channels, stride=1, shape="inner"),
    )


class ResNetV2(Classifier):
    """ResNet20v2; features are 256 global averages.

    Keras averages over 8x8, which at 32x32 is the whole map; here it is always the whole map.
    Batch norm has PyTorch's momentum and epsilon (0.1, 1e-5), those of He's own code.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width in pixels; the weights do not depend on it.
        n_classes: Number of logits.
    """

    def __init__(self, *, in_channels: int, image_size: Size, n_classes: int) -> None:  # noqa: ARG002
        """Build the layers; the class documents the arguments."""
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(in_channels, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            _stage(16, 16, 64, first=True),
            _stage(64, 64, 128, first=False),
            _stage(128, 128, 256, first=False),
            nn.BatchNorm2d(256),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )  # (B, 256)
        self.head = nn.Linear(256, n_classes)
        init_resnet(self)
