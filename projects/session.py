"""One training, whatever the task: the session, its recorders, and the epochs of the trainer."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from actiontrack.analysis.slices import read_metadata_file
from actiontrack.errors import ParameterError
from actiontrack.recorder import EpochSummary, Recorder
from actiontrack.store import RunInfo, Store
from projects.checkpoint import Checkpoint
from projects.distributed import ALONE, Group
from projects.loading import Normalisation
from projects.loop import (
    Compute,
    LossFunction,
    Observe,
    evaluate,
    make_optimizer,
    seed_everything,
    set_learning_rate,
    train_epoch,
)
from projects.params.training import LoopParams
from projects.tasks.task import Task

__all__ = ["RunningLoss", "Session", "Trainer", "by_mode", "open_recorders", "progress"]


def _ignore(*_: Any) -> None:
    """Ignore a batch."""


@dataclass(frozen=True)
class Session:
    """All that one training needs."""

    params: Any  # parameters, splits and model are of the task's own kinds
    compute: Compute
    train: Any
    test: Any
    normalisation: Normalisation
    generator: torch.Generator
    model: Any
    group: Group
    task: Task

    @classmethod
    def prepare(
        cls,
        params: LoopParams,
        compute: Compute,
        splits: tuple[Any, Any],
        *,
        task: Task,
        group: Group = ALONE,
    ) -> "Session":
        """Seed everything, then build the model that the seed gives.

        Args:
            params: of the task's own class.
            compute: where and how precisely to compute.
            splits: training and evaluated split.
            task: what is learnt.
            group: processes that train together.
        """
        train_split, test_split = splits
        generator = seed_everything(params)
        model = task.build(params, train_split).to(
            compute.device,
            memory_format=torch.channels_last,  # type: ignore[call-overload]
        )
        normalisation = Normalisation.of(train_split)
        if not group.is_main:
            torch.manual_seed(params.seed + group.rank)  # every process drops out its own units
        return cls(
            params, compute, train_split, test_split, normalisation, generator, model, group, task
        )

    def split(self, name: str) -> Any:
        """The split of this name."""
        return self.train if name == "train" else self.test

    def train_epoch(
        self,
        optimizer: Optimizer,
        observe: Observe = _ignore,
        *,
        model: Any = None,
        epoch: int | None = None,
    ) -> float:
        """Update the model on every training sample once, see `loop.train_epoch`.

        Args:
            optimizer: of the model's weights.
            observe: sees the outputs of each batch.
            model: called instead of `model`, such as its wrapper for a group of processes.
            epoch: its number, from 0, for the learning rate. Default: as the optimiser has it.

        Returns:
            Seconds that the epoch took.
        """
        return train_epoch(
            self.model if model is None else model,
            optimizer,
            self.train,
            params=self.params,
            compute=self.compute,
            normalisation=self.normalisation,
            generator=self.generator,
            observe=observe,
            group=self.group,
            loss_function=self.task.training_loss(self.params),
            augment=self.task.augment,
            forward=self.task.forward,
            epoch=epoch,
        )

    def fit(self, after_epoch: Callable[[], object] = lambda: None) -> None:
        """Train to the last epoch without evaluation passes."""
        optimizer = make_optimizer(self.model, self.params)
        for epoch in range(self.params.epochs):
            self.train_epoch(optimizer, epoch=epoch)
            after_epoch()

    def evaluate(self, images: Any, observe: Observe, *, group: Group = ALONE) -> None:
        """One evaluation pass over a split, see `loop.evaluate`."""
        evaluate(
            self.model,
            images,
            compute=self.compute,
            normalisation=self.normalisation,
            observe=observe,
            group=group,
            batch_size=self.task.probe_batch,
            forward=self.task.forward,
        )


class Trainer:
    """Epochs of training, each followed by its evaluation passes and a checkpoint.

    Args:
        session: what is trained.
        probes: recorders of evaluation passes, by split.
        inline: recorder of the training batches.
    """

    def __init__(
        self, session: Session, probes: Mapping[str, Recorder], inline: Recorder | None
    ) -> None:
        params = session.params
        self._session, self._probes, self._inline = session, probes, inline
        self._optimizer = make_optimizer(session.model, params)
        self._checkpoint = Checkpoint(Path(params.checkpoint)) if params.checkpoint else None
        self._done = self._restore()
        self._model = _in_group(session)
        self._running = RunningLoss(session.compute.device, session.task.loss)
        self._per_epoch = session.group.n_batches(len(session.train), params.batch_size)
        self._bar = tqdm(
            total=params.epochs * self._per_epoch,
            initial=self._done * self._per_epoch,
            desc="training",
            unit="batch",
            mininterval=0.5,
            disable=not session.group.is_main,
        )

    def run(self) -> None:
        """Train to the last epoch, from the checkpoint where there is one."""
        params = self._session.params
        with self._bar:
            if params.record_initial and not self._done:
                self._probe(epoch=0, delta=1.0, metrics={})
            for epoch in range(self._done + 1, params.epochs + 1):
                self._epoch(epoch)

    def _epoch(self, epoch: int) -> None:
        params = self._session.params
        rate = set_learning_rate(self._optimizer, params, epoch - 1)
        seconds = self._session.train_epoch(
            self._optimizer, self._observe, model=self._model, epoch=epoch - 1
        )
        delta = {"epoch": 1.0, "batch": float(self._per_epoch), "wall_time": seconds}[
            params.delta_n
        ]
        metrics = {"train/loss": self._running.take(), "learning_rate": rate}
        if self._inline is not None:
            self._inline.end_epoch(epoch, delta=delta, metrics=metrics)
        summary = self._probe(epoch=epoch, delta=delta, metrics=metrics)
        self._save(epoch)
        if summary is not None:
            self._bar.set_postfix_str(progress(epoch, params.epochs, summary))

    def _observe(self, ids: Any, logits: Tensor, targets: Tensor) -> None:
        self._running.add(logits, targets)
        if self._inline is not None:
            self._session.task.record(self._inline, ids, logits.detach(), targets)
        self._bar.update()

    def _probe(
        self, *, epoch: int, delta: float, metrics: Mapping[str, float]
    ) -> EpochSummary | None:
        """Evaluate each probed split; returns the summary of the test split, or of the other."""
        session, summary = self._session, None
        for split, recorder in sorted(self._probes.items(), reverse=True):
            session.task.start_pass(recorder.name, last=epoch == session.params.epochs)
            observe = partial(session.task.record, recorder)
            session.evaluate(session.split(split), observe, group=session.group)
            measured = {**metrics, **session.task.metrics(recorder.name)}
            summary = recorder.end_epoch(epoch, delta=delta, metrics=measured)
        return summary

    def _restore(self) -> int:
        if self._checkpoint is None:
            return 0
        session = self._session
        return self._checkpoint.load(session.model, self._optimizer, session.generator)

    def _save(self, epoch: int) -> None:
        session = self._session
        if self._checkpoint is not None and session.group.is_main:
            self._checkpoint.save(epoch, session.model, self._optimizer, session.generator)


def _in_group(session: Session) -> nn.Module:
    """The model, averaging its gradients over the group where there are several processes."""
    model: nn.Module = session.model
    if session.group.size == 1:
        return model
    return nn.parallel.DistributedDataParallel(model)


class RunningLoss:
    """Mean training loss of an epoch, summed on the device so that no step waits for it."""

    def __init__(
        self, device: torch.device, loss: LossFunction = nn.functional.cross_entropy
    ) -> None:
        self._device, self._loss = device, loss
        self._total, self._count = torch.zeros((), device=device), 0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch: outputs of the model, (batch, …), and its targets, (batch, …)."""
        self._total += self._loss(outputs.detach(), targets) * len(targets)
        self._count += len(targets)

    def take(self) -> float:
        """Return the mean so far and start again."""
        mean = float(self._total) / max(self._count, 1)
        self._total, self._count = torch.zeros((), device=self._device), 0
        return mean


