"""Packed rows of TRL's SFTTrainer: which documents they hold."""

import copy
import hashlib
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import RecordingError
from actiontrack.recorder.causal_lm_data import dataset_of, prepared_ids
from actiontrack.recorder.torch_sampling import unchanged_randomness
from actiontrack.recorder.transformers_data import SAMPLE_ID

__all__ = ["name_packed_documents"]

_ROWS = 1000  # that are read at once

_REFUSED = {
    "wrapped": (
        "documents see those before them in the row and are cut at its end: no loss is that of one "
        "document"
    ),
    "bfd_split": (
        "long documents are cut into pieces that don't see each other: the loss of a document "
        "would be another one than that of the whole"
    ),
}

Tokens = npt.NDArray[np.int64]


def name_packed_documents(trainer: Any, data: Any, dataset: str) -> None:
    """Add to packed rows the ids of their documents, as a column of lists.

    Args:
        trainer: an `SFTTrainer`; its dataset is replaced if it is packed and has no ids.
        data: the documents, as the trainer was given them.
        dataset: which of its datasets it is.

    Raises:
        RecordingError: if documents are cut into pieces, have no ids, or are not those of the rows.
    """
    if not _is_packed(trainer.args, dataset):
        return
    strategy = trainer.args.packing_strategy
    if strategy in _REFUSED:
        raise RecordingError(
            f"packing_strategy={strategy!r} can't be recorded: {_REFUSED[strategy]}. Pass "
            "packing_strategy='bfd', or record an evaluation dataset with eval_packing=False."
        )
    rows = dataset_of(trainer, dataset)
    if SAMPLE_ID in rows.column_names:
        return
    with unchanged_randomness():
        documents = _tokenised(trainer, data)
        names = _names_of_rows(rows, documents, trainer.args.max_length)
        _replace(trainer, dataset, rows.add_column(SAMPLE_ID, names))


def _is_packed(args: Any, dataset: str) -> bool:
    if dataset != "train" and args.eval_packing is not None:
        return bool(args.eval_packing)
    return bool(args.packing)


def _replace(trainer: Any, dataset: str, rows: Any) -> None:
    if dataset == "train":
        trainer.train_dataset = rows
    elif isinstance(trainer.eval_dataset, dict):
        trainer.eval_dataset[dataset] = rows
    else:
        trainer.eval_dataset = rows


def _tokenised(trainer: Any, data: Any) -> Any:
    """The documents with their ids, prepared as the trainer prepares them but whole and alone."""
    args = copy.copy(trainer.args)
    args.max_length, args.shuffle_dataset = None, False
    return trainer._prepare_dataset(  # noqa: SLF001 - the only one that masks as training does
        data,
        trainer.processing_class,
        args,
        False,  # noqa: FBT003 - not packed
        trainer._formatting_func,  # noqa: SLF001
        "documents of the",
    )


def _names_of_rows(rows: Any, documents: Any, max_length: int) -> list[list[Any]]:
    """Ids of the documents in each row, found by their tokens and labels."""
    names: dict[bytes, deque[Any]] = defaultdict(deque)
    content = _columns(documents)
    for name, (tokens, labels) in zip(prepared_ids(documents), content, strict=True):
        names[_digest(tokens[:max_length], labels[:max_length])].append(name)
    found = []
    for (tokens, labels), lengths in zip(_columns(rows), rows["seq_lengths"], strict=True):
        ends = np.cumsum(lengths)
        pieces = [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        digests = [_digest(tokens[piece], labels[piece]) for piece in pieces]
        if any(not names[digest] for digest in digests):
            raise RecordingError(
                "a document of the packed rows is none of data: its tokens or labels are others. "
                "Pass the dataset that the trainer was given."
            )
        found.append([names[digest].popleft() for digest in digests])
    return found


def _columns(rows: Any) -> Iterator[tuple[Tokens, Tokens]]:
    """Tokens and labels of each row."""
    columns = rows.select_columns(["input_ids", "labels"]).with_format("numpy")
    for batch in columns.iter(batch_size=_ROWS):
        for tokens, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            yield np.asarray(tokens, np.int64), np.asarray(labels, np.int64)


def _digest(tokens: Tokens, labels: Tokens) -> bytes:
    return hashlib.blake2b(tokens.tobytes() + labels.tobytes(), digest_size=16).digest()
