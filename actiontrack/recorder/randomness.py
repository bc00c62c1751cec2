"""Random numbers that are afterwards as before."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["unchanged_python_and_numpy"]


@contextmanager
def unchanged_python_and_numpy() -> Iterator[None]:
    """Random states of Python and NumPy are afterwards as before."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - users' code draws there
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
