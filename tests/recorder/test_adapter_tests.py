"""The tests that adapters of others subclass: a sound adapter passes, each fault is found."""

import contextlib

import mlflow
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

from actiontrack.recorder.sklearn import ProbeRecorder
from actiontrack.store import Store
from actiontrack.testing import AdapterTests, AdapterTraining

INPUTS, LABELS = load_digits(return_X_y=True)
INPUTS, LABELS = (INPUTS[:200] / 16).astype(np.float32), LABELS[:200]
CLASSES = np.arange(10)
IDS = [f"digit {row:03}" for row in range(40)]


class Digits(AdapterTests):
    """scikit-learn on 200 digits, probed on 40 of them."""

    rtol = 1e-4  # probabilities of float32 inputs

    def make_store(self, folder):
        del folder
        return Store(mlflow.get_tracking_uri())

    def train(self, options):
        return self._train(options)

    def train_until_error(self, options):
        self._train(options, fails=True)

    def _train(self, options, *, fails=False):
        classifier, losses = SGDClassifier(loss="log_loss"), []
        with self.probe(options) or contextlib.nullcontext() as probe:
            for _ in range(3):
                classifier.partial_fit(INPUTS, LABELS, CLASSES)
                losses.append(self.losses(classifier))
                if probe is not None:
                    probe.after_step(classifier)
                if fails:
                    raise RuntimeError("the power went")
        return AdapterTraining(
            ids=IDS, losses=losses, weights=[classifier.coef_, classifier.intercept_]
        )

    def probe(self, options):
        return (
            None if options is None else ProbeRecorder(INPUTS[:40], LABELS[:40], ids=IDS, **options)
        )

    @staticmethod
    def losses(classifier):
        chances = classifier.predict_proba(INPUTS[:40]).astype(float)
        chances /= chances.sum(axis=1, keepdims=True)
        rows = zip(LABELS[:40], chances, strict=True)
        return [log_loss([label], [row], labels=CLASSES) for label, row in rows]


class TestSoundAdapter(Digits):
    pass


class OtherIds(Digits):
    """Records each sample under the id of its neighbour."""

    def probe(self, options):
        if options is None:
            return None
        return ProbeRecorder(INPUTS[:40], LABELS[:40], ids=np.roll(IDS, 1), **options)


class DrawsNumbers(Digits):
    """Draws from the generator that the training draws from."""

    def probe(self, options):
        if options is not None:
            np.random.random()  # noqa: NPY002 - as a careless adapter would
        return super().probe(options)


class NeverFails(Digits):
    def train_until_error(self, options):
        self.train(options)


class WithoutFailingTraining(Digits):
    train_until_error = AdapterTests.train_until_error


@pytest.mark.parametrize(
    ("adapter", "test"),
    [
        (OtherIds, "test_recorded_losses_are_those_of_the_framework"),
        (DrawsNumbers, "test_recording_does_not_change_the_model"),
        (DrawsNumbers, "test_recording_does_not_change_the_random_states"),
        (NeverFails, "test_an_error_in_training_leaves_the_first_step"),
    ],
)
def test_a_fault_of_an_adapter_is_found(adapter, test):
    with pytest.raises(AssertionError):
        getattr(adapter(), test)()


def test_what_a_third_party_must_write_is_named():
    with pytest.raises(NotImplementedError):
        AdapterTests().train(None)
    with pytest.raises(NotImplementedError):
        AdapterTests().train_until_error({})
    with pytest.raises(NotImplementedError):
        WithoutFailingTraining().test_an_error_in_training_leaves_the_first_step()
