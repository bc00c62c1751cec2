"""`mlflow run . -e train`: train a classifier, record every sample's loss at every epoch."""

import io
import json
import platform
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from actiontrack.digest import digest_ids, digest_input, digest_inputs, digest_labels
from actiontrack.errors import StoreError
from actiontrack.recorder import EpochSummary, Recorder
from actiontrack.reporting import describe_run, log_run_report
from actiontrack.store import RunInfo, Store
from projects.checkpoint import Checkpoint
from projects.datasets import ImageSplit, load_dataset
from projects.distributed import ALONE, Group, process_group
from projects.loading import Normalisation, batches
from projects.loop import (
    PROBE_BATCH,
    Compute,
    Observe,
    choose_compute,
    evaluate,
    learning_rate_factor,
    make_optimizer,
    seed_everything,
    train_epoch,
)
from projects.models import Classifier, build_model
from projects.params import TrainParams, parse, run_main, to_strings

__all__ = ["assist", "main", "train"]

_MAX_THUMBNAIL_BYTES = 64 * 2**20
_PASSING = frozenset({"checkpoint", "data_dir", "run_id"})


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
    print(describe_run(store, run))
    return 0


def train(
    params: TrainParams, store: Store, *, nested: bool = False, group: Group = ALONE
) -> tuple[RunInfo, bool]:
    """Train once in a run of the tracking server.

    Args:
        params: what to train on what, and what to record.
        store: the tracking server.
        nested: whether the run is a child of the active one.
        group: processes that train together; the others call `assist`.

    Returns:
        The run, and whether all of its records are in the artifact store.
    """
    compute = choose_compute(params)
    splits = load_dataset(params)
    name = f"{params.model} seed {params.seed}"
    with store.run(run_id=params.run_id or None, name=name, nested=nested) as run:
        session = _Session.prepare(params, compute, splits, group)
        _log_setup(store, run, session)
        synced = _train_and_record(session, store, run)
        if synced:
            for record in store.get_run(run.run_id).records:
                log_run_report(store.open_record(run.run_id, record))
        return run, synced


def assist(params: TrainParams, group: Group) -> None:
    """Train along with the process that calls `train`, and speak to no server."""
    session = _Session.prepare(params, choose_compute(params), load_dataset(params), group)
    _train_and_record(session, None, None)


@dataclass(frozen=True)
class _Session:
    """All that one training run needs."""

    params: TrainParams
    compute: Compute
    train: ImageSplit
    test: ImageSplit
    normalisation: Normalisation
    generator: torch.Generator
    model: Classifier
    group: Group

    @classmethod
    def prepare(
        cls,
        params: TrainParams,
        compute: Compute,
        splits: tuple[ImageSplit, ImageSplit],
        group: Group,
    ) -> "_Session":
        train_split, test_split = splits
        generator = seed_everything(params)
        model = build_model(
            params.model,
            in_channels=train_split.in_channels,
            image_size=train_split.image_size,
            n_classes=train_split.n_classes,
        ).to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        normalisation = Normalisation.of(train_split)
        if not group.is_main:
            torch.manual_seed(params.seed + group.rank)  # every process drops out its own units
        return cls(params, compute, train_split, test_split, normalisation, generator, model, group)

    def split(self, name: str) -> ImageSplit:
        return self.train if name == "train" else self.test

    @cached_property
    def input_digests(self) -> dict[str, list[str]]:
        """Digest of each input of each split, read once for all records and the dataset log."""
        return {
            images.split: [digest_input(each) for each in images.images.numpy()]
            for images in (self.train, self.test)
        }


def _train_and_record(session: _Session, store: Store | None, run: RunInfo | None) -> bool:
    params = session.params
    with ExitStack() as stack:
        recorders = {
            (split, mode): stack.enter_context(_recorder(session, store, run, split, mode))
            for split, mode in _records(params)
        }
        probes = {split: each for (split, mode), each in recorders.items() if mode == "probe"}
        _Trainer(session, probes, recorders.get(("train", "inline"))).run()
        if store is not None and run is not None:
            _log_extras(session, recorders.values(), store, run)
    return all(each.synced for each in recorders.values())


class _Trainer:
    """Epochs of training, each followed by its evaluation passes and a checkpoint."""

    def __init__(
        self, session: _Session, probes: Mapping[str, Recorder], inline: Recorder | None
    ) -> None:
        params = session.params
        self._session, self._probes, self._inline = session, probes, inline
        self._optimizer = make_optimizer(session.model, params)
        self._checkpoint = Checkpoint(Path(params.checkpoint)) if params.checkpoint else None
        self._done = self._restore()
        self._model = _in_group(session)
        self._running = _RunningLoss(session.compute.device)
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
        rate = params.learning_rate * learning_rate_factor(params, epoch - 1)
        for weights in self._optimizer.param_groups:
            weights["lr"] = rate
        delta = self._update(params)
        metrics = {"train/loss": self._running.take(), "learning_rate": rate}
        if self._inline is not None:
            self._inline.end_epoch(epoch, delta=delta, metrics=metrics)
        summary = self._probe(epoch=epoch, delta=delta, metrics=metrics)
        self._save(epoch)
        if summary is not None:
            self._bar.set_postfix_str(_progress(epoch, params.epochs, summary))

    def _update(self, params: TrainParams) -> float:
        """One pass of updates; returns Δn."""
        session = self._session
        seconds = train_epoch(
            self._model,
            self._optimizer,
            session.train,
            params=params,
            compute=session.compute,
            normalisation=session.normalisation,
            generator=session.generator,
            observe=self._observe,
            group=session.group,
        )
        return {"epoch": 1.0, "batch": float(self._per_epoch), "wall_time": seconds}[params.delta_n]

    def _observe(self, ids: Any, logits: Tensor, labels: Tensor) -> None:
        self._running.add(logits, labels)
        if self._inline is not None:
            self._inline.update(ids, logits=logits, labels=labels)
        self._bar.update()

    def _probe(
        self, *, epoch: int, delta: float, metrics: Mapping[str, float]
    ) -> EpochSummary | None:
        """Evaluate each probed split; returns the summary of the test split, or of the other."""
        session, summary = self._session, None
        for split, recorder in sorted(self._probes.items(), reverse=True):
            evaluate(
                session.model,
                session.split(split),
                compute=session.compute,
                normalisation=session.normalisation,
                observe=_into(recorder),
                group=session.group,
            )
            summary = recorder.end_epoch(epoch, delta=delta, metrics=metrics)
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


