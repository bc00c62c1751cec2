"""What recording costs a training: `python -m benchmarks.training`.

Images of CIFAR-10's size with random pixels (time does not depend on what they show), cnn3, the
loop of `projects/train.py`. Three ratios, each of two ways in turns on the same data:

* batches of a training with an inline recorder against the batches between them without it: every
  second batch is recorded, so that a machine that is now faster and now slower is so for both. A
  recorded one bears its part of the end of an epoch of all batches, and on the CPU of the upload;
* an evaluation pass that records (the probe) against a bare one;
* an epoch of `projects/train.py`'s loop against the shortest honest loop in PyTorch: the same
  model, batches, normalisation and optimiser, in a dozen lines.

On the CPU time is that of the process, which leaves out what other programs take; on CUDA it is
that of events in the device's stream.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from actiontrack.recorder import Recorder
from actiontrack.store import Store
from benchmarks.measure import Figure, Spread, in_turns, keep, options, ratios
from projects.datasets import ImageSplit
from projects.loop import choose_compute, make_optimizer
from projects.params import TrainParams, validate
from projects.session import Session
from projects.tasks.classification import Classification


@dataclass
class Setting:
    """A session with data of its own, and a recorder of each kind."""

    session: Session
    inline: Recorder
    probe: Recorder


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    given = options(__doc__, argv, images=10_000, turns=7, device="auto")
    with tempfile.TemporaryDirectory() as folder:
        setting = _setting(Path(folder), given.images, given.device)
        cuda = setting.session.compute.device.type == "cuda"
        clock = _cuda_clock() if cuda else time.process_time
        ways = {
            "training": lambda: _train(setting),
            "shortest loop": lambda: _shortest(setting),
            "probe": lambda: _evaluate(setting, record=True),
            "bare evaluation": lambda: _evaluate(setting, record=False),
        }
        seconds = in_turns(ways, turns=given.turns, clock=clock)
        epochs = range(2 * given.turns + 1)
        batches = [_every_second(setting, epoch % 2, clock) for epoch in epochs][1:]
        setting.inline.finish()
        setting.probe.finish()
    details = {name: f"{Spread.of(each)} s" for name, each in seconds.items()}
    recorded, bare, calls = np.array(batches).T
    for name, each in (("batch, recorded", recorded), ("batch", bare)):
        details[name] = f"{Spread.of(each * 1e3)} ms"
    details["calls of the recorder and upload by themselves"] = (
        f"{Spread.of(calls / bare * 100)} % of the training"
    )
    size = f"{given.images:,} images"
    keep(
        Figure(
            name=f"inline recording, {size}",
            against="the same batches without it",
            value=Spread.of(recorded / bare),
            target="<= 1.01",
            details=details,
        ),
        Figure(
            name=f"probe, {size}",
            against="a bare evaluation pass",
            value=ratios(seconds, "probe", "bare evaluation"),
            target="<= 1.05",
        ),
        Figure(
            name=f"training loop of projects/train.py, {size}",
            against="the shortest loop in PyTorch",
            value=ratios(seconds, "training", "shortest loop"),
            target="<= 1.03",
        ),
    )
    return 0


def _cuda_clock() -> Callable[[], float]:
    """Seconds on the device, by events: what was sent before is done."""

    def event() -> torch.cuda.Event:
        made = torch.cuda.Event(enable_timing=True)
        made.record()
        made.synchronize()
        return made

    start = event()
    return lambda: start.elapsed_time(event()) / 1e3


def _setting(folder: Path, n_images: int, device: str) -> Setting:
    rng = np.random.default_rng(0)
    split = ImageSplit(
        images=torch.from_numpy(rng.integers(0, 256, (n_images, 3, 32, 32), dtype=np.uint8)),
        labels=torch.from_numpy(rng.integers(0, 10, n_images)),
        ids=np.arange(n_images),
        class_names=tuple(map(str, range(10))),
        name="random",
        split="train",
    )
    params = validate(TrainParams, {"model": "cnn3", "device": device, "deterministic": False})
    session = Session.prepare(params, choose_compute(params), (split, split), task=Classification())
    store = Store(f"sqlite:///{folder / 'mlflow.db'}")
    with store.run(name="benchmark") as run:
        options: Any = {"run_id": run.run_id, "store": store, "spool": folder / "spool"}
        return Setting(
            session,
            Recorder("train", mode="inline", **options),
            Recorder("train", mode="probe", **options),
        )


def _train(setting: Setting) -> None:
    session = setting.session
    session.train_epoch(make_optimizer(session.model, session.params))


def _every_second(
    setting: Setting, first: int, clock: Callable[[], float]
) -> tuple[float, float, float]:
    """Seconds of a recorded batch, of one that is not, and of what records; means over an epoch.

    Args:
        setting: what trains and records.
        first: number of the first recorded batch, 0 or 1.
        clock: what counts seconds.
    """
    session, recorder = setting.session, setting.inline
    taken: tuple[list[float], list[float]] = ([], [])
    left: list[list[Any]] = []
    calls: list[float] = []
    since = clock()

    def observe(*batch: Any) -> None:
        nonlocal since
        number = len(taken[0]) + len(taken[1])
        record = number % 2 == first
        before = clock()
        if record:
            session.task.record(recorder, *batch)
        now = clock()
        taken[0 if record else 1].append(now - since)
        if record:
            calls.append(now - before)
        else:
            left.append([each.detach() if hasattr(each, "detach") else each for each in batch])
        since = clock()

    session.train_epoch(make_optimizer(session.model, session.params), observe)
    for each in left:
        session.task.record(recorder, *each)
    start = clock()
    recorder.end_epoch()
    while clock is time.process_time and not recorder.synced:
        time.sleep(0.01)
    end = (clock() - start) / (len(taken[0]) + len(taken[1]))
    recorded, bare = (float(np.mean(each[1:])) for each in taken)  # the first ones set things up
    return recorded + end, bare, float(np.mean(calls)) + end


def _evaluate(setting: Setting, *, record: bool) -> None:
    session = setting.session
    if record:
        session.evaluate(session.train, partial(session.task.record, setting.probe))
        setting.probe.end_epoch()
    else:
        session.evaluate(session.train, lambda *_: None)


def _shortest(setting: Setting) -> None:
    session = setting.session
    images, labels, model = session.train.images, session.train.labels, session.model
    device, autocast = session.compute.device, session.compute.autocast
    mean = images.float().mean(dim=(0, 2, 3)).view(3, 1, 1).to(device)
    deviation = images.float().std(dim=(0, 2, 3)).view(3, 1, 1).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for batch in torch.randperm(len(images)).split(session.params.batch_size):
        inputs = ((images[batch].to(device).float() - mean) / deviation).contiguous(
            memory_format=torch.channels_last
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            loss = nn.functional.cross_entropy(model(inputs), labels[batch].to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
