import mlflow
import numpy as np
import pytest
from helpers import message
from scipy import special
from sklearn.metrics import log_loss

from actiontrack.errors import ParameterError
from actiontrack.recorder.arrays import log_probabilities
from actiontrack.recorder.loss_check import differs
from actiontrack.recorder.probe import (
    ArrayProbe,
    call_in_progress,
    check_labels,
    class_indices,
    class_positions,
    losses_of,
    nearest_mean,
    same_labels,
)

LABELS = np.array([0, 1, 1])


def losses(loss, outputs, labels=LABELS):
    return losses_of(loss, outputs, np.asarray(labels))


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_the_margin_of_two_classes_becomes_two_logits(shape):
    margins = np.float32([0.5, -1, 2])
    recorded = losses("logits", margins.reshape(shape))
    assert recorded["logits"].tolist() == [[0, 0.5], [0, -1], [0, 2]]
    assert recorded["labels"].tolist() == [0, 1, 1]


def test_integers_are_no_logits():
    text = (
        "logits: must be floating-point numbers, got 'int64'. Pass the outputs of the model, not "
        "the classes that it predicts."
    )
    with pytest.raises(ParameterError, match=message(text)):
        losses("logits", [0, 1, 1])


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_the_probability_of_class_one_gives_that_of_class_zero(shape):
    recorded = losses("probabilities", np.array([0.25, 0.5, 0.9]).reshape(shape))
    p = special.softmax(recorded["logits"], axis=1)
    np.testing.assert_allclose(p, [[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_probability_of_zero_has_a_loss_of_36(dtype):
    recorded = losses("probabilities", np.array([[1, 0], [1, 0], [0, 1]], dtype))
    assert recorded["logits"][:, 1].tolist() == pytest.approx([-36.0437, -36.0437, 0], abs=1e-4)


def test_log_probabilities_are_those_of_numpy_above_the_epsilon():
    p = np.array([1e-10, 0.5, 1])
    np.testing.assert_array_equal(log_probabilities(p), np.log(p))


@pytest.mark.parametrize("outputs", [[1, 2, 4], [[1], [2], [4]]])
def test_errors_of_a_regression_do_not_broadcast(outputs):
    assert losses("squared_error", outputs, [0.5, 2, 1]) == {
        "losses": pytest.approx(np.array([0.25, 0, 9]))
    }
    assert losses("absolute_error", outputs, [0.5, 2, 1]) == {
        "losses": pytest.approx(np.array([0.5, 0, 3]))
    }


def test_errors_of_several_targets_are_averaged():
    recorded = losses("squared_error", np.zeros((2, 2)), [[1, 3], [0, 2]])
    assert recorded["losses"].tolist() == [5, 2]


def test_predictions_of_another_shape_are_refused():
    text = (
        "outputs: must have the shape (3,) of the targets, got (3, 2). Pass a function as the loss."
    )
    with pytest.raises(ParameterError, match=message(text)):
        losses("squared_error", np.zeros((3, 2)))


def test_a_function_gets_labels_and_outputs():
    recorded = losses(lambda labels, outputs: labels * 10 + outputs, np.array([1, 2, 3]))
    assert recorded["losses"].tolist() == [1, 12, 13]


def test_an_unknown_loss_is_refused():
    text = (
        "loss: must be logits, multilabel_logits, multilabel_probabilities, probabilities, "
        "squared_error, absolute_error or a function, got "
        "'hinge'. Choose one of these."
    )
    with pytest.raises(ParameterError, match=message(text)):
        losses("hinge", np.zeros((3, 2)))


@pytest.mark.parametrize(
    "labels",
    [[0, 2, 1], [[0], [2], [1]], [0.0, 2.0, 1.0], [[1, 0, 0], [0, 0, 1], [0, 1, 0]]],
    ids=["indices", "column", "floats", "one-hot"],
)
def test_labels_of_any_form_become_class_indices(labels):
    recorded = class_indices(np.array(labels))
    assert (recorded.tolist(), recorded.dtype) == ([0, 2, 1], np.int64)


@pytest.mark.parametrize("labels", [[0.5, 1], ["a", "b"], [[0.5], [1]]])
def test_labels_that_are_no_classes_are_refused(labels):
    with pytest.raises(ParameterError, match=r"^labels: must be class indices or one-hot rows"):
        class_indices(np.array(labels))


@pytest.mark.parametrize("labels", [[[0.5, 0.5]], [[1, 1]], [[0, 0]]])
def test_soft_labels_are_refused(labels):
    text = r"^labels: must be one-hot where they have a column per class, got .* Pass a function"
    with pytest.raises(ParameterError, match=text):
        class_indices(np.array(labels))


def test_ids_that_are_not_one_per_label_are_refused():
    text = "ids: must have length 3, got 2. Pass one id per label."
    with pytest.raises(ParameterError, match=message(text)):
        ArrayProbe(LABELS, ids=[1, 2])


def test_leaving_the_block_finishes_the_record(run_id, history, complete):
    with mlflow.start_run(run_id=run_id), ArrayProbe(LABELS, ids=["a", "b", "c"]) as probe:
        probe.record(np.eye(3, 2), "logits")
        probe.record(np.eye(3, 2), "logits", step=3, delta=2)
    recorded = history(run_id)
    assert recorded.sample_ids.tolist() == ["a", "b", "c"]
    assert recorded.steps.tolist() == [1, 3]
    assert recorded.deltas.tolist() == [1, 2]
    assert complete(run_id)
    assert probe.recorder.synced


def test_an_error_in_the_block_closes_the_record(run_id, complete):
    probe = ArrayProbe(LABELS, run_id=run_id)
    probe.record(np.eye(3, 2), "logits")
    with pytest.raises(ZeroDivisionError), probe:
        raise ZeroDivisionError
    assert not complete(run_id)


def test_a_probe_that_recorded_nothing_ends_quietly():
    with ArrayProbe(LABELS) as probe:
        pass
    assert probe.recorder is None


def test_the_loss_of_a_regression_is_named(run_id, history):
    with ArrayProbe([0.5, 1.5], run_id=run_id) as probe:
        probe.record([1.0, 1.0], lambda labels, outputs: np.abs(labels - outputs) * [1, 2])
    assert history(run_id).loss_name == "loss"
    with ArrayProbe([0.5, 2.5], run_id=run_id, split="val") as probe:
        probe.record([1.0, 1.0], "squared_error")
    assert history(run_id, "val-probe").loss_name == "squared_error"


YES_NO = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]])


