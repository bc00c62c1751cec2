import itertools
import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, load_script, message, with_peak
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from actiontrack import plots, scores
from actiontrack.errors import ParameterError
from actiontrack.history import LossHistory
from actiontrack.testing import make_history

GRIDS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
    elements=st.floats(0, 1000, width=32),
)


def history(losses, **changes):
    losses = np.asarray(losses, np.float32)
    ids = np.arange(losses.shape[1])
    return LossHistory(**{"losses": losses, "sample_ids": ids} | changes)


@given(GRIDS)
def test_action_is_the_sum_of_loss_times_delta_by_a_plain_loop(losses):
    deltas = np.linspace(0.5, 2, len(losses))
    for sample in range(losses.shape[1]):
        expected = math.fsum(
            float(losses[n, sample]) * float(deltas[n]) for n in range(len(losses))
        )
        assert scores.action(losses, deltas)[sample] == pytest.approx(expected, rel=1e-12)


@given(GRIDS, st.data())
def test_action_over_all_steps_is_the_sum_of_the_actions_of_its_parts(losses, data):
    cut = data.draw(st.integers(0, len(losses)))
    deltas = np.ones(len(losses))
    parts = scores.action(losses[:cut], deltas[:cut]) + scores.action(losses[cut:], deltas[cut:])
    np.testing.assert_allclose(scores.action(losses, deltas), parts, rtol=1e-12)


@given(GRIDS, st.permutations(range(6)))
def test_action_of_permuted_samples_is_the_permuted_action(losses, order):
    order = [each for each in order if each < losses.shape[1]]
    deltas = np.ones(len(losses))
    permuted = scores.action(losses[:, order], deltas)
    np.testing.assert_array_equal(permuted, scores.action(losses, deltas)[order])


@given(st.floats(0, 100, width=32), st.integers(1, 50))
def test_a_constant_loss_over_n_steps_has_n_times_that_action(loss, n_steps):
    losses = np.full((n_steps, 2), loss, np.float32)
    np.testing.assert_allclose(scores.action(losses, np.ones(n_steps)), n_steps * loss, rtol=1e-12)


def test_action_adds_float32_losses_in_float64():
    losses = np.full((100_000, 1), 0.1, np.float32)
    assert scores.action(losses, np.ones(100_000))[0] == pytest.approx(1e5 * float(np.float32(0.1)))


def test_action_of_no_steps_is_zero():
    assert scores.action(np.empty((0, 3), np.float32), np.empty(0)).tolist() == [0, 0, 0]


def test_action_refuses_deltas_of_another_length():
    with pytest.raises(ValueError, match="zip"):
        scores.action(np.ones((2, 3), np.float32), np.ones(3))


def test_nan_and_infinity_carry_through_the_action_of_their_sample_only():
    losses = np.array([[np.nan, np.inf, np.inf, 1], [1, 1, -np.inf, 1]], np.float32)
    found = scores.action(losses, np.ones(2))
    np.testing.assert_array_equal(found, [np.nan, np.inf, np.nan, 2])


def test_the_peers_agree_with_pandas():
    grid = np.random.default_rng(0).gamma(1, 1, (7, 20)).astype(np.float32)
    frame = pd.DataFrame(grid, dtype=np.float64)
    np.testing.assert_allclose(scores.mean_loss(grid), frame.mean())
    np.testing.assert_allclose(scores.loss_variance(grid), frame.var(ddof=0))
    np.testing.assert_allclose(scores.final_loss(grid), frame.iloc[-1])
    np.testing.assert_allclose(scores.area_under_margin(grid), frame.mean())
    np.testing.assert_allclose(scores.confidence(grid), frame.mean())
    np.testing.assert_allclose(scores.variability(grid), frame.std(ddof=0))
    np.testing.assert_allclose(scores.ensemble_mean(grid), frame.mean())


def test_the_variance_of_a_long_record_takes_less_memory_than_its_losses():
    losses = np.random.default_rng(0).gamma(1, 1, (40, 100_000)).astype(np.float32)
    found, peak = with_peak(lambda: scores.loss_variance(losses))
    np.testing.assert_array_equal(found, losses.var(axis=0, dtype=np.float64))
    assert peak < losses.nbytes


@pytest.mark.parametrize("score", [scores.mean_loss, scores.loss_variance, scores.final_loss])
def test_infinite_losses_give_no_warning_and_no_finite_score(score):
    losses = np.array([[np.inf, 1], [np.inf, 1]], np.float32)
    found = score(losses)
    assert not np.isfinite(found[0])
    assert np.isfinite(found[1])


