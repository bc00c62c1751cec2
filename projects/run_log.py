"""What a training logs in its run beside the records: parameters, datasets, pictures, weights."""

import json
import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from actiontrack.record.digest import digest_ids, digest_input, digest_inputs, digest_labels
from actiontrack.recorder import Recorder
from actiontrack.store import RunInfo, Store
from projects.datasets import ImageSplit, digest_file
from projects.loop import Compute
from projects.params.reading import defaults, to_strings
from projects.params.training import LoopParams, TrainParams
from projects.pictures import to_png
from projects.session import Session
from projects.tasks.task import TaskSplit

__all__ = ["lasting", "log_extras", "log_setup"]

_MAX_THUMBNAIL_BYTES = 64 * 2**20
_PASSING = frozenset({"checkpoint", "data_dir", "metadata", "report", "run_id"})


def log_setup(store: Store, run: RunInfo, session: Session) -> None:
    """Log what is trained, on what, and where: parameters, the system, the two datasets."""
    parameters = sum(weights.numel() for weights in session.model.parameters())
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
    """The parameters that describe the run, without those that say where files are.

    `mlflow run` has logged each parameter as it was passed. So a default that was adapted is logged
    as it was, and the value in its place under ``effective.NAME``.
    """
    values = {name: text for name, text in to_strings(params).items() if name not in _PASSING}
    adapted = params.adapted & values.keys()
    effective = {f"effective.{name}": values[name] for name in sorted(adapted)}
    declared = defaults(type(params))
    values |= {name: declared[name] for name in adapted} | effective
    if isinstance(params, TrainParams) and params.noisy_labels:
        values["noisy_labels_sha256"] = digest_file(params.noisy_labels_path)
    return values


def _dataset_digest(images: TaskSplit, labels: Tensor | None) -> str:
    order = np.argsort(images.ids, kind="stable")
    parts = [
        digest_ids(images.ids[order]),
        *([] if labels is None else [digest_labels(labels.numpy()[order], images.class_names)]),
        digest_inputs(images.input_digests[row] for row in order),
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
    """Log pictures, features or weights, as the parameters ask, before the recorders finish."""
    params = session.params
    for recorder in recorders:
        images = session.split(recorder.name.rpartition("-")[0])
        session.task.log_extras(session, recorder, images)
        if _wants_thumbnails(params, images):
            recorder.log_thumbnails(images.ids, [to_png(image) for image in images.images])
    if params.save_model:
        _log_model(session, store, run)


def _wants_thumbnails(params: LoopParams, images: TaskSplit) -> bool:
    if params.thumbnails == "auto":
        return images.root is None and images.images.numel() <= _MAX_THUMBNAIL_BYTES
    return params.thumbnails == "always"


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
