"""Classification: the cross-entropy of each image with its label or its soft label."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from actiontrack.recorder import Recorder
from projects.datasets import ImageSplit, load_dataset
from projects.loading import Normalisation
from projects.loop import LossFunction
from projects.models import Classifier, build_model
from projects.params.training import TrainParams
from projects.tasks.task import Task, Trained, last_features

__all__ = ["SOFT_LOSS", "Classification", "class_probabilities"]

SOFT_LOSS = "soft_cross_entropy"  # never compared with the cross-entropy of labels


class Classification(Task):
    """Images to classes; the labels may be soft."""

    def load(self, params: TrainParams) -> tuple[ImageSplit, ImageSplit]:
        """Read the dataset that the parameters name."""
        return load_dataset(params)

    def build(self, params: TrainParams, train: ImageSplit) -> Classifier:
        """The classifier that the parameters name."""
        model = build_model(params.model, **_shape(params, train))
        if model.fitted_images:
            every = -(-len(train) // model.fitted_images)
            model.fit_input(Normalisation.of(train).apply(train.images[::every]))
        return model

    def training_loss(self, params: TrainParams) -> LossFunction:
        """The cross-entropy, of smoothed labels where the parameters say so."""
        return partial(nn.functional.cross_entropy, label_smoothing=params.label_smoothing)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of logits (batch, n_classes) with labels or soft labels."""
        return nn.functional.cross_entropy(outputs, targets)

    def record(self, recorder: Recorder, ids: Any, outputs: Tensor, targets: Tensor) -> None:
        """Record each batch; the label of a soft label is its most likely class."""
        if targets.ndim == 1:
            recorder.update(ids, logits=outputs, labels=targets)
            return
        losses = nn.functional.cross_entropy(outputs, targets, reduction="none")
        recorder.update(ids, losses, logits=outputs, labels=targets.argmax(dim=1))

    def samples(self, images: ImageSplit) -> Mapping[str, Any]:
        """The labels, and the true ones where labels were changed."""
        return {"labels": images.labels, "true_labels": images.true_labels}

    def recorder_options(self, params: TrainParams, images: ImageSplit) -> Mapping[str, Any]:  # noqa: ARG002
        """The loss of soft labels has a name of its own."""
        return {"loss_name": None if images.soft_labels is None else SOFT_LOSS}

    def describe_model(self, params: TrainParams, train: ImageSplit) -> Mapping[str, Any]:
        """The arguments of `build_model`."""
        return {
            "name": params.model,
            **_shape(params, train),
            "class_names": train.class_names,
        }

    def log_extras(self, session: Trained, recorder: Recorder, images: ImageSplit) -> None:
        """Features and probabilities, where the parameters ask for them."""
        if session.params.save_features:
            recorder.log_features(images.ids, last_features(session, images))
        if session.params.save_probabilities:
            recorder.log_probabilities(images.ids, class_probabilities(session, images))


def _shape(params: TrainParams, train: ImageSplit) -> dict[str, Any]:
    """What `build_model` needs to know beside the name."""
    shape = {
        "in_channels": train.in_channels,
        "image_size": train.image_size,
        "n_classes": train.n_classes,
    }
    return shape | ({"width": params.width} if params.model == "speednet" else {})


def class_probabilities(session: Trained, images: ImageSplit) -> NDArray[np.float32]:
    """Class probabilities (n_samples, n_classes) of a split, in its own order."""
    parts: list[NDArray[np.float32]] = []
    session.evaluate(
        images, lambda _, logits, __: parts.append(logits.softmax(dim=1).cpu().numpy())
    )
    return np.concatenate(parts)
