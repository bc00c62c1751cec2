"""Time to an accuracy, speednet against resnet_v2: `python -m benchmarks.speednet --dataset PATH`.

Both are trained by `projects.session` on one thread in bfloat16, each in its own way: resnet_v2 as
`scale=cpu` has it (10,000 images, 12 epochs of Adam at 1e-3), speednet by its recipe on all images,
at half its width, in the fewest epochs that reach the accuracy. After each epoch all test images
are evaluated. Seconds are of the processor, of training and evaluation, until an evaluation reaches
the accuracy; other work of the machine is left out. Where the ResNet never reaches it, all of its
training counts, and the ratio is a lower bound. The dataset is CIFAR-10, or an image folder of it.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Figure, Spread, keep, options
from projects.datasets import load_dataset
from projects.loop import choose_compute, make_optimizer
from projects.params import TrainParams, validate
from projects.session import Session
from projects.tasks.classification import Classification


@dataclass(frozen=True)
class Course:
    """Test accuracy after each epoch, and the processor's seconds until then.

    Attributes:
        accuracies: one per epoch.
        seconds: one per epoch, of training and evaluation.
        images_per_second: of training alone.
    """

    accuracies: list[float]
    seconds: list[float]
    images_per_second: float

    def until(self, accuracy: float) -> float:
        """Seconds until an evaluation reaches the accuracy, NaN if none does."""
        reached = [row for row, value in enumerate(self.accuracies) if value >= accuracy]
        return self.seconds[reached[0]] if reached else float("nan")

    def __str__(self) -> str:
        """Accuracy and seconds of each epoch, and the speed."""
        pairs = zip(self.accuracies, self.seconds, strict=True)
        course = ", ".join(f"{value:.1%} after {taken:.0f} s" for value, taken in pairs)
        return f"{self.images_per_second:.0f} images/s in training; {course}"


def main(argv: Sequence[str]) -> int:
    """Train both, and print how many times as long the ResNet takes."""
    given = options(
        __doc__, argv, dataset="cifar10", width=16, epochs=1, subset=0, resnet_epochs=12,
        resnet_subset=10_000, accuracy=0.65,
    )  # fmt: skip
    fast = _train(
        given.accuracy,
        model="speednet",
        width=given.width,
        epochs=given.epochs,
        subset=given.subset,
        dataset=given.dataset,
    )
    slow = _train(
        given.accuracy,
        model="resnet_v2",
        epochs=given.resnet_epochs,
        subset=given.resnet_subset,
        dataset=given.dataset,
    )
    reached = slow.until(given.accuracy)
    ratio = (slow.seconds[-1] if np.isnan(reached) else reached) / fast.until(given.accuracy)
    keep(
        Figure(
            name=f"speednet, processor time to {given.accuracy:.0%} of the test images",
            against="resnet_v2: times faster",
            value=Spread(ratio, ratio, ratio),
            target=">= 8",
            details={"speednet": str(fast), "resnet_v2": str(slow)},
        )
    )
    return 0


def _train(accuracy: float, **values: Any) -> Course:
    """Train until the accuracy is reached, or to the last epoch."""
    fixed = {"precision": "bf16", "threads": 1, "device": "cpu"}
    params = validate(TrainParams, fixed | values)
    session = Session.prepare(
        params, choose_compute(params), load_dataset(params), task=Classification()
    )
    optimizer = make_optimizer(session.model, params)
    course, trained, start = Course([], [], 0.0), 0.0, time.process_time()
    for epoch in range(params.epochs):
        before = time.process_time()
        session.train_epoch(optimizer, epoch=epoch)
        trained += time.process_time() - before
        course.accuracies.append(_accuracy(session))
        course.seconds.append(time.process_time() - start)
        print(f"{params.model} epoch {epoch + 1}: {course.accuracies[-1]:.1%}", flush=True)
        if course.accuracies[-1] >= accuracy:
            break
    n_images = len(course.accuracies) * len(session.train)
    return Course(course.accuracies, course.seconds, n_images / trained)


def _accuracy(session: Session) -> float:
    correct: list[torch.Tensor] = []
    session.evaluate(
        session.test,
        lambda _, logits, labels: correct.append(logits.argmax(dim=1) == labels),
    )
    return float(torch.cat(correct).float().mean())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
