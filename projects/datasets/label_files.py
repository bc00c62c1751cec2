"""Files that hold one label for each training image, in the order of the images.

NumPy's ``.npy``, and the ``.pt`` of PyTorch in which CIFAR-10N is published: a dictionary of label
sets. Nothing in them is run: ``.npy`` is read without pickled objects, and of a ``.pt`` only
numbers, text, containers and tensors are made; whatever else it names is refused. NumPy arrays in
a ``.pt`` are pickled, too. What their pickle calls are stand-ins of ours, which take its bytes for
numbers: NumPy's own would believe what a file says of its memory.
"""

import contextlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actiontrack.errors import DataError

__all__ = ["ARRAY_SUFFIXES", "CLEAN", "LabelSet", "check_is_file", "read_label_sets"]

ARRAY_SUFFIXES = frozenset({".npy", ".pt", ".pth"})
CLEAN = "clean_label"  # the set of CIFAR-10N that holds the true labels
LabelSet = NDArray[Any]  # of one dimension, whole numbers or text
_HOLDS_PICKLE = (b"\x80", b"PK")  # how a pickle begins, and the archive in which PyTorch has one


def check_is_file(path: Path, remedy: str = "") -> None:
    """Refuse a path where there is no file of labels.

    Raises:
        DataError: names the path and says what to do, the remedy.
    """
    if not path.is_file():
        raise DataError(f"noisy_labels: {path} is not a file.{remedy and f' {remedy}.'}")


def read_label_sets(path: Path) -> dict[str, LabelSet]:
    """Read all label sets of a file.

    Args:
        path: A file whose suffix is one of `ARRAY_SUFFIXES`.

    Returns:
        Name to labels (N,); a file that holds nothing but one set has the empty name.

    Raises:
        DataError: A missing or damaged file, one that would have to be unpickled, or one without
            labels.
    """
    check_is_file(path)
    read = _read_npy if path.suffix.lower() == ".npy" else _read_pt
    try:
        stored = read(path, path.read_bytes())  # a file that is mapped could shrink meanwhile
    except OSError as error:
        raise DataError(f"noisy_labels: {path} can't be read ({error.strerror}).") from error
    sets = stored if isinstance(stored, Mapping) else {"": stored}
    labels = {str(name): _as_labels(values) for name, values in sets.items()}
    usable = {name: array for name, array in labels.items() if array is not None}
    if not usable:
        raise DataError(
            f"noisy_labels: {path} holds no labels: they must be a list or an array of one "
            "dimension, of whole numbers or of class names."
        )
    return usable


def _as_labels(values: Any) -> LabelSet | None:
    """The values as labels (N,), None if they are none."""
    if isinstance(values, _Array):
        values = values.values
    if not isinstance(values, Tensor | np.ndarray | list | tuple):
        return None
    try:
        labels = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    except (ValueError, TypeError, RuntimeError):
        return None  # a list of lists of several lengths, or a tensor that NumPy has nothing for
    is_label = labels.dtype.kind in "iuU" and labels.ndim == 1 and labels.size > 0
    return labels if is_label else None


def _read_npy(path: Path, content: bytes) -> Any:
    try:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # a damaged header is read as an expression of Python
        if "allow_pickle" in str(error):
            raise _needs_unpickling(path, "objects of Python") from error
        raise _damaged(path, "NumPy", str(error)) from error


def _read_pt(path: Path, content: bytes) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_stand_ins()):
            warnings.simplefilter("ignore")  # about old formats of PyTorch
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes PyTorch raise
        reason = str(error)
        is_refused = "weights_only" in reason.casefold().replace(" ", "_")
        if "GLOBAL" in reason or (is_refused and content.startswith(_HOLDS_PICKLE)):
            raise _needs_unpickling(path, _forbidden(reason)) from error
        # PyTorch takes what it can't read for a pickle, and its reason is not to be followed.
        raise _damaged(path, "PyTorch", "" if is_refused else reason) from error


class _Kind:
    """Stands for a `numpy.dtype` in a pickle: its code and its byte order."""

    def __init__(self, code: str, *_: object) -> None:
        self._code = code
        self._order: Any = "="  # whatever the file says

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = "=" if state[1] == "|" else state[1]

    def numbers(self, content: bytes) -> LabelSet:
        """The bytes as an array of one dimension."""
        kind = np.dtype(self._code).newbyteorder(self._order)
        if kind.kind not in "biufU":
            raise TypeError(f"GLOBAL {kind.name}")
        return np.frombuffer(content, dtype=kind)


class _Array:
    """Stands for a `numpy.ndarray` in a pickle."""

    values: LabelSet = np.empty(0)

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Kind, bool, bytes]) -> None:
        _, shape, kind, is_fortran, content = state
        if not isinstance(content, bytes):
            raise TypeError("GLOBAL object")
        self.values = kind.numbers(content).reshape(shape, order="F" if is_fortran else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _stand_ins() -> list[Any]:
    """What a pickled NumPy array calls, under the names of NumPy 1 and 2."""
    modules = ("numpy._core.multiarray", "numpy.core.multiarray")
    named = [(_reconstruct, f"{module}._reconstruct") for module in modules]
    return [*named, (_Array, "numpy.ndarray"), (_Kind, "numpy.dtype")]


def _forbidden(reason: str) -> str:
    """Name of the first thing that PyTorch has refused to load."""
    for words in ("GLOBAL ", "Unsupported class "):
        with contextlib.suppress(IndexError):
            return reason.split(words, 1)[1].split(maxsplit=1)[0]
    return "objects of Python"


def _needs_unpickling(path: Path, what: str) -> DataError:
    return DataError(
        f"noisy_labels: {path} would have to be unpickled, which could run any code ({what}). "
        "Save the labels by numpy.save, as CSV (id,label), or as a dictionary of arrays or tensors."
    )


def _damaged(path: Path, library: str, reason: str) -> DataError:
    first = next(iter(reason.strip().splitlines()), "")
    because = f" ({first})" if first else ""
    return DataError(f"noisy_labels: {path} is damaged or is no file of {library}{because}.")
