"""Detection by torchvision's own detectors: the losses that these return, of each image.

What is recorded of an image are its losses in a batch of its own, see
`actiontrack.recorder.torchvision`. Evaluation passes compute the losses of training mode with norms
and dropout as in evaluation, and draw the same of an image in each of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from actiontrack.errors import ParameterError
from actiontrack.recorder import Recorder
from actiontrack.recorder.detector_losses import ImageLosses, family_of, per_image, replaced
from actiontrack.recorder.detector_pass import losses_alone, seed_of
from projects.datasets.voc import DetectionSplit
from projects.loading import Normalisation
from projects.models.detectors import WHOLE_DETECTORS, WholeDetector, build_whole_detector
from projects.params.detection import DetectionParams
from projects.tasks.detection import Detection, box_table, unpacked
from projects.tasks.task import Trained

__all__ = ["Outcome", "WholeDetection", "detection_task"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a detector says of a batch.

    Attributes:
        loss: of the batch, a scalar.
        images: losses of its images, where they are recorded.
        detections: boxes, labels and scores of its images, where they are asked for.
    """

    loss: Tensor
    images: ImageLosses | None = None
    detections: Sequence[Mapping[str, Tensor]] = ()

    def detach(self) -> Self:
        """The same outside of any autograd graph."""
        return replace(self, loss=self.loss.detach())


class WholeDetection(Detection):
    """Images to boxes with classes, by a detector that keeps its heads' outputs to itself."""

    probe_batch = 8
    recorder_class: ClassVar[type[Recorder]] = Recorder

    def __init__(self) -> None:
        super().__init__()
        self._whole: WholeDetector | None = None
        self._detects = False

    def load(self, params: DetectionParams) -> tuple[DetectionSplit, DetectionSplit]:
        """Read the dataset at the size of the detector.

        Raises:
            ParameterError: if the last batch of an epoch is a single image, which the last maps of
                SSDlite leave nothing of to batch normalisation.
        """
        train, test = super().load(params)
        if WHOLE_DETECTORS[params.model].is_fixed and len(train) % params.batch_size == 1:
            rule = f"must not leave a batch of one of the {len(train)} training images"
            remedy = "Pass another --batch_size: batch normalisation needs two images."
            raise ParameterError("batch_size", rule, params.batch_size, remedy)
        return train, test

    def build(self, params: DetectionParams, train: DetectionSplit) -> nn.Module:  # type: ignore[override]
        """The detector that the parameters name."""
        detector = build_whole_detector(
            params.model, n_classes=len(train.class_names), weights=params.weights, side=train.side
        )
        normalisation = Normalisation.of(train)
        self._whole = WholeDetector(detector, mean=normalisation.mean, std=normalisation.std)
        return self._whole

    def forward(self, model: Any, ids: Any, images: Tensor, targets: Tensor) -> Outcome:
        """The losses of a batch, and of each of its images if they are recorded."""
        detector, objects = self._built_whole.detector, unpacked(targets)
        if model.training:
            with ExitStack() as stack:
                recorded = self._params.mode != "probe"
                taken = stack.enter_context(per_image(detector)) if recorded else []
                losses = model(images, objects)
            total = torch.stack(list(losses.values())).sum()
            return Outcome(total, taken[0] if taken else None)
        pixels, seeds = self._built_whole.pixels(images), [seed_of(name) for name in ids]
        with _computed_once(detector):
            alone = losses_alone(detector, pixels, objects, seeds)
            detects = self._detects or self._measured
            detections = detector(pixels) if detects else ()
        return Outcome(alone.of_batch(), alone, detections)

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:  # noqa: ARG002 - of the interface
        """The loss of a batch that torchvision computes, the sum of its parts."""
        loss: Tensor = outputs.loss
        return loss

    def recorder_options(
        self,
        params: DetectionParams,  # noqa: ARG002 - of the interface
        images: DetectionSplit,  # noqa: ARG002 - of the interface
    ) -> Mapping[str, Any]:
        """The name of the loss."""
        return {"loss_name": family_of(self._built_whole.detector)}

    def record(self, recorder: Any, ids: Any, outputs: Any, targets: Tensor) -> None:  # noqa: ARG002
        """Record each image; measure the detections of an evaluation pass."""
        recorder.update(ids, outputs.images.total, components=outputs.images.components)
        self._measure(recorder, ids, lambda: outputs.detections)

    def log_extras(self, session: Trained, recorder: Any, images: DetectionSplit) -> None:
        """The boxes that the trained detector predicts, beside the annotated ones."""
        if not recorder.name.endswith("-probe"):
            return
        detections: list[Mapping[str, Tensor]] = []
        self._detects = True

        def observe(ids: Any, outputs: Any, targets: Any) -> None:
            del ids, targets
            detections.extend(outputs.detections)

        session.evaluate(images, observe)
        self._detects = False
        recorder.log_boxes(box_table(images, detections))

    @property
    def _built_whole(self) -> WholeDetector:
        assert self._whole is not None  # noqa: S101 - training builds first
        return self._whole


@contextmanager
def _computed_once(detector: Any) -> Iterator[None]:
    """Losses and detections of the same images share maps and heads; all in evaluation mode."""
    head = detector.rpn.head if hasattr(detector, "rpn") else detector.head
    with ExitStack() as restored:
        for part in (detector.backbone, head):
            restored.enter_context(replaced(part, "forward", _once(part.forward)))
        yield


def _once(forward: Any) -> Any:
    outputs: list[Any] = []

    def compute(inputs: Any) -> Any:
        if not outputs:
            outputs.append(forward(inputs))
        return outputs[0]

    return compute


def detection_task(params: DetectionParams) -> Detection:
    """The task for a detector: of `projects.models.ssd`, or one of torchvision's own."""
    return WholeDetection() if params.model in WHOLE_DETECTORS else Detection()