def test_el2n_is_the_mean_over_the_first_ten_steps():
    grid = np.arange(24, dtype=np.float32).reshape(12, 2)
    np.testing.assert_allclose(scores.el2n(grid), grid[:10].mean(axis=0))


def test_forgetting_counts_falls_from_right_to_wrong_by_a_plain_loop():
    correct = np.random.default_rng(1).random((9, 50)) < 0.3
    for sample, found in enumerate(scores.forgetting(correct)):
        curve = correct[:, sample].tolist()
        events = sum(a and not b for a, b in itertools.pairwise(curve))
        assert found == (events if any(curve) else math.inf)


def test_min_max_reaches_zero_and_one():
    assert scores.min_max(np.array([3.0, 1.0, 2.0])).tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("values", [[2.0, 2.0], [0.0]])
def test_min_max_of_equal_scores_is_zero(values):
    assert scores.min_max(np.array(values)).tolist() == [0.0] * len(values)


def test_min_max_scales_by_the_finite_scores_and_keeps_the_others():
    found = scores.min_max(np.array([np.nan, 1, 3, np.inf]))
    np.testing.assert_array_equal(found, [np.nan, 0, 1, np.inf])


def test_min_max_without_a_finite_score_is_not_finite():
    assert np.isnan(scores.min_max(np.array([np.nan, np.nan]))).all()


@given(
    hnp.arrays(np.float64, (4, 5), elements=st.one_of(st.just(0.0), st.floats(0.01, 100))).map(
        lambda p: p + (p.sum(axis=1, keepdims=True) == 0)
    )
)
def test_entropy_equals_scipy(weights):
    p = weights / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scores.entropy(p), stats.entropy(p, axis=1), atol=1e-12)


def test_the_entropy_of_an_ensemble_is_that_of_its_mean_distribution():
    p = np.random.default_rng(0).dirichlet([1, 2, 3], size=(4, 6)).astype(np.float32)
    expected = stats.entropy(p.astype(float).mean(axis=0), axis=1)
    np.testing.assert_allclose(scores.ensemble_entropy(p), expected, rtol=1e-6)


def test_a_certain_prediction_has_entropy_zero_without_a_sign():
    assert str(scores.entropy(np.array([1.0, 0.0]))) == "0.0"


def test_the_table_holds_every_score_of_a_classifier():
    table = scores.score_table(make_history(n_steps=4, n_samples=30))
    assert table.columns.tolist() == [
        "sample_id", "label",
        *(name for name in scores.SCORES if name not in {"action_NAME", "perplexity", "n_tokens"}),
    ]  # fmt: skip


def test_late_steps_count_more_in_the_late_margin():
    history = make_history(n_steps=4, n_samples=30)
    expected = np.average(history.measures["margin"], axis=0, weights=[1, 2, 3, 4])
    np.testing.assert_allclose(scores.score_table(history)["late_margin"], expected, rtol=1e-6)
    running = scores.running_score(history, "late_margin")
    np.testing.assert_allclose(
        running[1], np.average(history.measures["margin"][:2], axis=0, weights=[1, 2]), rtol=1e-6
    )


def test_a_sample_that_missed_a_step_has_no_late_margin():
    assert np.isnan(scores.late_margin(np.array([[1.0, 1.0], [np.nan, 1.0]]))).tolist() == [
        True, False,
    ]  # fmt: skip


def test_the_columns_of_the_table_keep_their_names_and_order():
    assert list(scores.SCORES) == [
        "action", "mean_loss", "final_loss", "loss_variance", "action_NAME", "perplexity",
        "aum", "late_margin", "confidence", "variability", "el2n", "forgetting", "final_entropy",
        "p_wrong", "suggested_class", "p_suggested", "predicted", "correct", "n_tokens", "n_steps",
    ]  # fmt: skip


def test_the_action_of_the_table_is_the_sum_of_the_losses():
    history = make_history(n_steps=4, n_samples=30)
    table = scores.score_table(history)
    np.testing.assert_allclose(table["action"], pd.DataFrame(history.losses).sum(), rtol=1e-6)
    assert (table["n_steps"] == 4).all()


