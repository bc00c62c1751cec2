"""SpeedNet: a small convolutional network that learns CIFAR-10 in minutes of one CPU core.

What it is made of, from the records of training speed on CIFAR-10, in code of our own:

- three stages of two 3x3 convolutions behind a first layer that decorrelates 2x2 patches, with
  fixed weights from the eigenvectors of the patches' covariance; logits scaled down: Page 2019,
  "How to train your ResNet", and tysam-code's hlb-CIFAR10;
- each pattern of the first layer beside its negative, GELU, pooling before the batch norm, batch
  norms without a scale of their own, convolutions that start as the identity, biases that learn
  faster than weights: Jordan 2024, "94 % on CIFAR-10 in 3.29 seconds on a single GPU"
  (arXiv 2404.00498).

`projects.params.recipes` has the settings it is trained with.
"""

import torch
from torch import Tensor, nn

from projects.models.layers import Classifier, Size

__all__ = ["SpeedNet"]

_LOGIT_SCALE = 1 / 9
_MOMENTUM = 0.4  # few and large steps: statistics of the last batches only
_RIDGE = 5e-4  # added to the variances of the patches


class SpeedNet(Classifier):
    """A first layer for 2x2 patches and three stages of two 3x3 convolutions; global maximum.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width in pixels, both at least 8; a stage halves the map only while
            it stays 2x2.
        n_classes: Number of logits.
        width: Channels of the first stage; the others have 4 and 8 times as many.
    """

    fitted_images = 5_000

    def __init__(
        self, *, in_channels: int, image_size: Size, n_classes: int, width: int = 32
    ) -> None:
        """Build the layers; the class documents the arguments."""
        super().__init__()
        self._patches = (patches := _Patches(in_channels),)  # in a tuple: the trunk's own
        channels, side = patches.out_channels, min(image_size) - 1
        stages: list[nn.Module] = []
        for stage_width in (width, 4 * width, 8 * width):
            pool = side >= 4
            stages.append(_stage(channels, stage_width, pool=pool))
            channels, side = stage_width, side >> pool
        self.trunk = nn.Sequential(patches, nn.GELU(), *stages, _GlobalMaximum())
        self.head = nn.Sequential(nn.Linear(channels, n_classes, bias=False), _Scaled(_LOGIT_SCALE))

    def fit_input(self, images: Tensor) -> None:
        """Set the first layer by the patches of the images."""
        self._patches[0].fit(images)


class _Patches(nn.Module):
    """2x2 convolution whose fixed filters give uncorrelated outputs of variance 1, and negatives.

    Without `fit` the filters are the pixels themselves.
    """

    weight: Tensor

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        n_pixels = 4 * in_channels
        self.out_channels = 2 * n_pixels
        self.register_buffer("weight", torch.empty(self.out_channels, in_channels, 2, 2))
        self.bias = nn.Parameter(torch.zeros(self.out_channels))
        self._set(torch.eye(n_pixels))

    def _set(self, filters: Tensor) -> None:
        """Filters, one in each row, of the pixels of a patch."""
        both = torch.cat((filters, -filters)).reshape(self.weight.shape)
        self.weight.copy_(both)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Take the eigenvectors of the covariance of the patches of images, (N, C, H, W)."""
        products = [_products(part) for part in torch.split(images, 500)]
        covariance = torch.stack(products).sum(dim=0) / _count(images)
        variances, directions = torch.linalg.eigh(covariance)
        scaled = directions / torch.sqrt(variances.clamp(min=0) + _RIDGE)
        self._set(scaled.T.to(self.weight))

    def forward(self, images: Tensor) -> Tensor:
        """Outputs (B, 8 C, H - 1, W - 1)."""
        return nn.functional.conv2d(images, self.weight, self.bias)


def _products(images: Tensor) -> Tensor:
    """Sum over the 2x2 patches of images of the products of their pixels, float64."""
    columns = nn.functional.unfold(images.contiguous(), 2).transpose(0, 1).flatten(1).double()
    return columns @ columns.T


def _count(images: Tensor) -> int:
    """Number of 2x2 patches."""
    return len(images) * (images.shape[2] - 1) * (images.shape[3] - 1)


class _GlobalMaximum(nn.Module):
    """Maximum of each channel over the map."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.amax(dim=(2, 3))


class _Scaled(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self._factor = factor

    def forward(self, values: Tensor) -> Tensor:
        return values * self._factor


class _ShiftNorm(nn.BatchNorm2d):
    """Batch norm that learns a shift and no scale."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=_MOMENTUM)
        ones = self.weight.detach()
        del self.weight
        self.register_buffer("weight", ones)


def _stage(in_channels: int, width: int, *, pool: bool) -> nn.Module:
    return nn.Sequential(
        _convolution(in_channels, width),
        nn.MaxPool2d(2) if pool else nn.Identity(),
        *(_ShiftNorm(width), nn.GELU()),
        _convolution(width, width),
        *(_ShiftNorm(width), nn.GELU()),
    )


def _convolution(in_channels: int, width: int) -> nn.Module:
    """3x3 convolution whose first outputs start as copies of its inputs."""
    convolution = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
    copied = min(in_channels, width)
    nn.init.dirac_(convolution.weight[:copied])
    return convolution
