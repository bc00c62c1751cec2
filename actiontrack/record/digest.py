"""Content digests of a dataset: sha256 over every id, label and input, in canonical id order.

Two runs measure the same samples if and only if their digests agree. All bytes are little-endian,
so that the digest does not depend on the machine.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from actiontrack.errors import ParameterError

__all__ = [
    "ID_HASH_LENGTH",
    "INPUT_DIGEST_LENGTH",
    "digest_ids",
    "digest_input",
    "digest_inputs",
    "digest_labels",
    "hash_ids",
    "salt_check",
]

#: Characters kept of the digest of one input: 128 bits.
INPUT_DIGEST_LENGTH = 32

#: The same of the hash of an id.
ID_HASH_LENGTH = 32
_SHORTEST_SALT = 16


def digest_ids(sample_ids: npt.NDArray[np.generic]) -> str:
    """Digest of (n_samples,) integer or string ids in the order given.

    Raises:
        ParameterError: if an integer is beyond int64: its digest would be that of another one.

    >>> digest_ids(np.array([1, 2])) == digest_ids(np.array(["1", "2"]))
    False
    """
    if sample_ids.dtype.kind == "u" and sample_ids.size and int(sample_ids.max()) >= 2**63:
        rule, remedy = "must be integers below 2**63", "Pass larger ids as text."
        raise ParameterError("sample_ids", rule, int(sample_ids.max()), remedy)
    if sample_ids.dtype.kind in "iu":
        return _sha256([b"int64", sample_ids.astype("<i8").tobytes()])
    return _sha256([b"string", *_prefixed(str(sample_id) for sample_id in sample_ids.tolist())])


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
    return _sha256([digest.encode() for digest in input_digests])


def hash_ids(sample_ids: Iterable[object], salt: str) -> list[str]:
    """Salted hashes that stand for ids, so that nobody without the salt can tell whose they are.

    HMAC-SHA256 with the salt as key over the id as text in UTF-8, so that 17 and "17" have the same
    one; 32 hex characters.

    Args:
        sample_ids: integers or strings.
        salt: a secret of 16 characters or more, the same for runs that are to be compared.

    Raises:
        ParameterError: if the salt is too short to be a secret.
    """
    key = _key(salt)
    return [
        hmac.digest(key, text.encode(errors="surrogatepass"), "sha256").hex()[:ID_HASH_LENGTH]
        for text in map(str, sample_ids)
    ]


def salt_check(salt: str) -> str:
    """A value that differs between salts without revealing them: 16 hex characters.

    Raises:
        ParameterError: if the salt is too short to be a secret.
    """
    return hmac.digest(_key(salt), b"\xff actiontrack salt", "sha256").hex()[:16]


def _key(salt: str) -> bytes:
    if len(salt) < _SHORTEST_SALT:
        rule = f"must have {_SHORTEST_SALT} characters or more"
        remedy = "Make one: python -c 'import secrets; print(secrets.token_hex())'"
        raise ParameterError("id_salt", rule, f"{len(salt)} of them", remedy)
    return salt.encode()


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