def test_a_language_model_has_perplexities_and_no_action_of_a_number_of_tokens():
    counts = np.array([[3.0, 7.0], [3.0, 8.0]])
    table = scores.score_table(
        history([[1, 2], [0, 800]], components={"n_tokens": counts, "box": counts})
    )
    assert table["perplexity"].tolist() == [1.0, np.inf]
    assert table["n_tokens"].tolist() == [3, 8]  # at the last step
    assert table["action_box"].tolist() == [6, 15]
    assert "action_n_tokens" not in table.columns
    assert "n_tokens" in scores.unranked()


@pytest.mark.parametrize(
    "divisor", ["n_foreground", "n_anchors", "target_scores", "assigned_anchors"]
)
def test_what_the_losses_of_a_detector_are_divided_by_has_no_action(divisor):
    parts = {"box": np.ones((2, 2)), divisor: np.ones((2, 2))}
    table = scores.score_table(history([[1, 2], [3, 4]], components=parts))
    assert [name for name in table.columns if name.startswith("action")] == ["action", "action_box"]


def test_losses_alone_give_the_scores_of_losses():
    table = scores.score_table(history([[1, 2], [3, 4]], true_labels=[0, 1]))
    assert table.columns.tolist() == [
        "sample_id", "true_label", "action", "mean_loss", "final_loss", "loss_variance", "n_steps",
    ]  # fmt: skip


def test_each_component_has_its_own_action():
    parts = {"box": np.array([[1, 2], [3, 4]], np.float32)}
    assert scores.score_table(history([[1, 1], [1, 1]], components=parts))[
        "action_box"
    ].tolist() == [4, 6]


def test_a_sample_that_missed_a_step_has_no_action():
    seen = np.array([[True, True], [True, False]])
    full = make_history(n_steps=2, n_samples=2)
    parts = {"box": np.where(seen, 1, np.nan).astype(np.float32)}
    measures = {name: full.measures[name] for name in ("correct", "predicted")}
    table = scores.score_table(history(full.losses, seen=seen, measures=measures, components=parts))
    for name in ("action", "mean_loss", "loss_variance", "action_box", "forgetting"):
        assert math.isnan(table[name][1]), name
        assert not math.isnan(table[name][0]), name
    assert table["n_steps"].tolist() == [2, 1]


def test_a_history_without_steps_has_no_table():
    text = "history: must have at least one step, got 0. Record an epoch before asking for scores."
    with pytest.raises(ParameterError, match=message(text)):
        scores.score_table(history(np.empty((0, 2))))


def part_of(whole, n_steps):
    grids = {name: values[:n_steps] for name, values in whole.measures.items()}
    parts = {name: values[:n_steps] for name, values in whole.components.items()}
    return LossHistory(
        losses=whole.losses[:n_steps],
        sample_ids=whole.sample_ids,
        labels=whole.labels,
        deltas=whole.deltas[:n_steps],
        seen=whole.seen[:n_steps],
        measures=grids,
        components=parts,
    )


def test_a_running_score_is_the_score_of_the_steps_so_far():
    whole = make_history(n_steps=5, n_samples=12)
    seen = np.ones((5, 12), dtype=bool)
    seen[2, 3] = False
    deltas = np.array([1.0, 0.1, 2.5, 0.3, 1.0])
    components = {"box": whole.losses * np.float32(0.3)}
    whole = make_history(n_steps=5, n_samples=12, seen=seen, deltas=deltas, components=components)
    names = scores.score_table(whole).columns.drop(["sample_id", "label", "n_steps"])
    assert {"action", "action_box", "aum", "forgetting", "el2n", "final_loss"} <= set(names)
    for name in names:
        running = scores.running_score(whole, name)
        assert (running.shape, running.dtype) == ((5, 12), np.float64)
        for n_steps in range(1, 6):
            expected = scores.score_table(part_of(whole, n_steps))[name].to_numpy(float)
            np.testing.assert_array_equal(running[n_steps - 1], expected)


def test_a_running_score_that_the_history_does_not_give_is_refused():
    text = (
        "score: must be one of action, mean_loss, final_loss, loss_variance, got 'aum'. "
        "Choose one of these."
    )
    with pytest.raises(ParameterError, match=message(text)):
        scores.running_score(history([[1, 2]]), "aum")


def test_a_running_score_of_no_steps_is_refused():
    text = "history: must have at least one step, got 0. Record an epoch before asking for scores."
    with pytest.raises(ParameterError, match=message(text)):
        scores.running_score(history(np.zeros((0, 2))))


