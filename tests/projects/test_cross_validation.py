"""Cross-validation and cleanlab's scores, against PyTorch, pandas and formulas by hand."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import message
from torch import nn

from actiontrack.errors import MissingDependencyError, ParameterError
from projects import session
from projects.cross_validation import (
    LABEL_QUALITY,
    OutOfFold,
    check_cleanlab,
    cross_validate,
    label_fixes,
    label_quality,
)
from projects.datasets import load_dataset
from projects.models import build_model
from projects.params import TrainParams, validate

N, FOLDS = 120, 3


def params(**values):
    small = {"model": "cnn3", "epochs": 1, "subset": N, "label_noise": 0.2, "threads": 1}
    return validate(TrainParams, small | values)


@pytest.fixture(scope="module")
def predicted():
    return cross_validate(params(), FOLDS)


@pytest.fixture
def seen(monkeypatch):
    """The ids that each model was trained on, and those that it predicted, by fold."""
    trained, predicted_ids = [], []

    def watch(function, ids_of_calls):
        def watched(*arguments, observe, **options):
            ids_of_calls.append(set())

            def look(ids, outputs, targets):
                ids_of_calls[-1].update(ids.tolist())
                observe(ids, outputs, targets)

            return function(*arguments, observe=look, **options)

        return watched

    monkeypatch.setattr(session, "train_epoch", watch(session.train_epoch, trained))
    monkeypatch.setattr(session, "evaluate", watch(session.evaluate, predicted_ids))
    return trained, predicted_ids


def test_no_sample_is_predicted_by_a_model_that_was_trained_on_it(seen):
    cross_validate(params(), FOLDS)
    trained, predicted_ids = seen
    assert len(trained) == len(predicted_ids) == FOLDS
    everything = set(load_dataset(params())[0].ids.tolist())
    for trained_on, new in zip(trained, predicted_ids, strict=True):
        assert not trained_on & new
        assert trained_on | new == everything


def test_the_folds_hold_every_sample_once(seen):
    result = cross_validate(params(), FOLDS)
    _, predicted_ids = seen
    assert sum(map(len, predicted_ids)) == N
    for fold, ids in enumerate(predicted_ids):
        assert set(result.sample_ids[result.folds == fold].tolist()) == ids


def test_samples_come_in_the_order_of_the_split_with_the_labels_given(predicted):
    split, _ = load_dataset(params())
    assert predicted.sample_ids.tolist() == split.ids.tolist()
    assert predicted.labels.tolist() == split.labels.tolist()
    assert predicted.labels.tolist() != split.true_labels.tolist()


def test_probabilities_of_each_sample_sum_to_one(predicted):
    assert predicted.probabilities.shape == (N, 10)
    assert predicted.probabilities.dtype == np.float32
    np.testing.assert_allclose(predicted.probabilities.sum(axis=1), 1, atol=1e-5)


def test_each_given_class_is_spread_evenly_over_the_folds(predicted):
    counts = pd.crosstab(predicted.labels, predicted.folds)
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 1


def test_the_same_parameters_give_the_same_probabilities(predicted):
    again = cross_validate(params(), FOLDS)
    np.testing.assert_array_equal(again.probabilities, predicted.probabilities)
    np.testing.assert_array_equal(again.folds, predicted.folds)


def test_another_seed_gives_other_folds(predicted):
    other = cross_validate(params(seed=1, noise_seed=0), FOLDS)
    assert other.labels.tolist() == predicted.labels.tolist()
    assert other.folds.tolist() != predicted.folds.tolist()


def test_what_is_recorded_plays_no_part(predicted):
    recorded = cross_validate(params(record=("train", "test"), mode="both"), FOLDS)
    np.testing.assert_array_equal(recorded.probabilities, predicted.probabilities)


def test_a_fold_is_one_training_on_the_others_by_hand():
    """One epoch of one batch: a single step of Adam from the weights that the seed gives."""
    result = cross_validate(params(batch_size=N, seed=3), FOLDS)
    split, _ = load_dataset(params(seed=3))
    out = torch.from_numpy(result.folds == 1)
    pixels = split.images.double() / 255
    mean, std = pixels[~out].mean(), pixels[~out].std(correction=0)
    inputs = ((pixels - mean) / std).float()
    torch.manual_seed(3)
    model = build_model("cnn3", in_channels=1, image_size=8, n_classes=10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    nn.functional.cross_entropy(model(inputs[~out]), split.labels[~out]).backward()
    optimizer.step()
    with torch.inference_mode():
        expected = model.eval()(inputs[out]).softmax(dim=1)
    np.testing.assert_allclose(result.probabilities[out.numpy()], expected, atol=1e-4)


@pytest.mark.parametrize("ids", [np.arange(4), np.array(["cat/1.png", "é", "b", "a"])])
def test_what_is_saved_is_what_is_loaded(ids, tmp_path):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), size=4).astype(np.float32)
    saved = OutOfFold(
        sample_ids=ids, labels=np.array([0, 2, 1, 1]), folds=np.array([0, 1, 0, 1]),
        probabilities=probabilities,
    )  # fmt: skip
    saved.save(tmp_path / "p.parquet")
    loaded = OutOfFold.load(tmp_path / "p.parquet")
    for name in ("sample_ids", "labels", "folds", "probabilities"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
    frame = pd.read_parquet(tmp_path / "p.parquet")
    assert list(frame.columns) == ["sample_id", "label", "fold", "probabilities"]
    np.testing.assert_array_equal(np.stack(frame["probabilities"]), probabilities)


@pytest.mark.parametrize("folds", [1, 200])
def test_folds_that_a_class_can_not_fill_are_refused(folds):
    labels = load_dataset(params())[0].labels.numpy()
    name, smallest = min(enumerate(np.bincount(labels).tolist()), key=lambda pair: pair[1])
    text = (
        f"folds: must be an integer >= 2 and <= {smallest}, the samples labelled {name}, "
        f"got {folds}. Pass for instance 3, or use more images."
    )
    with pytest.raises(ParameterError, match=message(text)):
        cross_validate(params(), folds)


def test_cleanlab_s_scores_are_their_formulas_by_hand(predicted):
    scores = label_quality(predicted.labels, predicted.probabilities)
    assert list(scores) == [f"cleanlab_{method}" for method in LABEL_QUALITY]
    rows, p = np.arange(N), predicted.probabilities.astype(np.float64)
    of_label = p[rows, predicted.labels]
    np.testing.assert_allclose(scores["cleanlab_self_confidence"], of_label, rtol=1e-6)
    others = p.copy()
    others[rows, predicted.labels] = -np.inf
    margin = (of_label - others.max(axis=1) + 1) / 2  # cleanlab maps -1..1 to 0..1
    np.testing.assert_allclose(scores["cleanlab_normalized_margin"], margin, rtol=1e-5, atol=1e-7)
    weighted = (
        -(p * np.log(p)).sum(axis=1) / np.log(10) / of_label
    )  # high for suspects: turned round
    order = np.argsort(np.argsort(-weighted))
    turned = np.argsort(np.argsort(scores["cleanlab_confidence_weighted_entropy"]))
    assert np.corrcoef(order, turned)[0, 1] > 0.999


def test_cleanlab_flags_what_the_other_folds_contradict(predicted):
    fixes = label_fixes(predicted.labels, predicted.probabilities)
    assert (fixes["flagged"].dtype, fixes["flagged"].shape) == (np.bool_, (N,))
    best = predicted.probabilities.argmax(axis=1)
    np.testing.assert_array_equal(fixes["suggested_class"], best)
    assert (best != predicted.labels)[fixes["flagged"]].all()
    assert 0 <= fixes["estimate"] <= N


def test_without_cleanlab_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    text = "cleanlab's scores need cleanlab: pip install 'actiontrack[cleanlab]'"
    with pytest.raises(MissingDependencyError, match=message(text)):
        check_cleanlab()
