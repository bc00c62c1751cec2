"""Parameters of `mlflow run . -e train_detection`."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from actiontrack.errors import ParameterError
from projects.params.fields import Names, rule
from projects.params.training import AdamWParams

__all__ = ["DetectionParams"]

AUTO = "auto"
_PREFIX = "voc:"
_WITH_WEIGHTS = "ssd300_vgg16"  # torchvision has weights for the backbone of this one


def _to_dataset(value: object) -> object:
    """Accept ``voc:PATH`` with a path that is not empty."""
    text = str(value)
    if not text.startswith(_PREFIX) or text == _PREFIX:
        raise ValueError(value)
    return text


Dataset = Annotated[str, BeforeValidator(_to_dataset), rule("must be voc:PATH")]


class DetectionParams(AdamWParams):
    """Train a detector and record the three losses of every image, and those of every object."""

    dataset: Dataset = Field("voc:VOCdevkit", description="folder in the layout of VOC 2007")
    model: Literal["ssd_small", "ssd300_vgg16"] = Field(
        "ssd_small", description="SSD over a small backbone, or the paper's SSD300"
    )
    epochs: int = Field(12, ge=1, description="passes over the training split")
    batch_size: int = Field(16, ge=1, description="images per update")
    learning_rate: float = Field(2e-3, gt=0, description="step size at its peak")
    weights: Literal["none", "imagenet"] = Field(
        "none", description="of ssd300_vgg16's backbone to start from; imagenet downloads them"
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

    @model_validator(mode="after")
    def _fit_model(self) -> Self:
        if self.weights == "none" or self.model == _WITH_WEIGHTS:
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