def progress(epoch: int, epochs: int, summary: EpochSummary) -> str:
    """Text of a progress bar after an epoch."""
    accuracy = "" if summary.accuracy is None else f", accuracy {summary.accuracy:.1%}"
    return f"epoch {epoch}/{epochs}: loss {summary.mean_loss:.3f}{accuracy}"


def open_recorders(
    stack: ExitStack, session: Session, store: Store | None, run: RunInfo | None
) -> dict[tuple[str, str], Recorder]:
    """A recorder for each split and mode that the parameters ask for, finished by the stack.

    Raises:
        DataError: if the file of metadata can't be read.
        ParameterError: if it names no sample of any recorded split.
    """
    metadata = _metadata(session)
    return {
        (split, mode): stack.enter_context(
            _recorder(session, store, run, split=split, mode=mode, metadata=metadata.get(split))
        )
        for split, mode in _records(session.params)
    }


def by_mode(
    recorders: Mapping[tuple[str, str], Recorder],
) -> tuple[dict[str, Recorder], Recorder | None]:
    """The recorders of evaluation passes, by split, and that of the training batches."""
    probes = {split: recorder for (split, mode), recorder in recorders.items() if mode == "probe"}
    return probes, recorders.get(("train", "inline"))


def _records(params: LoopParams) -> list[tuple[str, str]]:
    """Split and mode of each record."""
    records: list[tuple[str, str]] = []
    for split in params.record:
        if params.mode in {"probe", "both"} or split == "test":
            records.append((split, "probe"))
        if params.mode in {"inline", "both"} and split == "train":
            records.append((split, "inline"))
    return records


