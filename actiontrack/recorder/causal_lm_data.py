"""Datasets of a Hugging Face Trainer whose items are documents with ids."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.arrays import canonical_ids
from actiontrack.recorder.torch_sampling import unchanged_randomness
from actiontrack.recorder.transformers_data import SAMPLE_ID

__all__ = [
    "Columns",
    "check_rows",
    "check_trainer",
    "dataset_of",
    "ids_of",
    "prepared_ids",
    "returns_log_probs",
]


class Columns(Dataset[Mapping[str, Any]]):
    """A dataset without the columns that a Trainer removes.

    Args:
        rows: a map-style dataset.
        columns: those that stay, or None for all.
    """

    def __init__(self, rows: Any, columns: frozenset[str] | None) -> None:
        self.rows, self.columns = rows, columns

    def __len__(self) -> int:
        """Number of items."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """An item with these columns only."""
        row = self.rows[index]
        return {name: row[name] for name in row if self.columns is None or name in self.columns}


def dataset_of(trainer: Any, dataset: str) -> Any:
    """A dataset of a trainer, as it was prepared.

    Args:
        trainer: the trainer.
        dataset: "train", "eval", or a name in a dict of evaluation datasets.

    Raises:
        ParameterError: if there is none, or it has no length.
    """
    if dataset == "train":
        rows = trainer.train_dataset
    elif isinstance(trainer.eval_dataset, dict):
        rows = trainer.eval_dataset.get(dataset)
    else:
        rows = trainer.eval_dataset if dataset == "eval" else None
    if rows is None:
        rule = "must be 'train', 'eval' or the name of one of several evaluation datasets"
        raise ParameterError("dataset", rule, dataset, "Name one that the trainer has.")
    check_rows("dataset", rows)
    return rows


def check_rows(argument: str, rows: Any) -> None:
    """Refuse what is no dataset of documents that can be counted.

    Raises:
        ParameterError: names the argument.
    """
    if not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
        rule = "must be a dataset with a length: an epoch of a stream has no end to compare"
        raise ParameterError(argument, rule, type(rows).__name__, "Load it into memory.")


def check_trainer(trainer: Any, kind: str, remedy: str) -> None:
    """Refuse what is no trainer of a kind, such as a model.

    Raises:
        ParameterError: says what it is.
    """
    if not _is_a(trainer, kind):
        raise ParameterError(
            "trainer", f"must be of the class {kind}", type(trainer).__name__, remedy
        )


def ids_of(rows: Any) -> npt.NDArray[Any]:
    """(n_documents,) ids of a dataset of documents.

    Raises:
        ParameterError: if an id is repeated.
        RecordingError: if items have none.
    """
    ids = canonical_ids(list(prepared_ids(rows)))
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ParameterError(
            SAMPLE_ID,
            "must be that of one document each",
            f"{int((counts > 1).sum())} repeated ones, the first {names[counts > 1][0]!s}",
            "Give each document its own id.",
        )
    return ids


def prepared_ids(rows: Any) -> list[Any]:
    """Ids of the documents of a dataset, those in packed rows one by one.

    Raises:
        RecordingError: if items have none.
    """
    with unchanged_randomness():  # items may be made at random
        values = _sample_ids(rows)
    if values is None:
        raise RecordingError(
            "the dataset has no 'sample_id'. Give every document an integer or text 'sample_id'; "
            "tokenising and filtering keep it, packing does not: see actiontrack.recorder.trl."
        )
    return [name for value in values for name in (value if isinstance(value, list) else [value])]


def returns_log_probs(trainer: Any) -> bool:
    """Whether its model returns log-probabilities of tokens, as under TRL's SFTTrainer."""
    return _is_a(trainer, "SFTTrainer")


def _is_a(trainer: Any, kind: str) -> bool:
    return any(base.__name__ == kind for base in type(trainer).__mro__)


def _sample_ids(rows: Any) -> list[Any] | None:
    """What the items have as their ids, or None where they have none."""
    columns = getattr(rows, "column_names", None)
    if columns is not None:
        return list(rows[SAMPLE_ID]) if SAMPLE_ID in columns else None
    first = rows[0] if len(rows) else None
    if not isinstance(first, Mapping) or SAMPLE_ID not in first:
        return None
    return [rows[row][SAMPLE_ID] for row in range(len(rows))]