def binary_cross_entropy(p, labels):
    """(n,) mean over the labels of a sample, by scikit-learn, one label at a time."""
    rows = zip(np.asarray(p), labels, strict=True)
    return [
        np.mean([log_loss([y], [q], labels=[0, 1]) for q, y in zip(*row, strict=True)])
        for row in rows
    ]


def test_independent_labels_have_a_binary_cross_entropy():
    z = np.random.default_rng(0).normal(size=(3, 3))
    p = special.expit(z)
    expected = binary_cross_entropy(p, YES_NO)
    for kind, outputs in (("multilabel_logits", z), ("multilabel_probabilities", p)):
        np.testing.assert_allclose(losses(kind, outputs, YES_NO)["losses"], expected)


def test_rows_that_are_one_hot_do_not_make_a_softmax():
    outputs, labels = np.log([[3.0, 2.0], [1.0, 4.0]]), [[1, 0], [0, 1]]
    expected = binary_cross_entropy(special.expit(outputs), labels)
    np.testing.assert_allclose(losses("multilabel_logits", outputs, labels)["losses"], expected)


@pytest.mark.parametrize("labels", [[[2, 0]], [[0.5, 1]], [1]])
def test_independent_labels_are_zero_or_one(labels):
    text = r"^labels: must be 0 or 1 in each of 2 columns, got .* Pass the labels as in training"
    with pytest.raises(ParameterError, match=text):
        check_labels("multilabel_logits", np.array(labels), 2)


