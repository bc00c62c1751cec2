"""torchvision's own detectors, which compute losses and detections in one forward of their own.

Unlike those of `projects.models.ssd` they keep their heads' outputs to themselves: in training a
forward takes the targets and returns the losses, in evaluation it returns detections.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    fcos_resnet50_fpn,
    retinanet_resnet50_fpn,
    ssdlite320_mobilenet_v3_large,
)

from actiontrack.errors import DataError, ParameterError
from projects.models.ssd import Weights

__all__ = ["WHOLE_DETECTORS", "WholeDetector", "WholeModel", "build_whole_detector"]


@dataclass(frozen=True)
class WholeModel:
    """How to build a detector of torchvision's.

    Attributes:
        build: torchvision's function.
        side: side of the images that it works on by default, in pixels.
        is_fixed: whether it works on images of this side only.
    """

    build: Callable[..., Any]
    side: int = 320
    is_fixed: bool = False


WHOLE_DETECTORS: Mapping[str, WholeModel] = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": WholeModel(fasterrcnn_mobilenet_v3_large_320_fpn),
    "retinanet_resnet50_fpn": WholeModel(retinanet_resnet50_fpn),
    "fcos_resnet50_fpn": WholeModel(fcos_resnet50_fpn),
    "ssdlite320_mobilenet_v3_large": WholeModel(ssdlite320_mobilenet_v3_large, is_fixed=True),
}


class WholeDetector(nn.Module):
    """A detector of torchvision's on batches of images of one size.

    Args:
        detector: of torchvision's.
        mean: (3,), what was subtracted from pixel values in 0..1.
        std: (3,), what they were divided by then.
    """

    def __init__(self, detector: nn.Module, *, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.detector = detector
        self.register_buffer("_mean", mean[:, None, None], persistent=False)
        self.register_buffer("_std", std[:, None, None], persistent=False)

    def forward(self, x: Tensor, targets: Any = None) -> Any:
        """What the detector returns: losses in training, detections in evaluation.

        Args:
            x: Images, float (B, 3, side, side), normalised by `mean` and `std`.
            targets: ``boxes`` and ``labels`` of each image.
        """
        return self.detector(self.pixels(x), targets)

    def pixels(self, x: Tensor) -> list[Tensor]:
        """Images, (3, side, side) each with values in 0..1, as the detector takes them."""
        return list(x * self.get_buffer("_std") + self.get_buffer("_mean"))


def build_whole_detector(
    name: str, *, n_classes: int, weights: Weights = "none", side: int = 0
) -> nn.Module:
    """Build a detector, with fresh weights from PyTorch's global generator.

    Args:
        name: A key of `WHOLE_DETECTORS`.
        n_classes: Number of classes without the background.
        weights: "imagenet" downloads the backbone as trained for classification.
        side: Side of the images, in pixels; 0 for the detector's own.

    Returns:
        The detector in training mode on the CPU.

    Raises:
        ParameterError: An unknown name or no class.
        DataError: The weights can't be downloaded.
    """
    if name not in WHOLE_DETECTORS:
        rule = f"must be one of {', '.join(WHOLE_DETECTORS)}"
        raise ParameterError("model", rule, name, "Pass one of these names.")
    if n_classes < 1:
        raise ParameterError("n_classes", "must be an integer >= 1", n_classes, "Check the data.")
    model = WHOLE_DETECTORS[name]
    size = side or model.side
    sizes = {} if model.is_fixed else {"min_size": size, "max_size": size}
    backbone = "IMAGENET1K_V1" if weights == "imagenet" else None
    try:
        built: nn.Module = model.build(
            weights=None, weights_backbone=backbone, num_classes=n_classes + 1, **sizes
        )
    except OSError as error:
        raise DataError(
            f"the weights of the backbone of {name} can't be downloaded ({error}). Pass --weights "
            "none, or put the file into PyTorch's cache."
        ) from error
    return built
