import mlflow
import numpy as np
import pytest
from helpers import message
from scipy import special

from actiontrack.errors import ParameterError
from actiontrack.recorder.probe import ArrayProbe, class_indices, log_probabilities, losses_of

LABELS = np.array([0, 1, 1])


def losses(loss, outputs, labels=LABELS):
    return losses_of(loss, outputs, np.asarray(labels))


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_the_margin_of_two_classes_becomes_two_logits(shape):
    margins = np.float32([0.5, -1, 2])
    found = losses("logits", margins.reshape(shape))
    assert found["logits"].tolist() == [[0, 0.5], [0, -1], [0, 2]]
    assert found["labels"].tolist() == [0, 1, 1]


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_the_probability_of_class_one_gives_that_of_class_zero(shape):
    found = losses("probabilities", np.array([0.25, 0.5, 0.9]).reshape(shape))
    p = special.softmax(found["logits"], axis=1)
    np.testing.assert_allclose(p, [[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_probability_of_zero_has_a_loss_of_36(dtype):
    found = losses("probabilities", np.array([[1, 0], [1, 0], [0, 1]], dtype))
    assert found["logits"][:, 1].tolist() == pytest.approx([-36.0437, -36.0437, 0], abs=1e-4)


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
    found = losses("squared_error", np.zeros((2, 2)), [[1, 3], [0, 2]])
    assert found["losses"].tolist() == [5, 2]


def test_predictions_of_another_shape_are_refused():
    text = (
        "outputs: must have the shape (3,) of the targets, got (3, 2). Pass a function as the loss."
    )
    with pytest.raises(ParameterError, match=message(text)):
        losses("squared_error", np.zeros((3, 2)))


def test_a_function_gets_labels_and_outputs():
    found = losses(lambda labels, outputs: labels * 10 + outputs, np.array([1, 2, 3]))
    assert found["losses"].tolist() == [1, 12, 13]


def test_an_unknown_loss_is_refused():
    text = (
        "loss: must be logits, probabilities, squared_error, absolute_error or a function, got "
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
    found = class_indices(np.array(labels))
    assert (found.tolist(), found.dtype) == ([0, 2, 1], np.int64)


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
    found = history(run_id)
    assert found.sample_ids.tolist() == ["a", "b", "c"]
    assert found.steps.tolist() == [1, 3]
    assert found.deltas.tolist() == [1, 2]
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
