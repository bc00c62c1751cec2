"""Dimensionality reduction (supplement): an autoencoder's error of each image and each pixel.

The loss of an image is the mean squared error of its pixel values, scaled to 0..1, over channels
and pixels; that of a pixel is the mean over its channels. Labels play no part in training: they
are recorded where the dataset has some, so that classes can be compared.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actiontrack.recorder import Recorder
from projects.datasets import ImageSplit, load_dataset
from projects.models.autoencoder import Autoencoder
from projects.params.autoencoder import AutoencoderParams
from projects.pictures import to_png
from projects.tasks.task import Task, Trained, last_features

__all__ = ["Autoencoding"]

RECONSTRUCTION = "reconstruction"


class _OwnTargets(ImageSplit):
    """Images that are their own targets."""

    @property
    def targets(self) -> Tensor:
        """The images, uint8 (N, C, H, W)."""
        return self.images

    @classmethod
    def of(cls, split: ImageSplit) -> "_OwnTargets":
        """The same split, with other targets."""
        return cls(**{field.name: getattr(split, field.name) for field in fields(split)})


class Autoencoding(Task):
    """Images to themselves through a few numbers. Each training needs an object of its own."""

    def __init__(self) -> None:
        self._reconstructed: dict[str, dict[Any, NDArray[np.uint8]]] = {}
        self._keeps_pictures = False

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
        """Forget earlier reconstructions; keep those of the trained model."""
        self._keeps_pictures, self._reconstructed[record] = last, {}

    def record(self, recorder: Recorder, ids: Any, outputs: Tensor, targets: Tensor) -> None:
        """Record the error of each image and of each pixel."""
        errors = (outputs - _scaled(targets)).square().mean(dim=1)
        recorder.update(ids, errors.mean(dim=(1, 2)))
        recorder.update_maps(ids, errors)
        if self._keeps_pictures and recorder.name in self._reconstructed:
            pixels = outputs.mul(255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
            pictures = zip(ids.tolist(), pixels, strict=True)
            self._reconstructed[recorder.name].update(pictures)

    def log_extras(self, session: Trained, recorder: Recorder, images: ImageSplit) -> None:
        """The latent code of each image, and its reconstruction."""
        recorder.log_features(images.ids, last_features(session, images))
        reconstructed = self._reconstructed.get(recorder.name)
        if reconstructed:
            pictures = [
                to_png(torch.from_numpy(reconstructed[image_id]))
                for image_id in images.ids.tolist()
            ]
            recorder.log_pictures(RECONSTRUCTION, images.ids, pictures)


def _scaled(images: Tensor) -> Tensor:
    return images.float() / 255
