"""What people say of samples after looking at them, kept beside the record."""

from actiontrack.analysis.verdict_files import read_verdict_file
from actiontrack.analysis.verdicts import (
    COLUMNS,
    FORMAT,
    FORMAT_VERSION,
    VERDICTS,
    Verdict,
    add,
    current,
    list_files,
    read,
)

__all__ = [
    "COLUMNS",
    "FORMAT",
    "FORMAT_VERSION",
    "VERDICTS",
    "Verdict",
    "add",
    "current",
    "list_files",
    "read",
    "read_verdict_file",
]
