"""Losses and texts of the tokens of documents in a stored record."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.errors import NotFoundError
from actiontrack.record.maps import read_map, read_map_index
from actiontrack.record.paths import MAP_INDEX, TOKENS
from actiontrack.record.tokens import read_tokens
from actiontrack.store.record import StoredRecord

__all__ = ["has_tokens", "token_action", "token_index", "token_texts"]


def has_tokens(record: StoredRecord) -> bool:
    """Whether losses of tokens were recorded; they are available once recording has ended."""
    return record.manifest.of_tokens and MAP_INDEX in record.manifest.files


def token_index(record: StoredRecord) -> pd.DataFrame:
    """Which documents have losses of tokens: a row per sample, file −1 for those without.

    Raises:
        NotFoundError: if the record holds none.
    """
    if not has_tokens(record):
        raise NotFoundError(
            f"record {record.name} of run {record.run.run_id} ({record.run.name}) holds no losses "
            "of tokens. Record them with tokens=… of track_sft or track_causal_lm; they are "
            "written when recording ends."
        )
    index: pd.DataFrame = record.cached(
        "token index", lambda: read_map_index(record.manifest, record.fetch)
    )
    return index


def token_action(record: StoredRecord, sample: int) -> npt.NDArray[np.float32]:
    """Loss of each token of a document, accumulated over training, NaN for tokens without one.

    Args:
        record: an open record.
        sample: row position.

    Returns:
        (n_tokens,), in the unit of the action.

    Raises:
        NotFoundError: if the document has none.
    """
    index = token_index(record)
    if int(index["file"].iloc[sample]) < 0:
        raise NotFoundError(
            f"the tokens of sample {record.samples.sample_ids[sample]!s} were not recorded: the "
            "record holds those of some documents only. Raise tokens=… of the recording."
        )
    actions: npt.NDArray[np.float32] = read_map(record.manifest, record.fetch, index, sample)[0]
    return actions


def token_texts(record: StoredRecord, sample: int) -> Sequence[str] | None:
    """Texts of the tokens of a document, or None where they were not recorded."""
    if TOKENS not in record.manifest.files:
        return None
    tokens: Any = record.cached("tokens", lambda: read_tokens(record.manifest, record.fetch))
    texts: list[str] = tokens.loc[tokens["sample"] == sample, "text"].tolist()
    return texts or None
