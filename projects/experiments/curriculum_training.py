"""Trainings on parts of one training set, several at once, each in a process that keeps the data.

All start from the same seed: the same initial weights. A part is named by the ids of its samples,
in any order.
"""

import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.context import BaseContext
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from actiontrack.errors import ActionTrackError
from actiontrack.record.digest import digest_input, digest_inputs
from projects.datasets import ImageSplit, load_dataset
from projects.datasets.split import Ids
from projects.datasets.stratify import stratified_subset
from projects.loop import choose_compute
from projects.params.training import TrainParams
from projects.session import Session
from projects.tasks.classification import Classification

__all__ = ["Outcome", "PartTrainer", "part_trainer", "train_on"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of one training.

    Attributes:
        n_images: Images that it was trained on.
        accuracy: On the whole test split.
        choosing_accuracy: On the half of the test split by which a choice may be made.
        held_out_accuracy: On the other half.
        n_test: Images of the whole test split.
        seconds: Wall time of training and evaluation.
        initial_weights: Digest of the weights before the first update.
    """

    n_images: int
    accuracy: float
    choosing_accuracy: float
    held_out_accuracy: float
    n_test: int
    seconds: float
    initial_weights: str


class PartTrainer:
    """Trains on parts of a training set. `part_trainer` makes it.

    Args:
        params: The training; nothing is recorded of it.
        parallel: Processes; with 1 it trains in this one.
    """

    def __init__(self, params: TrainParams, *, parallel: int) -> None:
        self._params, self._parallel = params, parallel
        self._pool: ProcessPoolExecutor | None = None

    def train(self, parts: Sequence[Ids], *, description: str = "training") -> list[Outcome]:
        """Train once on each part, as many at once as there are processes.

        Args:
            parts: Ids of the training samples of each, int64 or str (n,).
            description: In front of the progress bar.

        Returns:
            The outcomes, in the order of `parts`.

        Raises:
            DataError: The dataset can't be read.
            ActionTrackError: A process died.
        """
        try:
            work = self._outcomes(parts)
            return list(tqdm(work, total=len(parts), desc=description, unit="training"))
        except BrokenProcessPool as error:
            raise ActionTrackError(
                "a process that trains died, for instance for want of memory. Pass a smaller "
                "--parallel, and start again: what is finished is not done again."
            ) from error

    def close(self, *, at_once: bool) -> None:
        """End the processes, at once or when their work is done."""
        if self._pool is None:
            return
        if at_once:
            for process in multiprocessing.active_children():
                process.terminate()
        self._pool.shutdown(cancel_futures=at_once)

    def _outcomes(self, parts: Sequence[Ids]) -> Iterator[Outcome]:
        several = [self._params] * len(parts)
        if self._parallel == 1:
            return map(train_on, several, parts)
        if self._pool is None:  # not before it is needed: all may be finished already
            self._pool = ProcessPoolExecutor(
                self._parallel,
                mp_context=_fresh_processes(),
                initializer=_leave_interrupts_to_the_parent,
            )
        return self._pool.map(train_on, several, parts)


@contextmanager
def part_trainer(params: TrainParams, *, parallel: int) -> Iterator[PartTrainer]:
    """A `PartTrainer` whose processes end with the block, at once if it fails."""
    trainer = PartTrainer(params, parallel=parallel)
    try:
        yield trainer
    except BaseException:
        trainer.close(at_once=True)
        raise
    trainer.close(at_once=False)


def train_on(params: TrainParams, sample_ids: Ids) -> Outcome:
    """Train from scratch on some training samples as `projects.train` does, then evaluate once.

    Pixels are normalised by those of these samples alone.

    Args:
        params: The training; the same seed gives the same initial weights on any samples.
        sample_ids: int64 or str (n,).

    Raises:
        DataError: The dataset can't be read.
    """
    start = time.monotonic()
    data = _Data.load(params)
    train = data.train.take(np.flatnonzero(np.isin(data.train.ids, sample_ids)))
    session = Session.prepare(
        params, choose_compute(params), (train, data.test), task=Classification()
    )
    weights = _digest(session.model)
    session.fit()
    correct = _correct(session)
    return Outcome(
        n_images=len(train),
        accuracy=float(correct.mean()),
        choosing_accuracy=float(correct[data.choosing].mean()),
        held_out_accuracy=float(correct[~data.choosing].mean()),
        n_test=len(correct),
        seconds=time.monotonic() - start,
        initial_weights=weights,
    )


@dataclass(frozen=True, eq=False)
class _Data:
    """Both splits, and the half of the test split by which to choose, bool (n_test,)."""

    train: ImageSplit
    test: ImageSplit
    choosing: NDArray[np.bool_]

    @classmethod
    @lru_cache(maxsize=1)
    def load(cls, params: TrainParams) -> Self:
        """Read the data, once in each process."""
        train, test = load_dataset(params)
        half = stratified_subset(
            test.ids,
            test.labels.numpy(),
            n_classes=test.n_classes,
            total=len(test) // 2,
            seed=params.split_seed,
        )
        return cls(train, test, np.isin(np.arange(len(test)), half))


def _correct(session: Session) -> NDArray[np.bool_]:
    """Whether each test sample is classified right, (n_test,), in the split's own order."""
    predicted: list[Tensor] = []
    session.evaluate(
        session.test, lambda _, logits, __: predicted.append(logits.argmax(dim=1).cpu())
    )
    correct: NDArray[np.bool_] = (torch.cat(predicted) == session.test.labels).numpy()
    return correct


def _digest(model: nn.Module) -> str:
    """Digest of all weights, 16 hex characters."""
    return digest_inputs(
        digest_input(weights.detach().cpu().numpy()) for weights in model.state_dict().values()
    )[:16]


def _fresh_processes() -> BaseContext:
    """Processes that share nothing with this one, forked from one that has the modules.

    A fork of this process itself could not use its GPU.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
