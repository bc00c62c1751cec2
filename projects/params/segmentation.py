"""Parameters of `mlflow run . -e train_segmentation`."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from actiontrack.errors import ParameterError
from projects.params.fields import Names, rule
from projects.params.training import AdamWParams

__all__ = ["SegmentationParams"]

_MASKS, _CITYSCAPES = "masks:", "cityscapes:"


def _to_dataset(value: object) -> object:
    """Accept ``masks:IMAGES,MASKS`` and ``cityscapes:PATH`` with paths that are not empty."""
    text = str(value)
    folders = text.removeprefix(_MASKS).split(",") if text.startswith(_MASKS) else []
    is_masks = len(folders) == 2 and all(folders)
    is_cityscapes = text.startswith(_CITYSCAPES) and text != _CITYSCAPES
    if not is_masks and not is_cityscapes:
        raise ValueError(value)
    return text


Dataset = Annotated[
    str,
    BeforeValidator(_to_dataset),
    rule("must be masks:IMAGES,MASKS or cityscapes:PATH"),
]


class SegmentationParams(AdamWParams):
    """Train a U-Net and record the loss of every image and of every pixel."""

    dataset: Dataset = Field(
        "masks:camvid/images,camvid/masks", description="images and a mask for each"
    )
    model: Literal["unet_vgg16"] = Field("unet_vgg16", description="U-Net with a VGG-16 encoder")
    epochs: int = Field(24, ge=1, description="passes over the training split")
    batch_size: int = Field(8, ge=1, description="images per update")
    learning_rate: float = Field(3e-3, gt=0, description="step size at its peak")
    classes: Names = Field(
        (), description="name of each class id from 0; empty = their numbers (cityscapes: its own)"
    )
    void_id: int = Field(
        -1, ge=-1, le=255, description="id of pixels without a class; -1 = none (cityscapes: own)"
    )
    void: Literal["counted", "ignored"] = Field(
        "counted", description="void is a class like others, as in the paper, or counts nowhere"
    )
    height: int = Field(180, ge=0, description="images and masks are resized to it; 0 = as stored")
    width: int = Field(240, ge=0, description="images and masks are resized to it; 0 = as stored")
    width_divisor: int = Field(
        8, ge=1, le=64, description="of the channels of VGG-16; 1 = the paper's size"
    )
    encoder_weights: Literal["none", "imagenet"] = Field(
        "none", description="of the encoder to start from; imagenet downloads them"
    )
    augment: Literal["none", "flip"] = Field(
        "flip", description="training images only: mirror every other one"
    )
    dice_weight: float = Field(1.0, ge=0, description="of the dice loss in the sum")
    jaccard_weight: float = Field(1.0, ge=0, description="of the Jaccard loss in the sum")
    focal_weight: float = Field(1.0, ge=0, description="of the focal loss in the sum")
    focal_gamma: float = Field(2.0, ge=0, description="focusing parameter of the focal loss")
    pixel_loss: Literal["focal", "cross_entropy"] = Field(
        "focal", description="loss of a pixel that the maps add up"
    )
    map_factor: int = Field(
        1, ge=1, description="maps keep the mean of each block of so many pixels a side"
    )
    map_dtype: Literal["float32", "float16"] = Field("float32", description="of the stored maps")

    @model_validator(mode="after")
    def _fit_width_divisor(self) -> Self:
        if self.encoder_weights == "none" or self.width_divisor == 1:
            return self
        if self.is_given("width_divisor"):
            raise ParameterError(
                "encoder_weights",
                f"must be none with width_divisor {self.width_divisor}: there are weights for"
                " VGG-16 at its full width only",
                self.encoder_weights,
                "Pass --encoder_weights none or --width_divisor 1.",
            )
        self.adapt("width_divisor", 1)
        return self

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if not any((self.dice_weight, self.jaccard_weight, self.focal_weight)):
            raise ParameterError(
                "dice_weight",
                "must be above 0, or jaccard_weight or focal_weight must be",
                self.dice_weight,
                "Pass a weight of 1 for one of the three.",
            )
        return self

    @property
    def is_cityscapes(self) -> bool:
        """Whether the dataset is Cityscapes."""
        return self.dataset.startswith(_CITYSCAPES)

    @property
    def folders(self) -> tuple[str, str]:
        """Folders of the images and of the masks as the user wrote them; Cityscapes has one."""
        if self.is_cityscapes:
            return self.dataset.removeprefix(_CITYSCAPES), ""
        images, masks = self.dataset.removeprefix(_MASKS).split(",")
        return images, masks
