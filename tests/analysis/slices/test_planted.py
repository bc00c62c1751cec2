"""A planted bias in real trainings: 95 % of the images of one digit carry a patch.

The network learns the patch in place of the digit, so that the few images without it are learnt
late. Each seed is a training of its own; the attributes say which images carry the patch, and of
the other digits a coin does.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from actiontrack.analysis import slices
from actiontrack.analysis.slices.attributes import attribute
from actiontrack.testing import make_history

SEEDS, EPOCHS, DIGIT, SHARE = 20, 5, 3, 0.95


def marked(seed, labels):
    """Which images of the digit carry the patch."""
    rng = np.random.default_rng(seed)
    of_digit = rng.permutation(np.flatnonzero(labels == DIGIT))
    return np.isin(np.arange(labels.size), of_digit[: round(SHARE * of_digit.size)])


def train(seed, *, patch):
    """Summed cross-entropies of the images, their labels and attributes."""
    data = load_digits()
    images, labels = data.images / 16, data.target
    mark = marked(seed, labels)
    if patch:
        images[mark, :3, :3] = 1
    pixels, rows = images.reshape(len(images), -1), np.arange(labels.size)
    network = MLPClassifier((32,), learning_rate_init=0.01, batch_size=64, random_state=seed)
    action = np.zeros(labels.size)
    for _ in range(EPOCHS):
        network.partial_fit(pixels, labels, classes=np.arange(10))
        action -= np.log(np.maximum(network.predict_proba(pixels)[rows, labels], 1e-12))
    coin, side = np.random.default_rng(seed + SEEDS).random((2, labels.size)) < 0.5
    frame = pd.DataFrame({"patch": np.where(labels == DIGIT, mark, coin), "side": side})
    return action, labels, frame


@pytest.fixture
def results(record):
    """A function that slices every training: with the patch or without."""
    labels = load_digits().target
    history = make_history(n_steps=1, n_samples=labels.size, n_classes=10)
    opened = record(replace(history, labels=labels.astype(np.int64)))
    frame = pd.DataFrame({"sample_id": history.sample_ids, "patch": labels % 2 == 0})
    template = slices.sliced([opened], frame)

    def of_seed(seed, *, patch):
        action, _, frame = train(seed, patch=patch)
        columns = [attribute(frame[name].astype("boolean"), bins=5) for name in frame]
        of_training = replace(template, hardness=action[None], attributes=columns)
        return slices.slices(of_training, min_size=5)

    return lambda *, patch: [of_seed(seed, patch=patch) for seed in range(SEEDS)]


def test_the_images_without_the_patch_are_ranked_first_by_every_seed(results):
    for result in results(patch=True):
        first = result.table.iloc[0]
        assert first["slice"] == f"patch = false & class = class {DIGIT}"
        assert first["q_value"] <= slices.effects.SIGNIFICANT


def test_clean_trainings_list_no_more_than_the_rate_of_false_discoveries(results):
    n_listed = sum(not result.table.empty for result in results(patch=False))
    assert n_listed <= 2
