"""Parameters of `mlflow run . -e train_autoencoder`."""

from typing import Literal

from pydantic import Field

from projects.params.fields import Dataset
from projects.params.reading import validate
from projects.params.training import LoopParams, TrainParams

__all__ = ["AutoencoderParams"]


class AutoencoderParams(LoopParams):
    """Train an autoencoder and record the error of every image and of every pixel."""

    dataset: Dataset = Field("digits", description="images to train on")
    model: Literal["conv_autoencoder"] = Field(
        "conv_autoencoder", description="convolutional autoencoder"
    )
    epochs: int = Field(20, ge=1, description="passes over the training split")
    data_dir: str = Field(
        "auto",
        min_length=1,
        description="where downloads live; auto = the user's cache",
        json_schema_extra={"rule": "must be a folder or auto"},
    )
    image_size: int = Field(0, ge=0, description="resize and centre-crop to it; 0 = as stored")
    latent_dim: int = Field(8, ge=1, description="numbers that an image is reduced to")
    filters: int = Field(32, ge=1, description="of the first layer; each halving doubles them")
    map_factor: int = Field(
        1, ge=1, description="maps keep the mean of each block of so many pixels a side"
    )
    map_dtype: Literal["float32", "float16"] = Field("float32", description="of the stored maps")

    @property
    def data(self) -> TrainParams:
        """The parameters that say which images to read, as those of a classifier."""
        shared = ("dataset", "data_dir", "image_size", "seed")
        values = {name: getattr(self, name) for name in shared}
        return validate(TrainParams, values | self.selection)
