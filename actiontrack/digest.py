"""Content digests of a dataset: sha256 over every id, label and input, in canonical id order.

Two runs measure the same samples if and only if their digests agree. All bytes are little-endian,
so that the digest does not depend on the machine.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from actiontrack.errors import ParameterError

__all__ = ["digest_ids", "digest_input", "digest_inputs", "digest_labels"]

#: Characters kept of the digest of one input: 128 bits.
INPUT_DIGEST_LENGTH = 32


def digest_ids(sample_ids: npt.NDArray[np.generic]) -> str:
    """Digest of (n_samples,) integer or string ids in the order given.

    >>> digest_ids(np.array([1, 2])) == digest_ids(np.array(["1", "2"]))
    False
    """
    if sample_ids.dtype.kind in "iu":
        return _sha256([b"int64", sample_ids.astype("<i8").tobytes()])
    return _sha256([b"string", *_prefixed(str(each) for each in sample_ids.tolist())])


def digest_labels(labels: npt.NDArray[np.integer] | None, class_names: Sequence[str]) -> str:
    """Digest of (n_samples,) class indices and of the names that give them meaning."""
    body = b"unlabelled" if labels is None else labels.astype("<i8").tobytes()
    return _sha256([body, *_prefixed(class_names)])


def digest_input(value: npt.ArrayLike) -> str:
    """Digest of one sample's input array: dtype, shape and full content, 32 hex characters.

    Raises:
        ParameterError: if it is an array of Python objects, which have no bytes of their own.
    """
    array = np.ascontiguousarray(value)
    if array.dtype.hasobject:
        raise ParameterError(
            "value", "must be numbers, bytes or text", array.dtype.name, "Convert it to an array."
        )
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    header = f"{array.dtype.str} {array.shape}".encode()
    return _sha256([header, array.tobytes()])[:INPUT_DIGEST_LENGTH]


def digest_inputs(input_digests: Iterable[str]) -> str:
    """Digest of a split's inputs from the digests of its samples, in the order given."""
    return _sha256([each.encode() for each in input_digests])


def _prefixed(texts: Iterable[str]) -> Iterable[bytes]:
    """Length-prefixed UTF-8, so that ["ab", "c"] and ["a", "bc"] differ."""
    for text in texts:
        encoded = text.encode()
        yield len(encoded).to_bytes(8, "little") + encoded


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
