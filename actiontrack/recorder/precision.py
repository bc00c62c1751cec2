"""Losses with 11 significant bits: as precise as float16, with the range of float32.

They stay float32, so that every reader takes them; the bits that are zero cost nothing once they
are compressed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["at_precision"]

_DROPPED = 13  # bits of the 24 of float32


def at_precision(columns: Mapping[str, npt.NDArray[Any]], precision: str) -> dict[str, Any]:
    """Columns as they are stored.

    Args:
        columns: name -> (n_samples,), masked where a sample was not seen.
        precision: "full", or "half" to round float32 numbers to 11 significant bits.
    """
    if precision == "full":
        return dict(columns)
    return {
        name: _rounded(column) if column.dtype == np.float32 else column
        for name, column in columns.items()
    }


def _rounded(column: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The nearest numbers with fewer bits, ties to even; what is not finite stays."""
    numbers = np.ma.getdata(column)
    bits = numbers.view(np.uint32)
    half = np.uint32((1 << (_DROPPED - 1)) - 1)
    up = bits + (half + ((bits >> np.uint32(_DROPPED)) & np.uint32(1)))
    rounded = (up & ~np.uint32((1 << _DROPPED) - 1)).view(np.float32)
    rounded = np.where(np.isfinite(numbers) & np.isfinite(rounded), rounded, numbers)
    mask = np.ma.getmask(column)
    return rounded if mask is np.ma.nomask else np.ma.MaskedArray(rounded, mask=mask)
