"""What recording costs a training of Ultralytics: `python -m benchmarks.yolo`.

A nano detector on scenes of random rectangles. One training; every second validation pass, and
every second training batch, is recorded, so that a machine that is now faster and now slower is so
for both. Time is that of the process, which leaves out what other programs take. A recorded
validation pass bears the end of its epoch and the writing of the record.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from actiontrack.recorder.ultralytics import ActionTrackCallback
from actiontrack.store import Store
from benchmarks.measure import Figure, Spread, keep, options

OFF = {"mosaic": 0.0, "mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0}


class Halves:
    """Seconds of steps that are recorded and of those that are not, in turns."""

    def __init__(self) -> None:
        self.seconds: dict[bool, list[float]] = {True: [], False: []}
        self.records, self._start = False, 0.0

    def begin(self) -> None:
        """A step begins."""
        self._start = time.process_time()

    def end(self) -> None:
        """It ends; some of the recording may follow."""
        self.seconds[self.records].append(time.process_time() - self._start)

    def turn(self, seconds: float) -> None:
        """Add what followed; the next step is of the other kind."""
        self.seconds[self.records][-1] += seconds
        self.records = not self.records

    def ratio(self) -> Spread:
        """Recorded by unrecorded, pair by pair, without the first pair."""
        pairs = list(zip(self.seconds[True], self.seconds[False], strict=False))[1:]
        return Spread.of([one / two for one, two in pairs])


class _Timed(ActionTrackCallback):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.halves = Halves()

    def on_fit_epoch_end(self, trainer: Any) -> None:
        """End the epoch."""
        start = time.process_time()
        super().on_fit_epoch_end(trainer)
        if trainer.epoch < trainer.epochs:
            self.halves.turn(time.process_time() - start)


class EverySecond(_Timed):
    """Records every second validation pass, and takes the time of all of them."""

    def on_val_start(self, validator: Any) -> None:
        """Listen, or not."""
        if not validator.training:
            return
        self.halves.begin()
        if self.halves.records:
            super().on_val_start(validator)

    def on_val_end(self, validator: Any) -> None:
        """The pass is over; what follows of the recording is added."""
        if not validator.training:
            return
        super().on_val_end(validator)
        self.halves.end()


class EveryOtherEpoch(_Timed):
    """Records the batches of every second epoch, and takes the time of all epochs of training."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(mode="inline", **settings)

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Listen, or not."""
        self.halves.begin()
        if self.halves.records:
            super().on_train_epoch_start(trainer)

    def on_val_start(self, validator: Any) -> None:
        """The batches are over."""
        if validator.training:
            self.halves.end()


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    chosen = options(__doc__, argv, images=32, epochs=13, size=256, model="yolo11n.yaml")
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"YOLO_CONFIG_DIR": folder, "YOLO_OFFLINE": "true"}
        figures = _measure(Path(folder), chosen)
    keep(*figures)
    return 0


def _measure(folder: Path, chosen: Any) -> list[Figure]:
    from ultralytics import YOLO, settings  # noqa: PLC0415 - after its settings have a folder

    settings.update({"mlflow": False})
    data, store = _scenes(folder / "data", chosen.images), Store(f"sqlite:///{folder / 'm.db'}")
    figures = []
    for kind, name, against, target in (
        (EverySecond, "probe", "the trainer's own validation pass", "<= 1.1"),
        (EveryOtherEpoch, "inline", "the same epochs of training without it", "<= 1.02"),
    ):
        with store.run(name=name) as run:
            track = kind(run_id=run.run_id, store=store, spool=folder / "spool", delta_kind="epoch")
            model = YOLO(chosen.model)
            track.attach(model)
            given = {"epochs": chosen.epochs, "imgsz": chosen.size, "batch": 8, "device": "cpu"}
            model.train(data=data, project=str(folder), plots=False, **given, **OFF)
        seconds = track.halves.seconds
        details = {
            "recorded": f"{Spread.of(seconds[True][1:])} s",
            "unrecorded": f"{Spread.of(seconds[False][1:])} s",
        }
        size = f"{chosen.model}, {chosen.images} images of {chosen.size}²"
        figures.append(
            Figure(
                name=f"Ultralytics {name}, {size}",
                against=against,
                value=track.halves.ratio(),
                target=target,
                details=details,
            )
        )
    return figures


def _scenes(folder: Path, n_images: int) -> str:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(n_images):
            scene, lines = rng.integers(0, 60, (320, 320, 3), dtype=np.uint8), []
            for _ in range(8):
                (x, y), (width, height) = rng.uniform(0.2, 0.8, 2), rng.uniform(0.1, 0.3, 2)
                left, top = int((x - width / 2) * 320), int((y - height / 2) * 320)
                area = slice(top, top + int(height * 320)), slice(left, left + int(width * 320))
                scene[area] = rng.integers(60, 256, 3)
                lines.append(f"{rng.integers(3)} {x:.5f} {y:.5f} {width:.5f} {height:.5f}")
            for kind in ("images", "labels"):
                (folder / kind / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene).save(folder / "images" / split / f"{number}.png")
            (folder / "labels" / split / f"{number}.txt").write_text("\n".join(lines))
    path = folder / "data.yaml"
    splits = {"path": str(folder), "train": "images/train", "val": "images/val"}
    path.write_text(yaml.safe_dump(splits | {"names": ["a", "b", "c"]}))
    return str(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
