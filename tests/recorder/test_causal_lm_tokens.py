"""Losses and texts of tokens in a record: of some documents, over the epochs, and damaged ones."""

import numpy as np
import pytest

from actiontrack.analysis import token_actions
from actiontrack.errors import CorruptRecordError, NotFoundError, RecordingError
from actiontrack.record.parquet import _table, write_table
from actiontrack.record.paths import TOKENS
from actiontrack.store.check import damaged_files, unreadable_tables
from actiontrack.store.tokens import has_tokens, token_action, token_texts

IDS = ["c", "a", "b"]
TEXTS = {"c": ["x", "\n", " 猫"], "a": ["", "<b>"]}


@pytest.fixture
def language(recorder):
    return lambda **options: recorder(pixel_loss_name="token_cross_entropy", **options)


def feed(recorder, epochs, names=("c", "a")):
    for epoch in epochs:
        recorder.update(IDS, [1.0, 2.0, 3.0], components={"n_tokens": [2, 1, 4]})
        recorder.update_maps(list(names), [losses(name, epoch) for name in names])
        recorder.end_epoch(epoch)


def losses(name, epoch):
    return np.array([[np.nan, *np.arange(1, len(TEXTS[name])) * epoch]], dtype=np.float32)


def test_some_documents_have_losses_of_tokens_and_texts(language, read):
    with language() as recorder:
        feed(recorder, (1, 2, 3))
        recorder.log_tokens(list(TEXTS), list(TEXTS.values()))
    record = read()
    assert has_tokens(record)
    assert not record.has_maps  # they are no pictures
    found = token_actions(record, "c")
    assert found["text"].tolist() == TEXTS["c"]
    assert found["position"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found["action"], [np.nan, 6, 12])
    np.testing.assert_array_equal(token_actions(record, "a")["action"], [np.nan, 6])
    with pytest.raises(NotFoundError, match="the tokens of sample b were not recorded"):
        token_actions(record, "b")
    assert not damaged_files(record)
    assert not unreadable_tables(record)


def test_a_document_keeps_its_tokens_in_every_epoch(language):
    with language() as recorder:
        feed(recorder, [1])
        with pytest.raises(RecordingError, match="1 samples of epoch 2 have a loss but no map: a"):
            feed(recorder, [2], names=["c"])
        recorder.discard_epoch()


def test_a_record_that_is_resumed_goes_on_with_its_tokens(language, read):
    first = language()
    feed(first, (1, 2))
    first.close()
    with language(resume=True) as second:
        feed(second, [3])
    np.testing.assert_array_equal(token_action(read(), 2), [np.nan, 6, 12])


def test_without_texts_there_are_none(language, read):
    with language() as recorder:
        feed(recorder, [1])
    assert token_texts(read(), 2) is None
    assert token_actions(read(), "c")["text"].isna().all()


def test_a_record_of_losses_has_no_tokens(recorder, read):
    with recorder() as opened:
        opened.update(IDS, [1.0, 2.0, 3.0])
        opened.end_epoch()
    with pytest.raises(NotFoundError, match=r"holds no losses of tokens\. Record them with tokens"):
        token_action(read(), 0)


def test_texts_of_unknown_documents_are_warned_about(language):
    with language() as recorder:
        feed(recorder, [1])
        with pytest.warns(UserWarning, match="tokens: sample_id z is none of the record"):
            recorder.log_tokens(["z"], [["x"]])
        with pytest.warns(UserWarning, match="texts: must be those of 1 documents"):
            recorder.log_tokens(["c"], [["x"], ["y"]])


def test_texts_that_do_not_fit_the_losses_are_told(language, read):
    with language() as recorder:
        feed(recorder, [1])
        recorder.log_tokens(["c"], [["only one"]])
    with pytest.raises(CorruptRecordError, match="holds 1 texts and 3 losses of the tokens of"):
        token_actions(read(), "c")


@pytest.mark.parametrize("column", ["sample", "text"])
def test_a_damaged_file_of_texts_is_told(language, read, column):
    columns = {"sample": np.array([0, 0, 99], np.int32), "text": ["x", "y", "z"]}
    if column == "text":
        columns = {"sample": np.zeros(3, np.int32), "text": np.arange(3)}
    with language() as recorder:
        feed(recorder, [1])
        recorder.log_tokens(["c"], [TEXTS["c"]])
        spool = recorder._writer.spool
        spool.add_file(TOKENS, write_table(spool.folder / TOKENS, _table(columns)))
    with pytest.raises(CorruptRecordError, match=r"tokens\.parquet"):
        token_texts(read(), 0)
    assert unreadable_tables(read())
