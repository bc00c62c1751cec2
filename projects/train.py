"""`mlflow run . -e train`: train a classifier, record every sample's loss at every epoch."""

import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from actiontrack.errors import StoreError
from actiontrack.record.digest import digest_ids, digest_input, digest_inputs, digest_labels
from actiontrack.recorder import EpochSummary, Recorder
from actiontrack.reporting import describe_run, log_run_report
from actiontrack.store import RunInfo, Store
from projects.checkpoint import Checkpoint
from projects.datasets import ImageSplit, digest_file, load_dataset
from projects.distributed import ALONE, Group, process_group
from projects.loading import Normalisation, batches
from projects.loop import (
    PROBE_BATCH,
    Compute,
    LossFunction,
    Observe,
    choose_compute,
    evaluate,
    make_optimizer,
    seed_everything,
    set_learning_rate,
    train_epoch,
)
from projects.models import Classifier, build_model
from projects.params import LoopParams, TrainParams, parse, run_main, to_strings
from projects.pictures import to_png
from projects.tasks.task import Task, TaskSplit

__all__ = [
    "Classification",
    "RunningLoss",
    "Session",
    "assist",
    "by_mode",
    "class_probabilities",
    "lasting",
    "log_extras",
    "log_setup",
    "main",
    "open_recorders",
    "progress",
    "train",
]

_MAX_THUMBNAIL_BYTES = 64 * 2**20
_PASSING = frozenset({"checkpoint", "data_dir", "report", "run_id"})
SOFT_LOSS = "soft_cross_entropy"  # never compared with the cross-entropy of labels


def main(argv: Sequence[str]) -> int:
    """Train as the command line says and print what was found.

    Returns:
        0, or the exit code of `StoreError` if something could not be uploaded.
    """
    params = parse(TrainParams, argv)
    store = Store()
    with process_group() as group:
        if not group.is_main:
            assist(params, group)
            return 0
        run, synced = train(params, store, group=group)
    if not synced:
        return StoreError.exit_code
    print(describe_run(store, run, report=params.report))
    return 0


class Classification(Task):
    """Images to classes; the labels may be soft."""

    def load(self, params: TrainParams) -> tuple[ImageSplit, ImageSplit]:
        """Read the dataset that the parameters name."""
        return load_dataset(params)

    def build(self, params: TrainParams, train: ImageSplit) -> Classifier:
        """The classifier that the parameters name."""
        return build_model(
            params.model,
            in_channels=train.in_channels,
            image_size=train.image_size,
            n_classes=train.n_classes,
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of logits (batch, n_classes) with labels or soft labels."""
        return nn.functional.cross_entropy(outputs, targets)

    def record(self, recorder: Recorder, ids: Any, outputs: Tensor, targets: Tensor) -> None:
        """Record each batch; the label of a soft label is its most likely class."""
        if targets.ndim == 1:
            recorder.update(ids, logits=outputs, labels=targets)
            return
        losses = nn.functional.cross_entropy(outputs, targets, reduction="none")
        recorder.update(ids, losses, logits=outputs, labels=targets.argmax(dim=1))

    def samples(self, images: ImageSplit) -> Mapping[str, Any]:
        """Labels, and the true ones where the labels are noisy."""
        return {"labels": images.labels, "true_labels": images.true_labels}

    def recorder_options(self, params: Any, images: ImageSplit) -> Mapping[str, Any]:  # noqa: ARG002
        """The loss of soft labels has a name of its own."""
        return {"loss_name": None if images.soft_labels is None else SOFT_LOSS}

    def describe_model(self, params: TrainParams, train: ImageSplit) -> Mapping[str, Any]:
        """The arguments of `build_model`."""
        return {
            "name": params.model,
            "in_channels": train.in_channels,
            "image_size": train.image_size,
            "n_classes": train.n_classes,
            "class_names": train.class_names,
        }

    def log_extras(self, session: "Session", recorder: Recorder, images: ImageSplit) -> None:
        """Features and probabilities, where they are asked for."""
        if session.params.save_features:
            recorder.log_features(images.ids, _features(session, images))
        if session.params.save_probabilities:
            recorder.log_probabilities(images.ids, class_probabilities(session, images))


CLASSIFICATION = Classification()


def train(
    params: LoopParams,
    store: Store,
    *,
    nested: bool = False,
    group: Group = ALONE,
    task: Task = CLASSIFICATION,
) -> tuple[RunInfo, bool]:
    """Train once in a run of the tracking server.

    Args:
        params: what to train on what, and what to record.
        store: the tracking server.
        nested: whether the run is a child of the active one.
        group: processes that train together; the others call `assist`.
        task: what is learnt.

    Returns:
        The run, and whether all of its records are in the artifact store.
    """
    compute = choose_compute(params)
    splits = task.load(params)
    name = f"{params.model} seed {params.seed}"
    with store.run(run_id=params.run_id or None, name=name, nested=nested) as run:
        session = Session.prepare(params, compute, splits, group, task)
        log_setup(store, run, session)
        synced = _train_and_record(session, store, run)
        if synced and params.report:
            for record in store.get_run(run.run_id).records:
                log_run_report(store.open_record(run.run_id, record))
        return run, synced


def assist(params: LoopParams, group: Group, task: Task = CLASSIFICATION) -> None:
    """Train along with the process that calls `train`, and speak to no server."""
    session = Session.prepare(params, choose_compute(params), task.load(params), group, task)
    _train_and_record(session, None, None)


def _ignore(*_: Any) -> None:
    """See nothing of a batch."""


@dataclass(frozen=True)
class Session:
    """All that one training run needs."""

    params: Any  # parameters, splits and model are of the task's own kinds
    compute: Compute
    train: Any
    test: Any
    normalisation: Normalisation
    generator: torch.Generator
    model: Any
    group: Group
    task: Task = CLASSIFICATION

    @classmethod
    def prepare(
        cls,
        params: LoopParams,
        compute: Compute,
        splits: tuple[Any, Any],
        group: Group = ALONE,
        task: Task = CLASSIFICATION,
    ) -> "Session":
        """Seed, then build the model that the seed gives."""
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
        self, optimizer: Optimizer, observe: Observe = _ignore, *, model: Any = None
    ) -> float:
        """Update the model on every training sample once, see `loop.train_epoch`.

        Args:
            optimizer: of the model's weights.
            observe: sees the outputs of each batch. Default: nobody does.
            model: what is called instead of `model`, such as a wrapper of it for a group.

        Returns:
            Seconds that it took.
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
            loss_function=self.task.loss,
            augment=self.task.augment,
        )

    def fit(self, after_epoch: Callable[[], object] = lambda: None) -> None:
        """Train to the last epoch without evaluation passes."""
        optimizer = make_optimizer(self.model, self.params)
        for epoch in range(self.params.epochs):
            set_learning_rate(optimizer, self.params, epoch)
            self.train_epoch(optimizer)
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
        )


