"""The task classification: what it records of a batch, and what it logs of a trained model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from projects.datasets import load_dataset
from projects.loading import Normalisation
from projects.loop import choose_compute
from projects.models import build_model
from projects.params import TrainParams, validate
from projects.session import Session
from projects.tasks.classification import SOFT_LOSS, Classification, class_probabilities
from projects.tasks.task import last_features

TASK = Classification()
IDS = np.arange(4)


class Recorded:
    """In place of a recorder: what it was given."""

    def __init__(self):
        self.calls = []

    def update(self, ids, losses=None, **options):
        self.calls.append((ids, losses, options))

    def log_features(self, ids, values):
        self.calls.append(("features", ids, values))

    def log_probabilities(self, ids, values):
        self.calls.append(("probabilities", ids, values))


def params(**values):
    small = {"model": "cnn3", "subset": 60, "test_subset": 20, "device": "cpu", "threads": 1}
    return validate(TrainParams, small | values)


@pytest.fixture(scope="module")
def session():
    chosen = params()
    splits = load_dataset(chosen)
    return Session.prepare(chosen, choose_compute(chosen), splits, task=TASK)


def test_a_batch_with_labels_is_recorded_by_its_logits():
    recorder, logits, labels = Recorded(), torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    TASK.record(recorder, IDS, logits, labels)
    ((ids, losses, options),) = recorder.calls
    assert ids is IDS
    assert losses is None
    assert options["logits"] is logits
    assert options["labels"] is labels


def test_a_batch_with_soft_labels_is_recorded_by_its_own_losses_and_its_most_likely_class():
    recorder, logits = Recorded(), torch.randn(4, 3)
    soft = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.2, 0.6, 0.2], [0.3, 0.4, 0.3]])
    TASK.record(recorder, IDS, logits, soft)
    ((_, losses, options),) = recorder.calls
    torch.testing.assert_close(losses, -(soft * logits.log_softmax(1)).sum(1))
    assert options["labels"].tolist() == [0, 2, 1, 1]


def test_the_training_loss_is_the_mean_of_the_recorded_losses():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    assert float(TASK.loss(logits, labels)) == pytest.approx(float(cross_entropy(logits, labels)))


@pytest.mark.parametrize(("soft", "expected"), [(None, None), ("shares", SOFT_LOSS)])
def test_the_loss_of_soft_labels_has_a_name_of_its_own(soft, expected):
    options = TASK.recorder_options(params(), SimpleNamespace(soft_labels=soft))
    assert options == {"loss_name": expected}


def test_the_model_is_described_by_the_arguments_that_build_it(session):
    described = dict(TASK.describe_model(params(), session.train))
    assert described.pop("class_names") == tuple("0123456789")
    assert build_model(**described).features(torch.zeros(1, 1, 8, 8)).shape == (1, 128)


def test_features_and_probabilities_are_logged_on_request_only(session):
    recorder = Recorded()
    TASK.log_extras(session, recorder, session.test)
    assert recorder.calls == []


@pytest.mark.parametrize("name", ["features", "probabilities"])
def test_what_is_asked_for_is_logged_in_the_order_of_the_split(session, name):
    recorder = Recorded()
    asking = SimpleNamespace(
        params=params(**{f"save_{name}": True}),
        model=session.model,
        compute=session.compute,
        normalisation=session.normalisation,
        evaluate=session.evaluate,
    )
    TASK.log_extras(asking, recorder, session.test)
    ((kind, ids, values),) = recorder.calls
    assert kind == name
    assert ids is session.test.ids
    assert len(values) == 20


def test_class_probabilities_are_the_softmax_of_the_model_in_eval_mode(session):
    images = Normalisation.of(session.train).apply(session.test.images)
    with torch.inference_mode():
        expected = session.model.eval()(images).softmax(dim=1).numpy()
    values = class_probabilities(session, session.test)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


def test_last_features_are_those_of_the_model_in_eval_mode(session):
    images = Normalisation.of(session.train).apply(session.test.images)
    with torch.inference_mode():
        expected = session.model.eval().features(images).numpy()
    session.model.train()
    values = last_features(session, session.test)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
    assert not session.model.training


def test_smoothed_labels_are_trained_on_and_not_recorded():
    logits, labels = torch.randn(6, 5), torch.arange(6) % 5
    smooth = 0.7 * torch.nn.functional.one_hot(labels, 5) + 0.3 / 5
    trained = TASK.training_loss(params(label_smoothing=0.3))(logits, labels)
    torch.testing.assert_close(trained, cross_entropy(logits, smooth))
    torch.testing.assert_close(TASK.loss(logits, labels), cross_entropy(logits, labels))
    recorder = Recorded()
    TASK.record(recorder, IDS, logits[:4], labels[:4])
    assert recorder.calls[0][1] is None  # by the recorder itself, from logits and labels
