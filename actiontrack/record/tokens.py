"""Texts of the tokens of some documents of a record."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from actiontrack.record.disk import FileEntry
from actiontrack.record.manifest import Manifest
from actiontrack.record.parquet import (
    Fetch,
    _table,
    check_samples,
    column_values,
    columns_of,
    corrupt_on_error,
    open_any,
    optional_texts,
    write_table,
)
from actiontrack.record.paths import TOKENS

__all__ = ["read_tokens", "write_tokens"]


def write_tokens(folder: Path, texts: Mapping[int, Sequence[str]]) -> FileEntry:
    """Write tokens.parquet, one row per token, those of a document one after the other.

    Args:
        folder: folder of the record.
        texts: row position of the document among the samples -> the texts of its tokens.
    """
    rows = sorted(texts)
    columns = {
        "sample": np.repeat(rows, [len(texts[row]) for row in rows]).astype(np.int32),
        "text": pa.array([text for row in rows for text in texts[row]], pa.string()),
    }
    return write_table(folder / TOKENS, _table(columns))


def read_tokens(manifest: Manifest, fetch: Fetch) -> pd.DataFrame:
    """Read tokens.parquet: sample (row position) and text, see `write_tokens`.

    Raises:
        NotFoundError: if the record holds none.
        CorruptRecordError: if the file is missing, truncated, altered, or about samples that the
            record does not have.
    """
    file = open_any(manifest, TOKENS, fetch)
    table = columns_of(file, ("sample", "text"))
    with corrupt_on_error(TOKENS):
        samples = column_values(table["sample"], np.dtype(np.int64))
        texts = optional_texts(table, "text", file.stored)
        tokens = pd.DataFrame({"sample": samples, "text": pd.Series(texts, dtype="str")})
    check_samples(tokens["sample"], TOKENS, manifest)
    return tokens
