"""The interface of a task: its data, its model, its loss and what is recorded of each sample.

Loop, recorder, store, analysis, figures and report are the same for all tasks, see
`projects.train`; a task says what differs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from actiontrack.recorder import Recorder
from projects.datasets.split import SplitName
from projects.loading import Split
from projects.loop import PROBE_BATCH

__all__ = ["Task", "TaskSplit"]


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
        """Digest of all that the loss of each sample depends on beside the model."""


class Task(ABC):
    """One kind of training. Parameters and splits are those that the task itself defines."""

    #: Samples in a batch of the evaluation pass.
    probe_batch: ClassVar[int] = PROBE_BATCH
    #: What records a split; it gets `recorder_options`.
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

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch, the scalar that training minimises."""

    @abstractmethod
    def record(self, recorder: Recorder, ids: Any, outputs: Tensor, targets: Tensor) -> None:
        """Give the losses of a batch to a recorder, one per sample."""

    def samples(self, images: Any) -> Mapping[str, Any]:  # noqa: ARG002 - a default
        """What `Recorder.describe_samples` gets beside ids, paths and digests, such as labels."""
        return {}

    def recorder_options(self, params: Any, images: Any) -> Mapping[str, Any]:  # noqa: ARG002
        """What `Recorder` gets beside what all tasks give it, such as the name of the loss."""
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
        """An evaluation pass begins.

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
        """What `build` needs to know to build the same model again, as plain text and numbers."""
        return {"name": params.model, "class_names": train.class_names}

    def log_extras(self, session: Any, recorder: Recorder, images: Any) -> None:  # noqa: B027
        """Log of the trained model what only this task has, before the recorder finishes.

        Args:
            session: the `projects.train.Session` with the model.
            recorder: of a split.
            images: the split.
        """
