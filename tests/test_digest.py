import hashlib

import numpy as np
import pytest
from helpers import message
from hypothesis import given
from hypothesis import strategies as st

from actiontrack.errors import ParameterError
from actiontrack.record.digest import digest_ids, digest_input, digest_inputs, digest_labels

TEXTS = st.lists(st.text(max_size=5), min_size=1, max_size=5)


def test_integer_ids_worked_by_hand():
    expected = hashlib.sha256(b"int64" + (7).to_bytes(8, "little") + b"\xff" * 8).hexdigest()
    assert digest_ids(np.array([7, -1])) == expected


def test_string_ids_worked_by_hand():
    body = b"string" + (1).to_bytes(8, "little") + b"a" + (2).to_bytes(8, "little") + "é".encode()
    assert digest_ids(np.array(["a", "é"])) == hashlib.sha256(body).hexdigest()


def test_ids_of_another_width_or_byte_order_have_the_same_digest():
    ids = np.array([1, 2, 300])
    assert digest_ids(ids) == digest_ids(ids.astype(">i4")) == digest_ids(ids.astype(np.uint16))


def test_an_id_beyond_int64_has_no_digest_of_another_one():
    text = "sample_ids: must be integers below 2**63, got 18446744073709551615. "
    with pytest.raises(ParameterError, match=message(text + "Pass larger ids as text.")):
        digest_ids(np.array([2**64 - 1], np.uint64))
    assert digest_ids(np.array([2**63 - 1], np.uint64)) == digest_ids(np.array([2**63 - 1]))


@given(TEXTS, TEXTS)
def test_two_lists_of_string_ids_agree_only_if_they_are_equal(first, second):
    equal = np.array(first).tolist() == np.array(second).tolist()
    assert (digest_ids(np.array(first)) == digest_ids(np.array(second))) is equal


def test_the_order_of_ids_changes_the_digest():
    assert digest_ids(np.array([1, 2])) != digest_ids(np.array([2, 1]))


def test_labels_include_the_names_that_give_them_meaning():
    labels = np.array([0, 1])
    digests = {
        digest_labels(labels, ("cat", "dog")),
        digest_labels(labels, ("dog", "cat")),
        digest_labels(labels, ("catd", "og")),
        digest_labels(labels, ()),
        digest_labels(labels[::-1], ("cat", "dog")),
        digest_labels(None, ()),
    }
    assert len(digests) == 6


def test_labels_of_another_width_have_the_same_digest():
    assert digest_labels(np.array([0, 1], np.uint8), ()) == digest_labels(np.array([0, 1]), ())


def test_one_changed_pixel_changes_the_digest_of_an_input():
    image = np.zeros((4, 4, 3), np.uint8)
    changed = image.copy()
    changed[2, 2, 1] = 1
    assert digest_input(image) != digest_input(changed)


def test_an_input_is_its_dtype_shape_and_content():
    flat = np.arange(6, dtype=np.int32)
    digests = {digest_input(each) for each in (flat, flat.reshape(2, 3), flat.astype(np.int64))}
    assert len(digests) == 3


def test_memory_layout_and_byte_order_do_not_change_the_digest():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert digest_input(image) == digest_input(np.asfortranarray(image))
    assert digest_input(image) == digest_input(image.astype(">f4"))
    assert digest_input(image[:, ::2]) == digest_input(image[:, ::2].copy())


def test_the_digest_of_an_input_has_32_hex_characters():
    assert len(digest_input([1.0])) == 32
    assert int(digest_input([1.0]), 16) > 0


def test_python_objects_have_no_digest():
    text = "value: must be numbers, bytes or text, got 'object'. Convert it to an array."
    with pytest.raises(ParameterError, match=message(text)):
        digest_input(np.array([object()]))


def test_the_digest_of_a_split_depends_on_every_input_and_on_the_order():
    a, b, c = (digest_input([each]) for each in (1, 2, 3))
    digests = {digest_inputs(each) for each in ([a, b, c], [a, c, b], [a, b], [a, b, b])}
    assert len(digests) == 4
