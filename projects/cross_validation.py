"""Out-of-fold probabilities of the training split, as confident learning needs them.

Each sample is predicted by a model that was not trained on it: K-fold cross-validation with the
model, epochs, optimiser, schedule and augmentation of the tracked training (Northcutt et al. 2021,
"Confident learning: estimating uncertainty in dataset labels"). It costs K · (K - 1) / K = K - 1
trainings, where scores of a loss record cost none beside the one that is tracked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from tqdm.auto import tqdm

from actiontrack.errors import MissingDependencyError, ParameterError
from projects.datasets import ImageSplit, load_dataset
from projects.datasets.split import Ids, Labels
from projects.loop import choose_compute
from projects.params.training import TrainParams
from projects.session import Session
from projects.tasks.classification import Classification, class_probabilities

__all__ = [
    "LABEL_QUALITY",
    "OutOfFold",
    "check_cleanlab",
    "cross_validate",
    "has_cleanlab",
    "label_fixes",
    "label_quality",
]

#: Methods of `cleanlab.rank.get_label_quality_scores`; of all, a low score means a suspect.
LABEL_QUALITY = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")

Positions = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class OutOfFold:
    """Class probabilities of each sample, from the model that was not trained on it.

    Attributes:
        sample_ids: (N,) int64 or str.
        labels: int64 (N,), the labels that the models were trained on.
        folds: int64 (N,), the fold in which a sample was held out, from 0.
        probabilities: float32 (N, n_classes), each row sums to 1.
    """

    sample_ids: Ids
    labels: Labels
    folds: Positions
    probabilities: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write one row per sample as Parquet: sample_id, label, fold, probabilities."""
        flat = pa.array(self.probabilities.ravel())
        columns = {
            "sample_id": pa.array(self.sample_ids.tolist()),
            "label": self.labels,
            "fold": self.folds,
            "probabilities": pa.FixedSizeListArray.from_arrays(flat, self.probabilities.shape[1]),
        }
        pq.write_table(pa.table(columns), path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` has written."""
        table = pq.read_table(path)
        flat = table["probabilities"].combine_chunks().flatten().to_numpy()
        return cls(
            sample_ids=np.asarray(table["sample_id"].to_pylist()),
            labels=table["label"].to_numpy(),
            folds=table["fold"].to_numpy(),
            probabilities=flat.reshape(table.num_rows, -1),
        )


def cross_validate(params: TrainParams, n_folds: int) -> OutOfFold:
    """Predict every training sample by a model that was trained without it.

    Folds are stratified by the given labels, the wrong ones included, and chosen by ``seed``. Each
    fold starts from ``seed`` as the tracked training does: the same initial weights. Pixels are
    normalised by those of the fold's own training samples.

    Args:
        params: The tracked training; what it records plays no part.
        n_folds: Number of folds, K.

    Returns:
        The probabilities in the order of the training split; the same parameters give the same
        ones (bit by bit on the CPU).

    Raises:
        ParameterError: Fewer than 2 folds, or more than samples in the smallest class.
        DataError: The dataset can't be read.
    """
    compute = choose_compute(params)
    split, _ = load_dataset(params)
    probabilities = np.empty((len(split), split.n_classes), dtype=np.float32)
    folds = np.empty(len(split), dtype=np.int64)
    held_out = list(_held_out(split, n_folds, params.seed))
    with tqdm(total=n_folds * params.epochs, desc="cross-validation", unit="epoch") as bar:
        for fold, out in enumerate(held_out):
            rest = np.setdiff1d(np.arange(len(split)), out)
            parts = split.take(rest), split.take(out)
            session = Session.prepare(params, compute, parts, task=Classification())
            session.fit(after_epoch=bar.update)
            folds[out] = fold
            probabilities[out] = class_probabilities(session, session.test)
    return OutOfFold(
        sample_ids=split.ids, labels=split.labels.numpy(), folds=folds, probabilities=probabilities
    )


def has_cleanlab() -> bool:
    """Whether cleanlab is installed."""
    return find_spec("cleanlab") is not None


def check_cleanlab() -> None:
    """Refuse to go on without cleanlab.

    Raises:
        MissingDependencyError: cleanlab is not installed.
    """
    if not has_cleanlab():
        raise MissingDependencyError(
            "cleanlab's scores need cleanlab: pip install 'actiontrack[cleanlab]'"
        )


def label_quality(labels: Labels, probabilities: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Label quality scores, computed by cleanlab (Northcutt et al. 2021).

    Args:
        labels: int64 (N,), the given labels.
        probabilities: (N, n_classes), out-of-sample.

    Returns:
        ``cleanlab_<method>`` to scores (N,) in 0..1 for each of `LABEL_QUALITY`; low is a suspect.

    Raises:
        MissingDependencyError: cleanlab is not installed.
    """
    check_cleanlab()
    from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415 - an extra

    return {
        f"cleanlab_{method}": get_label_quality_scores(labels, probabilities, method=method)
        for method in LABEL_QUALITY
    }


def label_fixes(labels: Labels, probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """What confident learning takes to be wrong, and right, computed by cleanlab.

    Args:
        labels: int64 (N,), the given labels.
        probabilities: (N, n_classes), out-of-sample.

    Returns:
        flagged, bool (N,), of `cleanlab.filter.find_label_issues`; suggested_class, int64 (N,),
        the most probable class; estimate, the number of wrong labels by
        `cleanlab.count.num_label_issues`.

    Raises:
        MissingDependencyError: cleanlab is not installed.
    """
    check_cleanlab()
    from cleanlab.count import num_label_issues  # noqa: PLC0415 - an extra
    from cleanlab.filter import find_label_issues  # noqa: PLC0415

    return {
        "flagged": find_label_issues(labels, probabilities, n_jobs=1),
        "suggested_class": probabilities.argmax(axis=1).astype(np.int64),
        "estimate": int(num_label_issues(labels, probabilities)),
    }


def _held_out(split: ImageSplit, n_folds: int, seed: int) -> Iterator[Positions]:
    """Positions of the samples of each fold, ascending."""
    labels = split.labels.numpy()
    counts = np.bincount(labels, minlength=split.n_classes)
    smallest = int(counts[counts > 0].min())
    if not 2 <= n_folds <= smallest:
        name = split.class_names[int(np.flatnonzero(counts == smallest)[0])]
        rule = f"must be an integer >= 2 and <= {smallest}, the samples labelled {name}"
        raise ParameterError("folds", rule, n_folds, "Pass for instance 3, or use more images.")
    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    for _, out in splitter.split(np.zeros(len(labels)), labels):
        yield np.asarray(out, dtype=np.int64)