def test_the_action_of_pixels_is_the_weighted_sum_of_their_maps():
    maps = np.random.default_rng(0).exponential(size=(4, 3, 5)).astype(np.float32)
    deltas = [1.0, 0.5, 2.0, 3.0]
    expected = np.tensordot(deltas, maps.astype(np.float64), axes=1)
    found = scores.pixel_action(maps, deltas)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_pixel_actions_summed_in_parts_are_the_same_bits():
    maps = np.random.default_rng(1).exponential(size=(6, 3, 5)).astype(np.float32)
    half = scores.pixel_action(maps[:3], [1.0] * 3)
    again = scores.pixel_action(maps[3:], [1.0] * 3, start=half)
    np.testing.assert_array_equal(again, scores.pixel_action(maps, [1.0] * 6))


def test_pixel_actions_need_a_map():
    with pytest.raises(ParameterError, match=r"^maps: must hold one map at least, got 0\."):
        scores.pixel_action([], [])


# ---------------------------------------------------------------- the registry


@pytest.mark.parametrize("name", scores.SCORES)
def test_an_entry_says_what_its_score_is_and_which_side_is_hard(name):
    score = scores.SCORES[name]
    assert score.sentence
    assert score.hard in {"high", "low", "neither"}
    assert score.unit or name == "correct"  # true or false


def test_low_scores_are_hard_by_the_registry():
    assert {"aum", "late_margin", "confidence"} == scores.LOW_IS_HARD
    assert [scores.hardness_sign(name) for name in ("aum", "action", "action_box", "other")] == [
        -1.0, 1.0, 1.0, 1.0,
    ]  # fmt: skip


UNITS = [
    ("action", "epoch", "loss × epochs"),
    ("action", "batch", "loss × updates"),
    ("action", "wall_time", "loss × s"),
    ("action_box", "wall_time", "loss × s"),
    ("action", None, "loss × Δn"),
    ("mean_action", "epoch", "loss × epochs"),
    ("final_loss", "wall_time", "loss"),
    ("loss_variance", "epoch", "loss²"),
    ("aum", "epoch", "logits"),
    ("late_margin", "epoch", "logits"),
    ("confidence", "epoch", "probability"),
    ("forgetting", "epoch", "events"),
    ("final_entropy", "wall_time", "nats"),
    ("column_of_my_own", "epoch", ""),
]


@pytest.mark.parametrize(("name", "kind", "unit"), UNITS)
def test_the_unit_of_a_score_depends_on_the_kind_of_delta_where_delta_is_in_it(name, kind, unit):
    assert scores.score_unit(name, kind) == unit


def test_a_unit_may_name_the_loss():
    assert scores.score_unit("action", "epoch", loss="dice") == "dice × epochs"


@pytest.fixture
def extra_score(monkeypatch):
    """One more entry, and nothing else: the highest margin that a sample had."""
    entry = scores.Score(
        function=lambda margins: margins.max(axis=0), inputs=("margin",), hard="low",
        unit="logits", sentence="largest margin of all steps", source="here",
    )  # fmt: skip
    monkeypatch.setitem(scores.SCORES, "best_margin", entry)


def test_a_new_entry_is_in_the_score_table_and_in_running_scores(extra_score):
    history = make_history(n_steps=4, n_samples=9)
    expected = history.measures["margin"].max(axis=0)
    np.testing.assert_array_equal(scores.score_table(history)["best_margin"], expected)
    running = scores.running_score(history, "best_margin")
    np.testing.assert_array_equal(running[-1], expected)
    np.testing.assert_array_equal(running[0], history.measures["margin"][0])


def test_a_new_entry_has_its_hard_side_label_and_row_in_the_documentation(extra_score):
    assert scores.hardness_sign("best_margin") == -1.0
    frame = pd.DataFrame({"best_margin": [1.0, 2.0]})
    assert plots.score_histogram(frame, score="best_margin").get_xlabel() == "best margin (logits)"
    row = "| `best_margin` | largest margin of all steps | logits | low | here |"
    assert row in hooks().scores_table().splitlines()


def hooks():
    """What makes the pages of the site."""
    return load_script(ROOT / "docs" / "hooks.py")


def test_the_documentation_has_a_row_for_every_score():
    rows = hooks().scores_table().splitlines()
    assert [row.split("`")[1] for row in rows[2:]] == list(scores.SCORES)
