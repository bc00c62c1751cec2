"""Which tokens of a document are hard."""

from typing import Any

import numpy as np
import pandas as pd

from actiontrack.analysis.tables import positions
from actiontrack.errors import CorruptRecordError
from actiontrack.store import StoredRecord
from actiontrack.store.tokens import token_action, token_texts

__all__ = ["token_actions"]


def token_actions(record: StoredRecord, sample_id: Any) -> pd.DataFrame:
    """The loss of each token of one document, accumulated over training.

    Args:
        record: an open record with losses of tokens.
        sample_id: of the document.

    Returns:
        A row per token in the order of the document: position, text (None where texts were not
        recorded) and action, NaN for a token that has no loss: the first one, and all that were
        masked.

    Raises:
        NotFoundError: if there is no such document, or its tokens were not recorded.
        CorruptRecordError: if texts and losses are of different tokens.
    """
    row = positions(record, [sample_id])[0]
    action, texts = token_action(record, row), token_texts(record, row)
    if texts is not None and len(texts) != len(action):
        raise CorruptRecordError(
            f"record {record.name} holds {len(texts)} texts and {len(action)} losses of the tokens "
            f"of sample {sample_id!s}. Restore its files, or record the run again."
        )
    text = [None] * len(action) if texts is None else texts
    return pd.DataFrame({"position": np.arange(len(action)), "text": text, "action": action})
