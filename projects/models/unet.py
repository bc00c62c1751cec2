"""U-Net with a VGG encoder (section 4.3): labels for every pixel of an image.

Ronneberger et al. 2015, arXiv:1505.04597; the encoder is the convolutional part of VGG with batch
normalisation (Simonyan and Zisserman 2014, arXiv:1409.1556) as torchvision builds it. The paper
names "a U-NET architecture with a VGG backbone" and no more; the decoder is ours: nearest-neighbour
upsampling, the encoder's map of that size beside it, two 3x3 convolutions with batch
normalisation.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.vgg import VGG16_BN_Weights, cfgs, make_layers

from actiontrack.errors import DataError, ParameterError
from projects.models.layers import init_resnet

__all__ = ["UNet"]

_VGG16 = cfgs["D"]


class UNet(nn.Module):
    """Images to one logit per class and pixel.

    Args:
        n_classes: number of logits per pixel.
        width_divisor: by which the channels of VGG-16 are divided; 1 is VGG-16 itself.
        imagenet: start from torchvision's ImageNet weights of the encoder, downloading them.

    Raises:
        ParameterError: ImageNet weights for another width than VGG-16's.
        DataError: The weights can't be downloaded.
    """

    min_size: ClassVar[int] = 16  # pixels of the shorter side, which is halved four times

    def __init__(self, n_classes: int, *, width_divisor: int = 1, imagenet: bool = False) -> None:
        super().__init__()
        layout = [v if isinstance(v, str) else max(1, v // width_divisor) for v in _VGG16]
        layers = make_layers(layout, batch_norm=True)
        init_resnet(layers)
        if imagenet:
            _load_imagenet(layers, width_divisor)
        self.stages = nn.ModuleList(_split_at_poolings(layers))
        widths = [_width(stage) for stage in self.stages]
        self.decoders = nn.ModuleList(
            _double_conv(deep + skip, skip)
            for skip, deep in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], n_classes, 1)
        init_resnet(self.decoders)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits.

        Args:
            x: Images, float (B, 3, H, W), normalised; any H and W of 16 or more.

        Returns:
            Logits, float (B, n_classes, H, W).
        """
        skips: list[Tensor] = []
        for stage in self.stages:
            x = stage(x if not skips else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        for decoder, skip in zip(self.decoders, skips[-2::-1], strict=True):
            x = nn.functional.interpolate(x, size=skip.shape[2:], mode="nearest")
            x = decoder(torch.cat([x, skip], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _split_at_poolings(layers: nn.Sequential) -> list[nn.Sequential]:
    """The convolutions between the poolings; VGG's last pooling leads nowhere here."""
    stages: list[list[nn.Module]] = [[]]
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            stages.append([])
        else:
            stages[-1].append(layer)
    return [nn.Sequential(*stage) for stage in stages if stage]


def _width(stage: nn.Module) -> int:
    convolutions = [layer for layer in stage.modules() if isinstance(layer, nn.Conv2d)]
    return convolutions[-1].out_channels


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    layers = make_layers([out_channels, out_channels], batch_norm=True)
    layers[0] = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return layers  # type: ignore[no-any-return]


def _load_imagenet(layers: nn.Sequential, width_divisor: int) -> None:
    if width_divisor != 1:
        raise ParameterError(
            "encoder_weights",
            "must be none for a narrower encoder: torchvision has weights of VGG-16 itself",
            "imagenet",
            "Pass --width_divisor 1, or --encoder_weights none.",
        )
    try:
        weights = VGG16_BN_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise DataError(
            f"the ImageNet weights of VGG-16 can't be downloaded: {error}. "
            "Pass --encoder_weights none to start from random ones."
        ) from error
    prefix = "features."
    encoder = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    layers.load_state_dict(encoder)
