"""Several models of one architecture trained at once, by `torch.func` over stacked weights.

A GPU that one small model leaves idle is filled by K of them. Each model is that of its own
training: the initial weights, the order of the batches and the augmentation are those that
`projects.train` draws from its seed. Without dropout the losses are the same up to the rounding of
floating point; dropout draws other masks, different ones for each model.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from tqdm.auto import tqdm

from actiontrack.errors import ParameterError, StoreError
from actiontrack.recorder import EpochSummary, Recorder
from actiontrack.reporting import log_run_report
from actiontrack.store import RunInfo, Store
from projects.datasets import load_dataset
from projects.distributed import ALONE
from projects.loading import Batch, batches
from projects.loop import (
    Observe,
    choose_compute,
    evaluate,
    look_ahead,
    make_optimizer,
    set_learning_rate,
)
from projects.params.reading import to_strings
from projects.params.training import TrainParams
from projects.run_log import log_extras, log_setup
from projects.session import RunningLoss, Session, by_mode, open_recorders, progress
from projects.tasks.classification import Classification
from projects.tasks.task import Task

__all__ = ["StackedModels", "StackedTrainer", "train_stacked"]

#: Values that several trainings at once can have.
_TOGETHER = {"checkpoint": ("",), "run_id": ("",), "delta_n": ("epoch", "batch")}
Recorders = Mapping[tuple[str, str], Recorder]


class StackedModels(nn.Module):
    """K models of one architecture as one module whose weights have one more dimension, the first.

    One optimiser over the stacked weights does what K optimisers would do, as SGD, Adam and AdamW
    treat every number by itself. The statistics of batch norms are stacked and updated likewise.

    Args:
        models: K modules that differ in their numbers only, on one device.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        weights, buffers = stack_module_state(list(models))
        self._names = tuple(weights)
        self.weights = nn.ParameterDict(
            {_key(name): _row_major(weight.detach()) for name, weight in weights.items()}
        )
        self._statistics = {name: _row_major(statistic) for name, statistic in buffers.items()}
        # In a list, so that its weights, which have no numbers, are not this module's own.
        self._template = [copy.deepcopy(models[0]).to("meta")]

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every model.

        Args:
            images: float (K, batch, C, H, W), a batch for each model, or (batch, C, H, W), the
                same one for all.

        Returns:
            (K, batch, n_classes).
        """
        template = self._template[0].train(self.training)

        def call(weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            logits: Tensor = functional_call(template, (weights, buffers), (x,))
            return logits

        weights = {name: self.weights[_key(name)] for name in self._names}
        image_axis = 0 if images.ndim == 5 else None
        stacked = vmap(call, in_dims=(0, 0, image_axis), randomness="different")
        logits: Tensor = stacked(weights, self._statistics, _row_major(images))
        return logits

    def unstacked(self) -> list[dict[str, Tensor]]:
        """The state of each model, as `nn.Module.load_state_dict` takes it."""
        weights = {name: self.weights[_key(name)].detach() for name in self._names}
        stacked = weights | self._statistics
        n_models = len(next(iter(weights.values())))
        return [{name: tensor[k] for name, tensor in stacked.items()} for k in range(n_models)]


def _key(name: str) -> str:
    """The name of a weight as a key of `nn.ParameterDict`, which takes no dots; its end stays."""
    return name.replace(".", "/")


def _row_major(tensor: Tensor) -> Tensor:
    """A copy with plain strides: `vmap` has no rule for pooling in channels_last memory.

    `contiguous` would keep channels_last strides wherever a size of 1 makes them ambiguous.
    """
    return tensor.clone(memory_format=torch.contiguous_format)


class StackedTrainer:
    """Epochs of K trainings at once, each followed by their evaluation passes.

    Args:
        sessions: one for each model; they differ in the seed only.
        recorders: for each model its recorders by split and mode, or none.
    """

    def __init__(self, sessions: Sequence[Session], recorders: Sequence[Recorders]) -> None:
        first = sessions[0]
        self._sessions, self._params, self._compute = sessions, first.params, first.compute
        self._models = StackedModels([session.model for session in sessions])
        self._optimizer = make_optimizer(self._models, self._params)
        self._running = [RunningLoss(first.compute.device) for _ in sessions]
        self._recorders = [by_mode(of_model) for of_model in recorders]
        self._per_epoch = ALONE.n_batches(len(first.train), self._params.batch_size)

    def run(self) -> None:
        """Train to the last epoch, then give each session's model its weights."""
        params = self._params
        with tqdm(
            total=params.epochs * self._per_epoch,
            desc=f"training {len(self._sessions)} models",
            unit="batch",
            mininterval=0.5,
        ) as bar:
            if params.record_initial:
                self._probe(epoch=0, delta=1.0, metrics=[{} for _ in self._sessions])
            for epoch in range(1, params.epochs + 1):
                summary = self._epoch(epoch, bar)
                if summary is not None:
                    bar.set_postfix_str(progress(epoch, params.epochs, summary))
        for session, state in zip(self._sessions, self._models.unstacked(), strict=True):
            session.model.load_state_dict(state)

    def _epoch(self, epoch: int, bar: "tqdm[Any]") -> EpochSummary | None:
        rate = set_learning_rate(self._optimizer, self._params, epoch - 1)
        self._update(epoch - 1, bar)
        delta = 1.0 if self._params.delta_n == "epoch" else float(self._per_epoch)
        metrics = [
            {"train/loss": running.take(), "learning_rate": rate} for running in self._running
        ]
        for (_, inline), of_model in zip(self._recorders, metrics, strict=True):
            if inline is not None:
                inline.end_epoch(epoch, delta=delta, metrics=of_model)
        return self._probe(epoch=epoch, delta=delta, metrics=metrics)

    def _update(self, epoch: int, bar: "tqdm[Any]") -> None:
        """One pass of updates of every model, the pass with the number `epoch`, from 0."""
        self._models.train()
        smoothing = self._params.label_smoothing
        steps = zip(*(self._batches(session) for session in self._sessions), strict=True)
        for position, step in enumerate(steps):
            set_learning_rate(self._optimizer, self._params, epoch + position / self._per_epoch)
            images = torch.stack([batch[1] for batch in step])
            labels = torch.stack([batch[2] for batch in step])
            logits = self._compute.forward(self._models, images)
            # The sum over the models of the mean over each one's batch.
            total = nn.functional.cross_entropy(
                logits.flatten(0, 1),
                labels.flatten(0, 1),
                reduction="sum",
                label_smoothing=smoothing,
            )
            self._optimizer.zero_grad(set_to_none=True)
            (total / labels.shape[1]).backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            done = epoch * self._per_epoch + position + 1
            look_ahead(self._optimizer, self._params, done=done, per_epoch=self._per_epoch)
            self._observe(step, logits)
            bar.update()

    @staticmethod
    def _batches(session: Session) -> Iterator[Batch]:
        params = session.params
        return batches(
            session.train,
            batch_size=params.batch_size,
            normalisation=session.normalisation,
            shuffle=True,
            generator=session.generator,
            device=session.compute.device,
            augment=params.augment,
        )

    def _observe(self, step: Sequence[Batch], logits: Tensor) -> None:
        for running, (_, _, labels), of_model in zip(self._running, step, logits, strict=True):
            running.add(of_model, labels)
        record = self._sessions[0].task.record
        for (_, inline), (ids, _, labels), of_model in zip(
            self._recorders, step, logits, strict=True
        ):
            if inline is not None:
                record(inline, ids, of_model, labels)

    def _probe(
        self, *, epoch: int, delta: float, metrics: Sequence[Mapping[str, float]]
    ) -> EpochSummary | None:
        """Evaluate each probed split; returns the first model's summary of the test split."""
        first, summary = self._sessions[0], None
        for split in sorted(self._recorders[0][0], reverse=True):
            recorders = [probes[split] for probes, _ in self._recorders]
            evaluate(
                self._models,
                first.split(split),
                compute=self._compute,
                normalisation=first.normalisation,
                observe=_into_each(recorders, first.task),
            )
            summaries = [
                recorder.end_epoch(epoch, delta=delta, metrics=of_model)
                for recorder, of_model in zip(recorders, metrics, strict=True)
            ]
            summary = summaries[0]
        return summary


