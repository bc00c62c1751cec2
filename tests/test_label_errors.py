"""Which labels are wrong, from the probabilities while learning.

Labels are drawn from classes that are known, by a known matrix of confusions, and the network
gives each sample the probabilities that it really has, more or less flat: what is expected follows
from Bayes' rule.
"""

import numpy as np
import pytest
from helpers import with_peak
from hypothesis import given as drawn_from
from hypothesis import settings
from hypothesis import strategies as st

from actiontrack import label_errors
from actiontrack.history import classification_measures
from actiontrack.label_errors import Evidence

N_CLASSES = 5


def evidence_of(probabilities, labels):
    """What a record holds of (n_steps, n_samples, n_classes) probabilities."""
    rows = np.arange(len(labels))
    logs = np.log(probabilities)
    label = logs[:, rows, labels]
    others = logs.copy()
    others[:, rows, labels] = -np.inf
    return Evidence(
        labels=labels,
        target_probability=np.exp(label).astype(np.float32),
        margin=(label - others.max(axis=2)).astype(np.float32),
        largest_other=others.argmax(axis=2).astype(np.int32),
    )


def drawn(confusions, *, n_samples=4_000, n_steps=6, seed=0):
    """Probabilities of the classes, classes and labels drawn from them, and the evidence.

    Step n of the network knows the probabilities to the power of 1/3, with a little noise.
    """
    rng = np.random.default_rng(seed)
    posterior = rng.dirichlet(np.full(N_CLASSES, 0.08), size=n_samples) + 1e-4
    posterior /= posterior.sum(axis=1, keepdims=True)
    truth = (posterior.cumsum(axis=1) > rng.random((n_samples, 1))).argmax(axis=1)
    labels = (confusions[truth].cumsum(axis=1) > rng.random((n_samples, 1))).argmax(axis=1)
    flat = posterior ** (1 / 3) * np.exp(rng.normal(0, 0.1, (n_steps, n_samples, N_CLASSES)))
    return posterior, truth, labels, evidence_of(flat / flat.sum(axis=2, keepdims=True), labels)


def symmetric(share):
    return np.full((N_CLASSES, N_CLASSES), share / (N_CLASSES - 1)) + np.eye(N_CLASSES) * (
        1 - share - share / (N_CLASSES - 1)
    )


def to_the_next(share):
    return np.eye(N_CLASSES) * (1 - share) + np.roll(np.eye(N_CLASSES), 1, axis=1) * share


# ---------------------------------------------------------------- mean probabilities


def test_means_are_those_of_the_label_of_its_rivals_and_of_what_they_leave():
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(4), size=(3, 50))
    labels, weights = rng.integers(0, 4, 50), np.array([0.2, 0.3, 0.5])
    given = evidence_of(probabilities, labels)
    means = label_errors.mean_probabilities(
        given.target_probability, given.margin, given.largest_other, weights=weights, n_classes=4
    )
    for sample in range(50):
        expected = np.zeros(4)
        for weight, p in zip(weights, probabilities[:, sample], strict=True):
            best = max((c for c in range(4) if c != labels[sample]), key=lambda c: p[c])
            rest = (1 - p[labels[sample]] - p[best]) / 2
            for c in range(4):
                is_told = c in {labels[sample], best}
                expected[c] += weight * (p[c] if is_told else rest)
        assert means.label[sample] == pytest.approx(expected[labels[sample]], rel=1e-5)
        others = {c for c in range(4) if c != labels[sample]}
        for c, p in zip(means.rival_classes[sample], means.rivals[sample], strict=True):
            if c >= 0:
                assert p == pytest.approx(expected[c], rel=1e-4, abs=1e-7)
                others.remove(c)
        for c in others:
            assert means.rest[sample] == pytest.approx(expected[c], rel=1e-4, abs=1e-7)
        assert (np.diff(means.rivals[sample]) <= 0).all()


def test_a_probability_too_small_for_a_float_leaves_all_to_the_other():
    means = label_errors.mean_probabilities(
        np.zeros((1, 1), np.float32), np.full((1, 1), -200, np.float32),
        np.full((1, 1), 2), weights=[1.0], n_classes=3,
    )  # fmt: skip
    assert (means.label[0], means.rivals[0, 0], means.rest[0]) == (0.0, 1.0, 0.0)