def test_class_indices_stay_below_the_number_of_classes():
    check_labels("logits", np.array([0, 1]), 2)
    text = (
        "labels: must be class indices 0 to 1, got [-1, 2]. "
        "Encode them as 0, 1, …, in the order of the classes in training."
    )
    with pytest.raises(ParameterError, match=message(text)):
        check_labels("logits", np.array([0, 2, -1]), 2)


@pytest.mark.parametrize("codes", [[3, 5, 9], ["a", "b", "c"], [-1.0, 0.5, 2.0]])
def test_labels_are_found_among_the_classes(codes):
    labels = np.array(codes)[[2, 0]]
    assert class_positions(labels, np.array(codes)).tolist() == [2, 0]
    assert class_positions(labels[:, None], np.array(codes)).tolist() == [2, 0]


@pytest.mark.parametrize("label", [4, "b"])
def test_a_label_that_is_none_of_the_classes_is_refused(label):
    text = f"labels: must be classes of the estimator, got [{label!r}]. Leave these samples out."
    with pytest.raises(ParameterError, match=message(text)):
        class_positions(np.array([label]), np.array([3, 5]))


def test_the_mean_of_a_library_that_clips_is_met_where_it_clips():
    logits, labels = np.array([[0.0, 50.0], [0.0, 1.0]]), np.array([0, 1])
    p = special.softmax(logits, axis=1)
    expected = -np.log(np.maximum(p[[0, 1], labels], 1e-7)).mean()
    assert nearest_mean(9.0, "logits", logits, labels, smallest=1e-7) == pytest.approx(expected)
    unclipped = special.logsumexp(logits, axis=1) - logits[[0, 1], labels]
    assert nearest_mean(9.0, "logits", logits, labels) == pytest.approx(unclipped.mean())


def test_a_rounded_probability_leaves_the_mean_open_between_limits():
    margins, labels = np.array([20.0, 0.0]), np.array([0, 0])

    def nearest(reported):
        return nearest_mean(reported, "logits", margins, labels, smallest=1e-16)

    low, high = (11 + np.log(2)) / 2, (-np.log(1e-16) + np.log(2)) / 2
    assert nearest(12.0) == 12.0
    assert nearest(1.0) == pytest.approx(low)
    assert nearest(99.0) == pytest.approx(high)


@pytest.mark.parametrize(
    ("reported", "outputs"), [(0.7, [np.nan, 1.0]), (np.nan, [0.5, 1.0])], ids=["model", "library"]
)
@pytest.mark.parametrize("loss", ["logits", "multilabel_logits"])
def test_a_mean_that_is_no_number_agrees_with_none_that_is(reported, outputs, loss):
    columns = np.array(outputs)[:, np.newaxis], np.array([[0], [1]])
    recorded = nearest_mean(reported, loss, *columns, smallest=1e-7)
    assert differs(recorded, reported)


def test_weights_weigh_in_the_mean():
    outputs, labels = np.array([1.0, 3.0]), np.zeros(2)
    weights = np.array([3, 1])
    assert nearest_mean(0.0, "squared_error", outputs, labels, weights=weights) == 3


def test_the_same_labels_in_a_varied_order_are_the_same_samples():
    labels = np.arange(40) % 3
    assert same_labels(labels, labels.astype(np.float32))
    assert not same_labels(labels, labels[::-1])
    assert not same_labels(labels, labels[:30])
    assert not same_labels(np.sort(labels), np.sort(labels))  # any set with these counts


def test_a_call_in_progress_shows_its_variables():
    def outer(number):
        return inner(), number

    def inner():
        return call_in_progress(outer)

    assert outer(7)[0]["number"] == 7
    assert call_in_progress(outer) is None


def test_losses_that_are_all_equal_are_right_here(run_id, history):
    with ArrayProbe([1.0, 2.0], run_id=run_id) as probe:
        probe.record([2.0, 3.0], "squared_error")
    assert history(run_id).losses.tolist() == [[1, 1]]
