"""The interface of a task: its data, its model, its loss and what is recorded of each sample.

Loop, recorder, store, analysis, figures and report are the same for all tasks, see
`projects.session`. A task says what differs.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actiontrack.recorder import Recorder
from projects.datasets.split import SplitName
from projects.loading import Normalisation, Split, batches
from projects.loop import PROBE_BATCH, Compute, LossFunction, Observe

__all__ = ["Task", "TaskSplit", "Trained", "last_features", "metric_name"]

_NOT_IN_NAMES = re.compile(r"[^\w .-]")  # MLflow refuses these in the name of a metric


class TaskSplit(Split, Protocol):
    """What training needs to know of a split, whatever the task."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, may be empty."""

    @property
    def name(self) -> str:
        """Name of the dataset."""

    @property
    def split(self) -> SplitName:
        """Which split it is."""

    @property
    def root(self) -> str | None:
        """Folder of the image files, None for images that are not files."""

    @property
    def paths(self) -> tuple[str, ...] | None:
        """Paths of the images relative to `root`."""

    @property
    def input_digests(self) -> Sequence[str]:
        """Digest of everything but the model that the loss of each sample depends on."""


class Trained(Protocol):
    """What a task needs of the training that it belongs to, see `projects.session.Session`."""

    @property
    def params(self) -> Any:
        """Parameters, of the task's own class."""

    @property
    def model(self) -> Any:
        """The model, as the task has built it."""

    @property
    def normalisation(self) -> Normalisation:
        """Of the training split."""

    @property
    def compute(self) -> Compute:
        """Where and how precisely to compute."""

    def evaluate(self, images: Any, observe: Observe) -> None:
        """Run one evaluation pass over a split."""


class Task(ABC):
    """One kind of training. Parameters and splits are those that the task itself defines."""

    #: Samples in a batch of the evaluation pass.
    probe_batch: ClassVar[int] = PROBE_BATCH
    #: Class of the recorders; it takes `recorder_options`.
    recorder_class: ClassVar[type[Recorder]] = Recorder

    @abstractmethod
    def load(self, params: Any) -> tuple[Any, Any]:
        """Read the training and the evaluated split.

        Raises:
            DataError: if files are missing, damaged or do not fit each other.
        """

    @abstractmethod
    def build(self, params: Any, train: Any) -> nn.Module:
        """A model with fresh weights for the images of the training split."""

    def forward(
        self,
        model: Any,
        ids: Any,  # noqa: ARG002 - a default
        images: Tensor,
        targets: Tensor,  # noqa: ARG002 - a default
    ) -> Any:
        """Outputs of the model on a batch: by default those that it has of the images alone."""
        return model(images)

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch, as it is recorded."""

    def training_loss(self, params: Any) -> LossFunction:  # noqa: ARG002 - a default
        """The scalar that training minimises; `loss`, unless the parameters change it."""
        return self.loss

    @abstractmethod
    def record(self, recorder: Recorder, ids: Any, outputs: Tensor, targets: Tensor) -> None:
        """Give the losses of a batch to a recorder, one per sample."""

    def samples(self, images: Any) -> Mapping[str, Any]:  # noqa: ARG002 - a default
        """Arguments of `Recorder.describe_samples` beside ids, paths and digests: labels, say."""
        return {}

    def recorder_options(self, params: Any, images: Any) -> Mapping[str, Any]:  # noqa: ARG002
        """Arguments of `Recorder` that only this task has, such as the name of the loss."""
        return {}

    def augment(
        self,
        images: Tensor,
        targets: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - a default
    ) -> tuple[Tensor, Tensor]:
        """Change a training batch at random, images and targets together.

        Args:
            images: normalised, float (batch, C, H, W).
            targets: (batch, …).
            generator: on the CPU, so that a seed gives the same changes on every device.
        """
        return images, targets

    def start_pass(self, record: str, *, last: bool) -> None:  # noqa: B027 - a default
        """Prepare for an evaluation pass.

        Args:
            record: name of the record.
            last: whether it is that of the trained model.
        """

    def metrics(self, record: str) -> Mapping[str, float]:  # noqa: ARG002
        """Metrics of the evaluation pass that has just ended, beside the mean loss.

        Args:
            record: name of the record, the prefix of their names.
        """
        return {}

    def describe_model(self, params: Any, train: Any) -> Mapping[str, Any]:
        """Plain text and numbers from which `build` makes the same model again."""
        return {"name": params.model, "class_names": train.class_names}

    def log_extras(self, session: Trained, recorder: Recorder, images: Any) -> None:  # noqa: B027
        """Log what only this task has of the trained model, before the recorder finishes.

        Args:
            session: the training, with the model.
            recorder: of a split.
            images: the split.
        """


@torch.inference_mode()
def last_features(session: Trained, images: Split) -> NDArray[np.float32]:
    """What the model's method ``features`` gives, (n_samples, n_features), in the split's order."""
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


def metric_name(text: str) -> str:
    """The text as a part of the name of a metric, with a _ for each character that can't be."""
    return _NOT_IN_NAMES.sub("_", text)