def test_later_steps_weigh_more_and_one_that_agrees_with_every_label_nearly_nothing():
    margin = np.where(np.arange(1_000) < 300, -1.0, 1.0)
    weights = label_errors.step_weights(np.stack([margin, margin, margin, np.ones(1_000)]))
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights[1:3] / weights[0], [2, 3])
    assert weights[3] < weights[0] / 50


# ---------------------------------------------------------------- wrong labels


@pytest.mark.parametrize("confusions", [symmetric(0.1), symmetric(0.4), to_the_next(0.3)])
def test_the_number_of_wrong_labels_is_estimated(confusions):
    _, truth, labels, given = drawn(confusions)
    n_wrong = (labels != truth).sum()
    assert given.errors.n_wrong == pytest.approx(n_wrong, rel=0.1)
    assert given.errors.low <= given.errors.n_wrong <= given.errors.high
    assert np.sum(given.errors.p_wrong) == pytest.approx(given.errors.n_wrong)


@pytest.mark.parametrize("confusions", [symmetric(0.1), symmetric(0.4), to_the_next(0.3)])
def test_probabilities_are_those_of_bayes_rule(confusions):
    posterior, _, labels, given = drawn(confusions)
    joint = posterior * confusions[:, labels].T
    expected = 1 - joint[np.arange(len(labels)), labels] / joint.sum(axis=1)
    assert np.abs(given.errors.p_wrong - expected).mean() < 0.03


@pytest.mark.parametrize("confusions", [symmetric(0.1), symmetric(0.4), to_the_next(0.3)])
def test_the_suggested_class_is_the_most_probable_other_one(confusions):
    posterior, _, labels, given = drawn(confusions)
    joint = posterior * confusions[:, labels].T
    joint[np.arange(len(labels)), labels] = -1
    clear = given.errors.p_wrong > 0.9
    agree = given.errors.suggested_class == joint.argmax(axis=1)
    assert clear.sum() > 100
    assert agree[clear].mean() > 0.9
    assert (given.errors.p_suggested <= given.errors.p_wrong + 1e-12).all()


def test_right_labels_are_left_alone():
    _, _, _, given = drawn(np.eye(N_CLASSES))
    assert given.errors.n_wrong < 0.02 * 4_000


def test_a_usual_confusion_is_more_suspect_than_an_unusual_one_at_equal_evidence():
    _, _, labels, given = drawn(to_the_next(0.3))
    rows = np.flatnonzero(labels == 1)[:2]
    probabilities = np.full((6, 2, N_CLASSES), 0.02)
    probabilities[:, :, 1] = 0.47
    probabilities[:, 0, 0] = probabilities[:, 1, 3] = 0.47  # 0 is often called 1, 3 never
    twins = evidence_of(probabilities, labels[rows])
    for name in ("target_probability", "margin", "largest_other"):
        getattr(given, name)[:, rows] = getattr(twins, name)
    usual, unusual = Evidence(
        labels, given.target_probability, given.margin, given.largest_other
    ).errors.p_wrong[rows]
    assert usual > 3 * unusual
    assert unusual < 0.1


def test_what_is_learnt_by_heart_at_the_end_does_not_hide_how_many_are_wrong():
    _, truth, labels, given = drawn(symmetric(0.2), n_steps=9)
    n_wrong = (labels != truth).sum()
    given.target_probability[6:], given.margin[6:] = 0.98, 5.0
    learnt = Evidence(labels, given.target_probability, given.margin, given.largest_other).errors
    assert learnt.n_wrong == pytest.approx(n_wrong, rel=0.15)
    assert learnt.low < 0.8 * n_wrong


def test_samples_without_label_or_step_have_no_part_in_it():
    _, _, labels, given = drawn(symmetric(0.1), n_samples=500)
    alone = Evidence(
        labels[2:], *(grid[:, 2:] for grid in (
            given.target_probability, given.margin, given.largest_other,
        ))
    ).errors  # fmt: skip
    unknown = labels.copy()
    unknown[0] = -1
    given.target_probability[3, 1] = np.nan
    errors = Evidence(unknown, given.target_probability, given.margin, given.largest_other).errors
    assert np.isnan(errors.p_wrong[:2]).all()
    assert np.isnan(errors.p_suggested[:2]).all()
    assert errors.suggested_class[:2].tolist() == [-1, -1]
    np.testing.assert_array_equal(errors.p_wrong[2:], alone.p_wrong)


