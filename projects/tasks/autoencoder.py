"""Dimensionality reduction (supplement): an autoencoder's error of each image and each pixel.

The loss of an image is the mean squared error of its pixel values, scaled to 0..1, over channels
and pixels; that of a pixel is the mean over its channels. Labels play no part in training: they
are recorded where the dataset has some, so that classes can be compared.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from actiontrack.recorder import Recorder
from projects.datasets import ImageSplit, load_dataset
from projects.loading import batches
from projects.loop import PROBE_BATCH
from projects.models.autoencoder import Autoencoder
from projects.params import Dataset, LoopParams, TrainParams, validate
from projects.pictures import to_png
from projects.tasks.task import Task

__all__ = ["AutoencoderParams", "Autoencoding"]

RECONSTRUCTION = "reconstruction"


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
        shared = ("dataset", "data_dir", "image_size", "subset", "test_subset", "test_fraction")
        values = {name: getattr(self, name) for name in (*shared, "split_seed", "seed")}
        return validate(TrainParams, values)


class _OwnTargets(ImageSplit):
    """Images that are their own targets."""

    @property
    def targets(self) -> Tensor:
        """The images, uint8 (N, C, H, W)."""
        return self.images

    @classmethod
    def of(cls, split: ImageSplit) -> "_OwnTargets":
        """The same split, with other targets."""
        return cls(**{each.name: getattr(split, each.name) for each in fields(split)})


class Autoencoding(Task):
    """Images to themselves through a few numbers. One object serves one training."""

    def __init__(self) -> None:
        self._reconstructed: dict[str, dict[Any, NDArray[np.uint8]]] = {}
        self._keeps = False

    def load(self, params: AutoencoderParams) -> tuple[ImageSplit, ImageSplit]:
        """Read the dataset that the parameters name."""
        train, test = load_dataset(params.data)
        return _OwnTargets.of(train), _OwnTargets.of(test)

    def build(self, params: AutoencoderParams, train: ImageSplit) -> Autoencoder:
        """The autoencoder that the parameters describe."""
        return Autoencoder(
            train.in_channels,
            train.image_size,
            latent_dim=params.latent_dim,
            width=params.filters,
        )

    def describe_model(self, params: AutoencoderParams, train: ImageSplit) -> Mapping[str, Any]:
        """The arguments of `Autoencoder`."""
        return {
            "name": params.model,
            "in_channels": train.in_channels,
            "image_size": train.image_size,
            "latent_dim": params.latent_dim,
            "width": params.filters,
        }

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of a batch, of pixel values in 0..1."""
        return nn.functional.mse_loss(outputs, _scaled(targets))

    def samples(self, images: ImageSplit) -> Mapping[str, Any]:
        """The labels, which training does not see."""
        return {"labels": images.labels}

    def recorder_options(self, params: AutoencoderParams, images: ImageSplit) -> Mapping[str, Any]:  # noqa: ARG002
        """Names of the losses, and how maps are kept."""
        return {
            "loss_name": "mean_squared_error",
            "pixel_loss_name": "squared_error",
            "map_factor": params.map_factor,
            "map_dtype": params.map_dtype,
        }

    def start_pass(self, record: str, *, last: bool) -> None:
        """Keep the reconstructions of the trained model."""
        self._keeps, self._reconstructed[record] = last, {}

    def record(self, recorder: Recorder, ids: Any, outputs: Tensor, targets: Tensor) -> None:
        """Record the error of each image and of each pixel."""
        errors = (outputs - _scaled(targets)).square().mean(dim=1)
        recorder.update(ids, errors.mean(dim=(1, 2)))
        recorder.update_maps(ids, errors)
        if self._keeps and recorder.name in self._reconstructed:
            pixels = outputs.mul(255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
            kept = zip(ids.tolist(), pixels, strict=True)
            self._reconstructed[recorder.name].update(kept)

    def log_extras(self, session: Any, recorder: Recorder, images: ImageSplit) -> None:
        """The place of each image in the latent space, and its reconstruction."""
        recorder.log_features(images.ids, _latents(session, images))
        found = self._reconstructed.get(recorder.name)
        if found:
            pictures = [to_png(torch.from_numpy(found[each])) for each in images.ids.tolist()]
            recorder.log_pictures(RECONSTRUCTION, images.ids, pictures)


def _scaled(images: Tensor) -> Tensor:
    return images.float() / 255


@torch.inference_mode()
def _latents(session: Any, images: ImageSplit) -> NDArray[np.float32]:
    """Latent codes (n_samples, latent_dim) of a split, in its own order."""
    session.model.eval()
    parts = [
        session.model.features(batch).float().cpu().numpy()
        for _, batch, _ in batches(
            images,
            batch_size=PROBE_BATCH,
            normalisation=session.normalisation,
            device=session.compute.device,
        )
    ]
    return np.concatenate(parts)
