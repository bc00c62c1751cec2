"""The measures of a classifier that a record holds, and those that one began without."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from recording import LABELS, LOGITS, N
from scipy import special

from actiontrack.history import MEASURES

GOLDEN = Path(__file__).parents[1] / "golden" / "v2" / "classification" / "test-probe"
#: The samples of the golden record, and what its next epoch is updated with.
NEXT = {
    "ids": [30, 4, 11, 2, 7, 19],
    "logits": np.random.default_rng(9).normal(size=(6, 3)).astype(np.float32),
    "labels": [0, 1, 2, 0, 1, 2],
}


def largest_others(logits):
    """Where the largest lies once the label's own is out of the way, by sorting."""
    order = np.argsort(-logits.astype(np.float64), axis=1)
    return np.where(order[:, 0] == LABELS, order[:, 1], order[:, 0])


@pytest.mark.parametrize("precision", ["full", "half"])
@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_every_measure_is_kept_of_logits_and_of_probabilities(recorder, read, outputs, precision):
    with recorder(precision=precision) as rec:
        for logits in LOGITS:
            values = logits if outputs == "logits" else special.softmax(logits, axis=1)
            rec.update(np.arange(N), **{outputs: values}, labels=LABELS)
            rec.end_epoch()
    measures = read().history().measures
    assert measures.keys() == MEASURES.keys()
    assert measures["largest_other"].dtype == measures["predicted"].dtype == np.int32
    expected = [largest_others(logits) for logits in LOGITS]
    np.testing.assert_array_equal(measures["largest_other"], expected)


def test_what_was_not_seen_has_no_largest_other(recorder, read):
    with recorder(allow_missing=True) as rec:
        for logits, n_seen in zip(LOGITS, (N, 4), strict=True):
            rec.update(np.arange(n_seen), logits=logits[:n_seen], labels=LABELS[:n_seen])
            rec.end_epoch()
    expected = np.stack([largest_others(logits) for logits in LOGITS])
    expected[1, 4:] = -1
    np.testing.assert_array_equal(read().history().measures["largest_other"], expected)


def test_a_record_that_began_without_a_measure_goes_on_without_it(recorder, read, store, run_id):
    folder = store.local_root(store.get_run(run_id)) / "actiontrack" / GOLDEN.name
    shutil.copytree(GOLDEN, folder)
    store.set_tags(
        run_id, {f"actiontrack.record.{GOLDEN.name}": "complete", "actiontrack.format": "2"}
    )
    before = read().history()
    options = {"model": "mlp", "class_names": ("ant", "bée", "猫")}
    with recorder(resume=True, **options) as rec:
        for _ in range(2):
            rec.update(**NEXT)
            rec.end_epoch()
    after = read().history()
    assert after.n_steps == before.n_steps + 2
    assert after.measures.keys() == before.measures.keys() == MEASURES.keys() - {"largest_other"}
    for name, grid in before.measures.items():
        np.testing.assert_array_equal(after.measures[name][: before.n_steps], grid)
