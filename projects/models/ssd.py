"""Single-shot detectors (Liu et al. 2016, "SSD: Single Shot MultiBox Detector") of torchvision.

``ssd300_vgg16`` is the paper's SSD300 as torchvision builds it. ``ssd_small`` is the same detector
over a small VGG-like backbone with batch normalisation, which learns from nothing on one CPU core.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD, ssd300_vgg16
from torchvision.models.vgg import VGG16_Weights
from torchvision.ops import box_iou

from actiontrack.errors import DataError, ParameterError
from projects.models.layers import init_resnet

__all__ = ["DETECTORS", "Detector", "PackedSSD", "SmallBackbone", "Weights", "build_detector"]

Weights = Literal["none", "imagenet"]


class SmallBackbone(nn.Module):
    """Feature maps at 1/8, 1/16, 1/32 and 1/64 of the image, from 3x3 convolutions.

    Each convolution is followed by batch normalisation and ReLU, each halving but the first (a
    stride) is a 2x2 max-pooling, as in VGG.

    Attributes:
        out_channels: channels of the maps, as `torchvision`'s SSD asks for.
    """

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.out_channels = [128, 256, 256, 256]
        stem = (*_conv(3, 32, stride=2), *_pooled(32, 64), *_pooled(64, 128), *_conv(128, 128))
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*stem),
                nn.Sequential(*_pooled(128, 256)),
                nn.Sequential(*_pooled(256, 256)),
                nn.Sequential(*_pooled(256, 256)),
            ]
        )
        init_resnet(self)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Compute the maps.

        Args:
            x: Images, float (B, 3, side, side), normalised.

        Returns:
            Stage number to map, float (B, out_channels, side / 8 .. side / 64, the same).
        """
        maps: OrderedDict[str, Tensor] = OrderedDict()
        for number, stage in enumerate(self.stages):
            x = stage(x)
            maps[str(number)] = x
        return maps


