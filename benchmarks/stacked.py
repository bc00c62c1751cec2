"""Several models at once against one after the other: `python -m benchmarks.stacked`.

Both ways train the same models on the same batches, without recording, in turns, so that other
work of the machine falls on both. What is printed is the median over the repetitions, the lowest
and the highest of them, and the speed-up of each repetition's pair.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field

from projects.datasets import load_dataset
from projects.loop import Compute, choose_compute, make_optimizer
from projects.params import Dataset, ModelName, Params, TrainParams, parse, run_main, validate
from projects.session import Session
from projects.stacked import StackedTrainer
from projects.tasks.classification import Classification


class BenchmarkParams(Params):
    """Measure how much faster several models train at once than one after the other."""

    dataset: Dataset = Field("digits", description="images to train on")
    model: ModelName = Field("cnn3", description="architecture")
    models: int = Field(5, ge=2, description="models at once")
    subset: int = Field(0, ge=0, description="training images to use, by class; 0 = all")
    batch_size: int = Field(128, ge=1, description="images per update")
    repetitions: int = Field(5, ge=1, description="of each way, in turns, after one to warm up")
    threads: int = Field(0, ge=0, description="of PyTorch on the CPU; 0 = its default")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute")
    precision: Literal["auto", "float32", "bf16"] = Field("auto", description="of the forward pass")


def main(argv: Sequence[str]) -> None:
    """Time one epoch of training both ways, in turns, and print the ratio."""
    params = parse(BenchmarkParams, argv)
    shared = params.model_dump(exclude={"models", "repetitions"}) | {"epochs": 1}
    trainings = [validate(TrainParams, shared | {"seed": seed}) for seed in range(params.models)]
    compute, splits = choose_compute(trainings[0]), load_dataset(trainings[0])

    def sessions() -> list[Session]:
        return [
            Session.prepare(params, compute, splits, task=Classification()) for params in trainings
        ]

    alone, at_once = [], []
    for repetition in range(params.repetitions + 1):
        pair = _seconds(compute, _alone, sessions()), _seconds(compute, _at_once, sessions())
        if repetition:  # the first one warms up
            alone.append(pair[0])
            at_once.append(pair[1])
    name = torch.cuda.get_device_name() if compute.device.type == "cuda" else "CPU"
    print(
        f"{params.models} models {params.model}, one epoch of {len(splits[0])} images of "
        f"{splits[0].name}, {name}, {torch.get_num_threads()} threads, "
        f"{'bf16' if compute.autocast else 'float32'}"
    )
    print(f"one after the other  {_spread(alone)} s")
    print(f"at once              {_spread(at_once)} s")
    ratios = [one / other for one, other in zip(alone, at_once, strict=True)]
    print(f"speed-up             {_spread(ratios)}")


def _alone(sessions: Sequence[Session]) -> None:
    for session in sessions:
        session.train_epoch(make_optimizer(session.model, session.params))


def _at_once(sessions: Sequence[Session]) -> None:
    StackedTrainer(sessions, [{} for _ in sessions]).run()


def _seconds(
    compute: Compute, train: Callable[[Sequence[Session]], None], sessions: Sequence[Session]
) -> float:
    _wait(compute)
    start = time.perf_counter()
    train(sessions)
    _wait(compute)
    return time.perf_counter() - start


def _wait(compute: Compute) -> None:
    if compute.device.type == "cuda":
        torch.cuda.synchronize()


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    sys.exit(run_main(main))
