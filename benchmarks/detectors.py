"""What recording costs torchvision's detectors: `python -m benchmarks.detectors`.

Random images and weights, 320 x 320 pixels, batches of four, six objects in each image. Three
ratios of each detector, in processor time of one thread and in turns on the same data:

* steps of a training by `RecordedDetector` against the same steps without it;
* a pass of `DetectorProbe` against one validation pass, which detects;
* the same against a pass that computes the losses of training mode without gradients. The two
  passes are not alike for a Faster R-CNN, whose heads see up to 512 drawn proposals of an image in
  training and 150 in evaluation.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torchvision.models import detection

from actiontrack.recorder.detector_pass import as_lists
from actiontrack.recorder.torchvision import DetectorProbe, RecordedDetector
from actiontrack.store import Store
from benchmarks.measure import Figure, Spread, in_turns, keep, options, ratios

SIDE = 320
BATCH = 4
MODELS = "fasterrcnn_mobilenet_v3_large_320_fpn,retinanet_resnet50_fpn,fcos_resnet50_fpn,"
MODELS += "ssdlite320_mobilenet_v3_large"


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    given = options(__doc__, argv, models=MODELS, images=16, turns=7, classes=21)
    torch.set_num_threads(1)
    for name in given.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            keep(*_figures(name, Path(folder), given))
    return 0


def _figures(name: str, folder: Path, given: Any) -> list[Figure]:
    torch.manual_seed(0)
    sizes = {} if name.startswith("ssdlite") else {"min_size": SIDE, "max_size": SIDE}
    model = getattr(detection, name)(
        weights=None, weights_backbone=None, num_classes=given.classes, **sizes
    )
    items = [_item(row, given.classes) for row in range(given.images)]
    batches = [as_lists(items[row : row + BATCH]) for row in range(0, len(items), BATCH)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    store = Store(f"sqlite:///{folder / 'mlflow.db'}")
    with store.run(name="benchmark") as run:
        more: Any = {"run_id": run.run_id, "store": store, "spool": folder / "spool"}
        track = RecordedDetector(model, **more)
        probe = DetectorProbe(model, items, batch_size=BATCH, boxes=False, **more)
        ways = {
            "recorded": lambda: _train(model, track, optimizer, batches),
            "training": lambda: _train(model, model, optimizer, batches),
            "probe": probe.after_epoch,
            "validation": lambda: _validate(model, batches),
            "losses": lambda: _losses(model, batches),
        }
        seconds = in_turns(ways, turns=given.turns, clock=time.process_time)
        track.finish()
        probe.finish()
    details = {way: f"{Spread.of(taken)} s" for way, taken in seconds.items()}
    return [
        Figure(
            name=f"inline recording of {name}",
            against="the same steps without it",
            value=ratios(seconds, "recorded", "training"),
            target="<= 1.02",
            details=details,
        ),
        Figure(
            name=f"probe of {name}",
            against="a validation pass",
            value=ratios(seconds, "probe", "validation"),
            target="<= 1.1",
        ),
        Figure(
            name=f"probe of {name}",
            against="a pass that computes the losses of batches",
            value=ratios(seconds, "probe", "losses"),
            target="<= 1.1",
        ),
    ]


def _item(row: int, n_classes: int) -> tuple[torch.Tensor, dict[str, Any]]:
    generator = torch.Generator().manual_seed(row)
    corner = torch.rand(6, 2, generator=generator) * SIDE / 2
    sides = torch.rand(6, 2, generator=generator) * SIDE / 3 + 16
    labels = torch.randint(1, n_classes, (6,), generator=generator)
    boxes = torch.cat([corner, corner + sides], dim=1)
    image = torch.rand(3, SIDE, SIDE, generator=generator)
    return image, {"boxes": boxes, "labels": labels, "image_id": row}


def _train(model: Any, called: Any, optimizer: Any, batches: Sequence[Any]) -> None:
    model.train()
    for images, targets in batches:
        loss = torch.stack(list(called(images, targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if called is not model:
        called.end_epoch()


@torch.no_grad()
def _validate(model: Any, batches: Sequence[Any]) -> None:
    model.eval()
    for images, _ in batches:
        model(images)


@torch.no_grad()
def _losses(model: Any, batches: Sequence[Any]) -> None:
    model.train()
    for images, targets in batches:
        model(images, targets)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