def _train_and_record(session: Session, store: Store | None, run: RunInfo | None) -> bool:
    with ExitStack() as stack:
        recorders = open_recorders(stack, session, store, run)
        probes, inline = by_mode(recorders)
        _Trainer(session, probes, inline).run()
        if store is not None and run is not None:
            log_extras(session, recorders.values(), store, run)
    return all(each.synced for each in recorders.values())


class _Trainer:
    """Epochs of training, each followed by its evaluation passes and a checkpoint."""

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
        seconds = self._session.train_epoch(self._optimizer, self._observe, model=self._model)
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
            found = {**metrics, **session.task.metrics(recorder.name)}
            summary = recorder.end_epoch(epoch, delta=delta, metrics=found)
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
    """Mean training loss of an epoch, summed on the device: no wait for it in any step."""

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
        """The mean so far, and start again."""
        mean = float(self._total) / max(self._count, 1)
        self._total, self._count = torch.zeros((), device=self._device), 0
        return mean


def progress(epoch: int, epochs: int, summary: EpochSummary) -> str:
    """What a progress bar says after an epoch."""
    accuracy = "" if summary.accuracy is None else f", accuracy {summary.accuracy:.1%}"
    return f"epoch {epoch}/{epochs}: loss {summary.mean_loss:.3f}{accuracy}"


def open_recorders(
    stack: ExitStack, session: Session, store: Store | None, run: RunInfo | None
) -> dict[tuple[str, str], Recorder]:
    """A recorder for each split and mode that the parameters ask for, finished by the stack."""
    return {
        (split, mode): stack.enter_context(_recorder(session, store, run, split, mode))
        for split, mode in _records(session.params)
    }


def by_mode(
    recorders: Mapping[tuple[str, str], Recorder],
) -> tuple[dict[str, Recorder], Recorder | None]:
    """The recorders of evaluation passes, by split, and that of the training batches."""
    probes = {split: each for (split, mode), each in recorders.items() if mode == "probe"}
    return probes, recorders.get(("train", "inline"))


def _records(params: LoopParams) -> list[tuple[str, str]]:
    wanted: list[tuple[str, str]] = []
    for split in params.record:
        if params.mode in {"probe", "both"} or split == "test":
            wanted.append((split, "probe"))
        if params.mode in {"inline", "both"} and split == "train":
            wanted.append((split, "inline"))
    return wanted


