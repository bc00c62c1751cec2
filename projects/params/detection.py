"""Parameters of `mlflow run . -e train_detection`."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from actiontrack.errors import ParameterError
from projects.params.fields import Names, rule
from projects.params.training import AdamWParams

__all__ = ["DetectionParams"]

AUTO = "auto"
_PREFIX = "voc:"
_WITHOUT_WEIGHTS = "ssd_small"  # torchvision has weights for the backbones of all others
_WITH_WEIGHTS = "ssd300_vgg16"
_OF_ANY_SIZE = "fasterrcnn_mobilenet_v3_large_320_fpn"
_OF_ONE_SIZE = frozenset({"ssd_small", "ssd300_vgg16", "ssdlite320_mobilenet_v3_large"})


def _to_dataset(value: object) -> object:
    """Accept ``voc:PATH`` with a path that is not empty."""
    text = str(value)
    if not text.startswith(_PREFIX) or text == _PREFIX:
        raise ValueError(value)
    return text


Dataset = Annotated[str, BeforeValidator(_to_dataset), rule("must be voc:PATH")]


class DetectionParams(AdamWParams):
    """Train a detector and record the losses of every image, of an SSD also of every object."""

    dataset: Dataset = Field("voc:VOCdevkit", description="folder in the layout of VOC 2007")
    model: Literal[
        "ssd_small",
        "ssd300_vgg16",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "retinanet_resnet50_fpn",
        "fcos_resnet50_fpn",
        "ssdlite320_mobilenet_v3_large",
    ] = Field(
        "ssd_small",
        description="SSD over a small backbone, the paper's SSD300, or one of torchvision's",
    )
    epochs: int = Field(12, ge=1, description="passes over the training split")
    batch_size: int = Field(16, ge=1, description="images per update")
    learning_rate: float = Field(2e-3, gt=0, description="step size at its peak")
    weights: Literal["none", "imagenet"] = Field(
        "none",
        description="of the backbone to start from, not ssd_small's; imagenet downloads them",
    )
    augment: Literal["none", "flip"] = Field(
        "flip", description="training images only: mirror every other one"
    )
    train_set: str = Field(
        AUTO, min_length=1, description="list in ImageSets/Main; auto = train, else trainval"
    )
    test_set: str = Field(
        AUTO, min_length=1, description="list in ImageSets/Main; auto = val, else test"
    )
    classes: Names = Field((), description="class names in order; empty = those of the data")
    difficult: Literal["keep", "ignore"] = Field(
        "keep", description="difficult objects: learn and record, or neither"
    )
    bad_boxes: Literal["error", "drop"] = Field(
        "error", description="boxes without a pixel of the image: refuse, or leave out"
    )
    metric: Literal["epoch", "end", "never"] = Field(
        "epoch", description="when to compute the mean average precision"
    )
    image_size: int = Field(0, ge=0, description="side of the images; 0 = the detector's own")

    @model_validator(mode="after")
    def _fit_size(self) -> Self:
        if not self.image_size or self.model not in _OF_ONE_SIZE:
            return self
        if self.is_given("model"):
            raise ParameterError(
                "image_size",
                f"must be 0 for model {self.model}, which has a size of its own",
                self.image_size,
                f"Leave it out, or pass --model {_OF_ANY_SIZE}.",
            )
        self.adapt("model", _OF_ANY_SIZE)
        return self

    @model_validator(mode="after")
    def _fit_model(self) -> Self:
        if self.weights == "none" or self.model != _WITHOUT_WEIGHTS:
            return self
        if self.is_given("model"):
            raise ParameterError(
                "weights",
                f"must be none for model {self.model}",
                self.weights,
                f"Pass --weights none or --model {_WITH_WEIGHTS}.",
            )
        self.adapt("model", _WITH_WEIGHTS)
        return self

    @property
    def path(self) -> str:
        """Folder of the dataset, as the user wrote it."""
        return self.dataset.removeprefix(_PREFIX)