def _into_each(recorders: Sequence[Recorder], task: Task) -> Observe:
    def observe(ids: object, logits: Tensor, labels: Tensor) -> None:
        for recorder, of_model in zip(recorders, logits, strict=True):
            task.record(recorder, ids, of_model, labels)

    return observe


def train_stacked(
    trainings: Sequence[TrainParams], store: Store, *, tags: Sequence[Mapping[str, str]] = ()
) -> list[RunInfo]:
    """Train several models at once, each in a run of its own below the active one.

    The runs hold what `projects.train` would have left in them.

    Args:
        trainings: they differ in the seed, and in reports and thumbnails, only.
        store: the tracking server.
        tags: of each run. Default: none.

    Returns:
        The runs, in the order of `trainings`.

    Raises:
        ParameterError: if the trainings differ in more than the seed, or ask for what belongs to
            a training of its own: a checkpoint, a run to continue, wall time as Δn.
        StoreError: if something could not be uploaded; it is safe in the spool.
    """
    _check(trainings)
    compute, splits = choose_compute(trainings[0]), load_dataset(trainings[0])
    with store.runs([f"{params.model} seed {params.seed}" for params in trainings]) as runs:
        for run, run_tags in zip(runs, tags, strict=bool(tags)):
            store.set_tags(run.run_id, run_tags)
        task = Classification()
        sessions = [Session.prepare(params, compute, splits, task=task) for params in trainings]
        for session, run in zip(sessions, runs, strict=True):
            log_setup(store, run, session)
        _train_and_record(sessions, store, runs)
        trained = [store.get_run(run.run_id) for run in runs]
        for run, params in zip(trained, trainings, strict=True):
            for record in run.records if params.report else ():
                log_run_report(store.open_record(run, record))
    return [store.get_run(run.run_id) for run in runs]


