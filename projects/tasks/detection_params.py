"""Parameters of `mlflow run . -e train_detection`."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from actiontrack.errors import ParameterError
from projects.datasets.voc import AUTO, BadBoxes, Difficult, VocSettings
from projects.models.ssd import DETECTORS, Weights
from projects.params import LoopParams, to_tuple

__all__ = ["DetectionParams"]

_PREFIX = "voc:"


def _to_dataset(value: object) -> object:
    """Accept ``voc:PATH`` with a path that is not empty."""
    text = str(value)
    if not text.startswith(_PREFIX) or text == _PREFIX:
        raise ValueError(value)
    return text


def _to_names(value: object) -> object:
    """Split a comma list of names, each once; nothing for the empty text."""
    names = to_tuple(value) if value != "" else ()
    if isinstance(names, tuple) and (len(set(names)) < len(names) or not all(names)):
        raise ValueError(value)
    return names


Dataset = Annotated[
    str, BeforeValidator(_to_dataset), Field(json_schema_extra={"rule": "must be voc:PATH"})
]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_to_names),
    Field(json_schema_extra={"rule": "must be a comma list of names without repeats"}),
]


class DetectionParams(LoopParams):
    """Train a detector and record the three losses of every image, and those of every object."""

    dataset: Dataset = Field("voc:VOCdevkit", description="folder in the layout of VOC 2007")
    model: Literal["ssd_small", "ssd300_vgg16"] = Field(
        "ssd_small", description="SSD over a small backbone, or the paper's SSD300"
    )
    epochs: int = Field(12, ge=1, description="passes over the training split")
    batch_size: int = Field(16, ge=1, description="images per update")
    optimizer: Literal["adam", "sgd", "adamw"] = Field("adamw", description="update rule")
    learning_rate: float = Field(2e-3, gt=0, description="step size at its peak")
    weight_decay: float = Field(0.01, ge=0, description="L2 penalty (adamw: decoupled)")
    schedule: Literal["constant", "cosine", "step"] = Field(
        "cosine", description="learning rate over the epochs"
    )
    warmup_epochs: int = Field(1, ge=0, description="epochs of linear warm-up, fewer than epochs")
    weights: Weights = Field(
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
    difficult: Difficult = Field(
        "keep", description="difficult objects: learn and record, or neither"
    )
    bad_boxes: BadBoxes = Field(
        "error", description="boxes without a pixel of the image: refuse, or leave out"
    )
    metric: Literal["epoch", "end", "never"] = Field(
        "epoch", description="when to compute the mean average precision"
    )

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.weights != "none" and self.model != "ssd300_vgg16":
            raise ParameterError(
                "weights",
                f"must be none for model {self.model}",
                self.weights,
                "Pass --weights none or --model ssd300_vgg16.",
            )
        return self

    @property
    def voc(self) -> VocSettings:
        """What to read of the dataset, at the size that the detector works on."""
        return VocSettings(
            path=self.dataset.removeprefix(_PREFIX),
            side=DETECTORS[self.model].side,
            train_set=self.train_set,
            test_set=self.test_set,
            classes=self.classes,
            bad_boxes=self.bad_boxes,
            difficult=self.difficult,
            subset=self.subset,
            test_subset=self.test_subset,
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
        )
