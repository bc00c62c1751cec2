"""Files that exports write."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from actiontrack.errors import writing
from actiontrack.record.escaping import to_csv

__all__ = ["write_bytes", "write_csv", "write_json", "write_text"]


def write_text(path: Path, text: str) -> Path:
    """Write a text file; its folder is made.

    Raises:
        StoreError: if it can't be written.
    """
    return write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file; its folder is made.

    Raises:
        StoreError: if it can't be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write JSON in UTF-8, readable by people."""
    return write_text(
        path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )


def write_csv(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table as CSV, see `escaping.to_csv`."""
    return write_text(path, to_csv(frame))