def _train_and_record(sessions: Sequence[Session], store: Store, runs: Sequence[RunInfo]) -> None:
    with ExitStack() as stack:
        recorders = [
            open_recorders(stack, session, store, run)
            for session, run in zip(sessions, runs, strict=True)
        ]
        StackedTrainer(sessions, recorders).run()
        for session, run, of_model in zip(sessions, runs, recorders, strict=True):
            log_extras(session, of_model.values(), store, run)
    missing = [
        run.run_id
        for run, of_model in zip(runs, recorders, strict=True)
        if not all(recorder.synced for recorder in of_model.values())
    ]
    if missing:
        raise StoreError(
            f"the records of {len(missing)} of {len(runs)} runs are not uploaded, the first is "
            f"{missing[0]}. Upload them with 'actiontrack sync'."
        )


def _check(trainings: Sequence[TrainParams]) -> None:
    remedy = "Train them one after the other with projects.train."
    different = _differences(trainings)
    if different:
        rule = "must agree in all but the seed to be trained at once"
        raise ParameterError("trainings", rule, ", ".join(different), remedy)
    for name, allowed in _TOGETHER.items():
        value = getattr(trainings[0], name)
        if value not in allowed:
            choice = " or ".join(value or "empty" for value in allowed)
            rule = f"must be {choice} to train several models at once"
            raise ParameterError(name, rule, value, remedy)


def _differences(trainings: Sequence[TrainParams]) -> list[str]:
    """Names of what differs beside the seed; wrong labels drawn from the seed are different."""
    values = [to_strings(params) for params in trainings]
    for texts, params in zip(values, trainings, strict=True):
        texts["noise_seed"] = str(params.effective_noise_seed if params.label_noise else "")
    others = values[0].keys() - {"seed", "report", "thumbnails"}
    return sorted(name for name in others if len({texts[name] for texts in values}) > 1)