def _metadata(session: Session) -> dict[str, pd.DataFrame]:
    """The attributes of the samples of each recorded split that the file of metadata names."""
    params = session.params
    if not params.metadata:
        return {}
    frame = read_metadata_file(Path(params.metadata).expanduser(), columns=params.metadata_columns)
    of_split = {}
    for split in params.record:
        rows = frame["sample_id"].isin(session.split(split).ids.astype(str))
        if rows.any():
            of_split[split] = frame.loc[rows]
    if not of_split:
        example = str(session.split(params.record[0]).ids[0])
        rule = f"must name samples of {' or '.join(params.record)}, whose ids look like {example!r}"
        remedy = "Ids are compared as text, never by position: write those of the record."
        raise ParameterError("metadata", rule, frame["sample_id"].iloc[0], remedy)
    return of_split


def _recorder(
    session: Session,
    store: Store | None,
    run: RunInfo | None,
    *,
    split: str,
    mode: str,
    metadata: pd.DataFrame | None,
) -> Recorder:
    images = session.split(split)
    root = None if images.root is None else str(Path(images.root).resolve())
    recorder = session.task.recorder_class(
        split,
        mode=mode,
        run_id=run.run_id if run else None,
        store=store,
        resume=bool(session.params.checkpoint),
        gather=session.group.gather,
        allow_uniform=True,  # the losses are ours, one per sample
        verbose=False,  # the entry point prints, and logs a report of its own
        report=False,
        model=session.params.model,
        class_names=images.class_names,
        delta_kind=session.params.delta_n,
        first_epoch=1,  # 0 is the untrained model
        source={"kind": "folder", "root": root} if root else {"kind": "named", "name": images.name},
        **session.task.recorder_options(session.params, images),
    )
    recorder.describe_samples(
        images.ids,
        paths=images.paths,
        input_digests=images.input_digests,
        metadata=metadata,
        metadata_columns=session.params.metadata_columns,
        **session.task.samples(images),
    )
    return recorder