def _recorder(
    session: Session, store: Store | None, run: RunInfo | None, split: str, mode: str
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
        **session.task.samples(images),
    )
    return recorder


def log_setup(store: Store, run: RunInfo, session: Session) -> None:
    """Log what is trained, on what, and where: parameters, the system, the two datasets."""
    parameters = sum(each.numel() for each in session.model.parameters())
    store.log_params(run.run_id, lasting(session.params))
    store.log_params(run.run_id, {"model_parameters": parameters, **_system(session.compute)})
    for images in (session.train, session.test):
        store.log_dataset(
            run.run_id,
            name=f"{images.name}/{images.split}",
            digest=_dataset_digest(images, session.task.samples(images).get("labels")),
            source=images.root or images.name,
            context="training" if images.split == "train" else "evaluation",
        )


def lasting(params: LoopParams) -> dict[str, str]:
    """The parameters that describe the run, and not where this process finds things."""
    values = {name: each for name, each in to_strings(params).items() if name not in _PASSING}
    if isinstance(params, TrainParams) and params.noisy_labels:
        values["noisy_labels_sha256"] = digest_file(params.noisy_labels_path)
    return values


def _dataset_digest(images: TaskSplit, labels: Tensor | None) -> str:
    order = np.argsort(images.ids, kind="stable")
    parts = [
        digest_ids(images.ids[order]),
        *([] if labels is None else [digest_labels(labels.numpy()[order], images.class_names)]),
        digest_inputs(images.input_digests[each] for each in order),
    ]
    if isinstance(images, ImageSplit) and images.soft_labels is not None:
        parts.append(digest_input(images.soft_labels.numpy()[order]))
    return digest_inputs(parts)


def _system(compute: Compute) -> dict[str, object]:
    cuda = compute.device.type == "cuda"
    return {
        "system.device": torch.cuda.get_device_name() if cuda else compute.device.type,
        "system.autocast": "bf16" if compute.autocast else "none",
        "system.threads": torch.get_num_threads(),
        "system.python": platform.python_version(),
        "system.torch": torch.__version__,
        "system.platform": platform.platform(),
    }


def log_extras(session: Session, recorders: Iterable[Recorder], store: Store, run: RunInfo) -> None:
    """Log what the parameters ask for of the trained model, before the recorders finish."""
    params = session.params
    for recorder in recorders:
        images = session.split(recorder.name.rpartition("-")[0])
        session.task.log_extras(session, recorder, images)
        if _wants_thumbnails(params, images):
            recorder.log_thumbnails(images.ids, [to_png(each) for each in images.images])
    if params.save_model:
        _log_model(session, store, run)


def _wants_thumbnails(params: LoopParams, images: TaskSplit) -> bool:
    if params.thumbnails == "auto":
        return images.root is None and images.images.numel() <= _MAX_THUMBNAIL_BYTES
    return params.thumbnails == "always"


@torch.inference_mode()
def _features(session: Session, images: ImageSplit) -> npt.NDArray[np.float32]:
    """Last-layer features (n_samples, n_features) of a split, in its own order."""
    session.model.eval()
    parts = [
        session.model.features(batch).float().cpu().numpy()
        for _, batch, _ in batches(
            images,
            batch_size=PROBE_BATCH,
            normalisation=session.normalisation,
            device=session.compute.device,
        )
    ]
    return np.concatenate(parts)


def class_probabilities(session: Session, images: ImageSplit) -> npt.NDArray[np.float32]:
    """Class probabilities (n_samples, n_classes) of a split, in its own order."""
    parts: list[npt.NDArray[np.float32]] = []
    session.evaluate(
        images, lambda _, logits, __: parts.append(logits.softmax(dim=1).cpu().numpy())
    )
    return np.concatenate(parts)


def _log_model(session: Session, store: Store, run: RunInfo) -> None:
    """Weights that `torch.load(weights_only=True)` reads, and what builds the model."""
    build = {
        **session.task.describe_model(session.params, session.train),
        "mean": session.normalisation.mean.tolist(),
        "std": session.normalisation.std.tolist(),
    }
    with tempfile.TemporaryDirectory() as folder:
        weights, description = Path(folder) / "weights.pt", Path(folder) / "model.json"
        torch.save(session.model.state_dict(), weights)
        description.write_text(json.dumps(build, indent=1), encoding="utf-8")
        store.upload(run.run_id, weights, "model")
        store.upload(run.run_id, description, "model")


if __name__ == "__main__":
    sys.exit(run_main(main))