def test_the_order_of_the_samples_does_not_matter():
    given = drawn(symmetric(0.3), n_samples=800)[-1]
    order = np.random.default_rng(3).permutation(800)
    permuted = given.of(order).errors
    np.testing.assert_allclose(permuted.p_wrong, given.errors.p_wrong[order], atol=1e-4)


def test_some_steps_are_what_a_record_of_these_steps_gives():
    _, _, labels, given = drawn(symmetric(0.3), n_samples=300)
    grids = (given.target_probability[:3], given.margin[:3], given.largest_other[:3])
    np.testing.assert_array_equal(given[:3].errors.p_wrong, Evidence(labels, *grids).errors.p_wrong)


@pytest.mark.parametrize("labels", [[], [-1, -1], [0, 0]])
def test_without_labels_or_with_one_class_nothing_is_known(labels):
    n = len(labels)
    grid = np.full((2, n), 0.5, np.float32)
    errors = Evidence(np.array(labels, np.int64), grid, grid, np.full((2, n), -1)).errors
    assert np.isnan(errors.p_wrong).all()
    assert errors.suggested_class.tolist() == [-1] * n
    assert np.isnan(errors.n_wrong)


def test_classes_whose_confusions_memory_does_not_hold_are_left_alone():
    labels = np.array([0, 150_000])
    grid = np.full((2, 2), 0.5, np.float32)
    errors, peak = with_peak(lambda: Evidence(labels, grid, grid, np.full((2, 2), 7)).errors)
    assert np.isnan(errors.p_wrong).all()
    assert errors.suggested_class.tolist() == [-1, -1]
    assert peak < 2**20


def test_two_classes_are_enough():
    rng = np.random.default_rng(4)
    p = rng.beta(0.2, 0.2, 2_000).clip(1e-4, 1 - 1e-4)
    truth = (rng.random(2_000) < p).astype(int)
    labels = np.where(rng.random(2_000) < 0.15, 1 - truth, truth)
    probabilities = np.broadcast_to(np.stack([1 - p, p], axis=1), (4, 2_000, 2))
    errors = evidence_of(probabilities, labels).errors
    assert errors.n_wrong == pytest.approx((labels != truth).sum(), rel=0.15)
    assert set(errors.suggested_class) == {0, 1}


@settings(max_examples=150, deadline=None)
@drawn_from(
    n_steps=st.integers(1, 4), n_samples=st.integers(1, 12), n_classes=st.integers(2, 12),
    seed=st.integers(0, 2**16), scale=st.sampled_from([0.0, 1.0, 30.0, 300.0, 1e30]),
    n_missing=st.integers(0, 3),
)  # fmt: skip
def test_whatever_a_record_holds_gives_probabilities(
    n_steps, n_samples, n_classes, seed, scale, n_missing
):
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(n_steps * n_samples, n_classes)) * scale).astype(np.float32)
    logits[rng.random(logits.shape) < 0.1] = -np.inf
    labels = rng.integers(-1, n_classes, n_samples)
    measures = classification_measures(logits, np.tile(labels, n_steps))
    grids = [
        measures[name].reshape(n_steps, n_samples)
        for name in ("target_probability", "margin", "largest_other")
    ]
    grids[0][0, :n_missing] = np.nan
    errors = Evidence(labels, *grids).errors
    has_one = np.isfinite(errors.p_wrong)
    assert ((errors.p_wrong[has_one] >= 0) & (errors.p_wrong[has_one] <= 1)).all()
    assert (errors.p_suggested[has_one] <= errors.p_wrong[has_one] + 1e-12).all()
    assert (errors.suggested_class < n_classes).all()
    assert (errors.suggested_class != labels)[has_one].all()
    assert not has_one[labels < 0].any()
    assert not has_one[:n_missing].any()