class PackedSSD(nn.Module):
    """torchvision's SSD on batches of images of its own size, with both heads in one tensor.

    Losses and detections are functions of the heads' outputs, whether the module is in training or
    in eval mode, where torchvision's own ``forward`` gives no losses.

    Args:
        ssd: The detector.
        mean: (3,), what was subtracted from pixel values in 0..1.
        std: (3,), what they were divided by then.
    """

    def __init__(self, ssd: SSD, *, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.ssd = ssd
        self.register_buffer("_mean", mean[:, None, None], persistent=False)
        self.register_buffer("_std", std[:, None, None], persistent=False)
        self.default_boxes = torch.empty(0, 4)  # (n_boxes, 4), known once images were seen
        self._size = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Compute both heads.

        Args:
            x: Images, float (B, 3, side, side), normalised by `mean` and `std`.

        Returns:
            float (B, n_boxes, n_classes + 1 + 4): logits, background first, then offsets.
        """
        pixels = x * self.get_buffer("_std") + self.get_buffer("_mean")
        batch = self.ssd.transform.normalize(pixels)
        features = list(self.ssd.backbone(batch).values())
        heads = self.ssd.head(features)
        self._size = (x.shape[-2], x.shape[-1])
        (self.default_boxes,) = self.ssd.anchor_generator(
            ImageList(batch[:1], [self._size]), features
        )
        return torch.cat([heads["cls_logits"], heads["bbox_regression"]], dim=-1)

    @staticmethod
    def heads(outputs: Tensor) -> dict[str, Tensor]:
        """Outputs of `forward` under torchvision's names of the heads."""
        return {"cls_logits": outputs[..., :-4], "bbox_regression": outputs[..., -4:]}

    def total(self, outputs: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
        """Compute torchvision's own loss of a batch: classification and box regression, a scalar.

        Args:
            outputs: (B, n_boxes, …) of `forward`.
            targets: ``boxes``, float32 (n, 4), left, top, right, bottom in pixels of the images
                given to `forward`, and ``labels``, int64 (n,), from 1, of each image.
        """
        count, matched = len(targets), self.match(targets)
        losses = self.ssd.compute_loss(
            targets, self.heads(outputs), [self.default_boxes] * count, matched
        )
        total: Tensor = losses["classification"] + losses["bbox_regression"]
        return total

    def match(self, targets: list[dict[str, Tensor]]) -> list[Tensor]:
        """Match default boxes to objects as the detector does in training.

        Args:
            targets: as for `total`.

        Returns:
            For each image (n_boxes,) int64: index of the object, negative for none.
        """
        none = torch.full((len(self.default_boxes),), -1, device=self.default_boxes.device)
        return [
            self.ssd.proposal_matcher(box_iou(target["boxes"], self.default_boxes))
            if len(target["boxes"])
            else none
            for target in targets
        ]

    def detections(self, outputs: Tensor) -> list[dict[str, Tensor]]:
        """Boxes after suppression of overlaps, from outputs (B, n_boxes, …) of `forward`.

        Returns:
            For each image ``boxes``, float32 (n, 4), left, top, right, bottom in pixels of the
            images given to `forward`, ``labels``, int64 (n,), from 1, and ``scores``, (n,).
        """
        count = len(outputs)
        detections: list[dict[str, Tensor]] = self.ssd.postprocess_detections(
            self.heads(outputs), [self.default_boxes] * count, [self._size] * count
        )
        return detections


def _conv(in_channels: int, out_channels: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _pooled(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    return nn.MaxPool2d(2), *_conv(in_channels, out_channels)


def _ssd300_vgg16(n_classes: int, weights: Weights) -> SSD:
    backbone = VGG16_Weights.IMAGENET1K_FEATURES if weights == "imagenet" else None
    try:
        return ssd300_vgg16(weights=None, weights_backbone=backbone, num_classes=n_classes + 1)
    except OSError as error:
        raise DataError(
            f"the weights of VGG16 can't be downloaded ({error}). Pass --weights none, or put "
            "the file into PyTorch's cache."
        ) from error


def _ssd_small(n_classes: int, weights: Weights) -> SSD:
    if weights != "none":
        raise ParameterError(
            "weights", "must be none for ssd_small", weights, "Pass --model ssd300_vgg16 for them."
        )
    boxes = DefaultBoxGenerator([[2], [2, 3], [2, 3], [2]], scales=[0.06, 0.14, 0.28, 0.56, 1.0])
    side = DETECTORS["ssd_small"].side
    return SSD(SmallBackbone(), boxes, (side, side), n_classes + 1)


@dataclass(frozen=True)
class Detector:
    """How to build a detector.

    Attributes:
        build: takes the number of classes without the background, and the weights to start from.
        side: side of the images that it works on, in pixels.
    """

    build: Callable[[int, Weights], SSD]
    side: int


DETECTORS: dict[str, Detector] = {
    "ssd_small": Detector(_ssd_small, 192),
    "ssd300_vgg16": Detector(_ssd300_vgg16, 300),
}


def build_detector(name: str, *, n_classes: int, weights: Weights = "none") -> SSD:
    """Build a detector, with fresh weights from PyTorch's global generator.

    Args:
        name: A key of `DETECTORS`.
        n_classes: Number of classes without the background.
        weights: "imagenet" downloads the backbone of ``ssd300_vgg16`` as trained for
            classification; torchvision then keeps its first layers as they are.

    Returns:
        The detector in training mode on the CPU.

    Raises:
        ParameterError: An unknown name, no class, or weights that there are not.
        DataError: The weights can't be downloaded.
    """
    if name not in DETECTORS:
        rule = f"must be one of {', '.join(DETECTORS)}"
        raise ParameterError("model", rule, name, "Pass one of these names.")
    if n_classes < 1:
        raise ParameterError("n_classes", "must be an integer >= 1", n_classes, "Check the data.")
    return DETECTORS[name].build(n_classes, weights)
