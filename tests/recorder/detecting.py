"""What the tests of detectors share: small images with boxes, and torchvision's detectors, tiny.

All but SSDlite stand on the smallest MobileNet with a feature pyramid, so that they are built and
computed in a moment. Their norms have seen images: with the statistics that they are built with,
features vanish in evaluation mode, and all outputs are alike.
"""

import torch
from torch import nn
from torch.utils.data import Dataset
from torchvision.models.detection import (
    FCOS,
    FasterRCNN,
    KeypointRCNN,
    MaskRCNN,
    RetinaNet,
    ssdlite320_mobilenet_v3_large,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

SIZES = ((80, 120), (100, 90), (64, 64))  # height, width
NAMES = ("background", "round", "square")
FAMILIES = ("faster_rcnn", "retinanet", "fcos", "ssd", "mask_rcnn", "keypoint_rcnn")
_LEVELS = ("0", "1", "pool")


def detector(family, **options):
    """A detector of three classes with random weights of a fixed seed, in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _build(family, options)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            model(*Pictures(3).batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return model


def _build(family, options):
    if family == "ssd":
        return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    backbone = mobilenet_backbone(
        backbone_name="mobilenet_v3_small", weights=None, fpn=True, norm_layer=nn.BatchNorm2d
    )
    sizes = {"min_size": (64, 96), "max_size": 160} | options
    if family in {"retinanet", "fcos"}:
        kind, of_level = {"retinanet": (RetinaNet, (16, 24)), "fcos": (FCOS, (16,))}[family]
        ratios = ((0.5, 1.0),) if family == "retinanet" else ((1.0,),)
        anchors = AnchorGenerator(
            tuple(tuple(side << level for side in of_level) for level in range(3)), ratios * 3
        )
        return kind(backbone, num_classes=3, anchor_generator=anchors, **sizes)
    heads = {
        "rpn_anchor_generator": AnchorGenerator(((16, 32),) * 3, ((0.5, 1.0),) * 3),
        "box_roi_pool": _pool(7),
        "box_head": TwoMLPHead(256 * 49, 32),
        "box_predictor": FastRCNNPredictor(32, 3),
        "box_batch_size_per_image": 64,
        "rpn_batch_size_per_image": 64,
    }
    more = {
        "faster_rcnn": (FasterRCNN, {}),
        "mask_rcnn": (MaskRCNN, {"mask_roi_pool": _pool(14)}),
        "keypoint_rcnn": (KeypointRCNN, {"keypoint_roi_pool": _pool(14), "num_keypoints": 5}),
    }
    kind, of_kind = more[family]
    if family == "mask_rcnn":
        of_kind["mask_predictor"] = MaskRCNNPredictor(256, 32, 3)
    return kind(backbone, **heads | of_kind | sizes)


def _pool(side):
    return MultiScaleRoIAlign(list(_LEVELS[:2]), output_size=side, sampling_ratio=2)


class Pictures(Dataset):
    """Noise of several sizes with boxes; image 1 has none. Ids are not positions."""

    def __init__(self, n=5, sizes=SIZES):
        generator = torch.Generator().manual_seed(0)
        self.items = [_item(row, sizes[row % len(sizes)], generator) for row in range(n)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]

    @property
    def batch(self):
        """All images and their targets."""
        return [list(part) for part in zip(*self.items, strict=True)]

    @property
    def ids(self):
        """Of the images, in their order."""
        return [target["image_id"] for _, target in self.items]


def _item(row, size, generator):
    height, width = size
    n_objects = 0 if row == 1 else 1 + row % 3
    extent = torch.tensor([width, height])
    corner = torch.rand(n_objects, 2, generator=generator) * extent / 2
    sides = torch.rand(n_objects, 2, generator=generator) * extent / 3 + 8
    inside = torch.rand(n_objects, 5, 2, generator=generator)
    visible = (torch.rand(n_objects, 5, 1, generator=generator) > 0.3).float()
    target = {
        "boxes": torch.cat([corner, corner + sides], dim=1),
        "labels": torch.randint(1, 3, (n_objects,), generator=generator),
        "masks": (torch.rand(n_objects, height, width, generator=generator) > 0.5).byte(),
        "keypoints": torch.cat([corner[:, None] + inside * sides[:, None], visible], dim=2),
        "image_id": 70 - 10 * row,
    }
    return torch.rand(3, height, width, generator=generator), target