def _into(recorder: Recorder) -> Observe:
    def observe(ids: object, logits: Tensor, labels: Tensor) -> None:
        recorder.update(ids, logits=logits, labels=labels)

    return observe


def _in_group(session: _Session) -> nn.Module:
    """The model, averaging its gradients over the group where there are several processes."""
    if session.group.size == 1:
        return session.model
    return nn.parallel.DistributedDataParallel(session.model)


class _RunningLoss:
    """Mean training loss of an epoch, summed on the device: no wait for it in any step."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._total, self._count = torch.zeros((), device=device), 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        self._total += nn.functional.cross_entropy(logits.detach(), labels, reduction="sum")
        self._count += len(labels)

    def take(self) -> float:
        mean = float(self._total) / max(self._count, 1)
        self._total, self._count = torch.zeros((), device=self._device), 0
        return mean


def _progress(epoch: int, epochs: int, summary: EpochSummary) -> str:
    accuracy = "" if summary.accuracy is None else f", accuracy {summary.accuracy:.1%}"
    return f"epoch {epoch}/{epochs}: loss {summary.mean_loss:.3f}{accuracy}"


def _records(params: TrainParams) -> list[tuple[str, str]]:
    wanted: list[tuple[str, str]] = []
    for split in params.record:
        if params.mode in {"probe", "both"} or split == "test":
            wanted.append((split, "probe"))
        if params.mode in {"inline", "both"} and split == "train":
            wanted.append((split, "inline"))
    return wanted


def _recorder(
    session: _Session, store: Store | None, run: RunInfo | None, split: str, mode: str
) -> Recorder:
    images = session.split(split)
    root = None if images.root is None else str(Path(images.root).resolve())
    recorder = Recorder(
        split,
        mode=mode,
        run_id=run.run_id if run else None,
        store=store,
        resume=bool(session.params.checkpoint),
        gather=session.group.gather,
        model=session.params.model,
        class_names=images.class_names,
        delta_kind=session.params.delta_n,
        source={"kind": "folder", "root": root} if root else {"kind": "named", "name": images.name},
    )
    recorder.describe_samples(
        images.ids,
        labels=images.labels,
        true_labels=images.true_labels,
        paths=images.paths,
        input_digests=session.input_digests[split],
    )
    return recorder


def _log_setup(store: Store, run: RunInfo, session: _Session) -> None:
    parameters = sum(each.numel() for each in session.model.parameters())
    store.log_params(run.run_id, _lasting(session.params))
    store.log_params(run.run_id, {"model_parameters": parameters, **_system(session.compute)})
    for images in (session.train, session.test):
        store.log_dataset(
            run.run_id,
            name=f"{images.name}/{images.split}",
            digest=_dataset_digest(images, session.input_digests[images.split]),
            source=images.root or images.name,
            context="training" if images.split == "train" else "evaluation",
        )


def _lasting(params: TrainParams) -> dict[str, str]:
    """The parameters that describe the run, and not where this process finds things."""
    return {name: each for name, each in to_strings(params).items() if name not in _PASSING}


def _dataset_digest(images: ImageSplit, inputs: Sequence[str]) -> str:
    order = np.argsort(images.ids, kind="stable")
    parts = (
        digest_ids(images.ids[order]),
        digest_labels(images.labels.numpy()[order], images.class_names),
        digest_inputs(inputs[each] for each in order),
    )
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


def _log_extras(
    session: _Session, recorders: Iterable[Recorder], store: Store, run: RunInfo
) -> None:
    params = session.params
    for recorder in recorders:
        images = session.split(recorder.name.rpartition("-")[0])
        if params.save_features:
            recorder.log_features(images.ids, _features(session, images))
        if _wants_thumbnails(params, images):
            recorder.log_thumbnails(images.ids, [_png(each) for each in images.images])
    if params.save_model:
        _log_model(session, store, run)


def _wants_thumbnails(params: TrainParams, images: ImageSplit) -> bool:
    if params.thumbnails == "auto":
        return images.root is None and images.images.numel() <= _MAX_THUMBNAIL_BYTES
    return params.thumbnails == "always"


def _png(image: Tensor) -> bytes:
    pixels = image.permute(1, 2, 0).numpy()  # (C, H, W) -> (H, W, C)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


@torch.inference_mode()
def _features(session: _Session, images: ImageSplit) -> npt.NDArray[np.float32]:
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


def _log_model(session: _Session, store: Store, run: RunInfo) -> None:
    """Weights that `torch.load(weights_only=True)` reads, and what builds the model."""
    images = session.train
    build = {
        "name": session.params.model,
        "in_channels": images.in_channels,
        "image_size": images.image_size,
        "n_classes": images.n_classes,
        "class_names": images.class_names,
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
