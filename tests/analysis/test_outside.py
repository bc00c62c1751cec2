"""Agreement of scores with outside difficulty, beside SciPy's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis_helpers import N_SAMPLES
from helpers import message
from scipy import stats

from actiontrack import analysis
from actiontrack.analysis import sentences
from actiontrack.errors import DataError, NotComparableError, NotFoundError, ParameterError
from actiontrack.history import LossHistory
from actiontrack.scores import SCORES
from actiontrack.store import RunQuery

CSCORES = Path(__file__).parents[3] / "shared/data/cscores/cifar10-cscores-orig-order.npz"


@pytest.fixture
def text_ids(history):
    """The history with paths as ids."""
    return replace(history, sample_ids=np.array([f"cat/{row:03d}.jpg" for row in range(N_SAMPLES)]))


@pytest.fixture
def entropy(history):
    """What people said: the action with noise, so that they agree in part."""
    action = history.losses.astype(float).sum(axis=0)
    return action + np.random.default_rng(3).normal(0, 2 * action.std(), N_SAMPLES)


def table_of(ids, values, name="entropy"):
    """Rows in another order than that of the record."""
    order = np.random.default_rng(5).permutation(len(ids))
    return pd.DataFrame({"sample_id": np.asarray(ids)[order], name: np.asarray(values)[order]})


def spearman(a, b):
    return stats.spearmanr(a, b).statistic


def without_intervals(records, outside, **options):
    return analysis.agreement_with(records, outside, n_bootstrap=0, **options)


def test_the_correlations_are_those_of_scipy_overall_and_in_each_class(record, text_ids, entropy):
    stored = record(text_ids)
    result = without_intervals(
        [stored], table_of(text_ids.sample_ids, entropy), methods=("spearman", "pearson")
    )
    action = text_ids.losses.astype(float).sum(axis=0)
    rows = result.table.set_index(["method", "class"])["value"]
    assert rows["spearman", "overall"] == pytest.approx(spearman(action, entropy))
    assert rows["pearson", "overall"] == pytest.approx(np.corrcoef(action, entropy)[0, 1])
    for label in range(3):
        chosen = text_ids.labels == label
        expected = spearman(action[chosen], entropy[chosen])
        assert rows["spearman", f"class {label}"] == pytest.approx(expected)
    frame = pd.DataFrame({"action": action, "entropy": entropy})
    centred = frame - frame.groupby(text_ids.labels).transform("mean")
    assert rows["spearman", "within-class"] == pytest.approx(spearman(*centred.to_numpy().T))


def test_the_interval_is_that_of_resampled_samples(record, history, entropy):
    result = analysis.agreement_with(
        [record(history)], table_of(history.sample_ids, entropy), n_bootstrap=2000
    )
    action = history.losses.astype(float).sum(axis=0)
    draws = np.random.default_rng(11).integers(0, N_SAMPLES, (2000, N_SAMPLES))
    expected = np.quantile(
        [spearman(action[draw], entropy[draw]) for draw in draws], [0.025, 0.975]
    )
    row = result.table.query("`class` == 'overall'").iloc[0]
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(expected, abs=0.03)


def test_the_interval_of_a_mean_resamples_all_runs_alike(four_runs, experiment, entropy):
    records = analysis.load_records(RunQuery(experiments=(experiment,)))
    aligned = analysis.align(records)
    outside = table_of(aligned.sample_ids, entropy)
    table = analysis.agreement_with(records, outside, n_bootstrap=2000).table
    row = table.query("`class` == 'overall' and kind == 'mean' and model == 'b'").iloc[0]
    draws = np.random.default_rng(12).integers(0, N_SAMPLES, (2000, N_SAMPLES))
    means = [
        np.mean([spearman(values[draw], entropy[draw]) for values in aligned.values[2:]])
        for draw in draws
    ]
    expected = np.quantile(means, [0.025, 0.975])
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(expected, abs=0.03)


def test_a_low_value_is_hard_on_request(record, history, entropy):
    stored, outside = record(history), table_of(history.sample_ids, entropy)
    hard = without_intervals([stored], outside)
    easy = without_intervals([stored], outside, high_is_hard=False)
    np.testing.assert_allclose(easy.table["value"], -hard.table["value"])
    assert "of which high is hard" in sentences.describe_agreement(hard)
    assert "of which low is hard" in sentences.describe_agreement(easy)


def test_a_score_that_is_low_for_hard_samples_is_turned(record, history, entropy):
    stored = record(history)
    result = without_intervals([stored], table_of(history.sample_ids, entropy), scores=["aum"])
    aum = stored.scores()["aum"].to_numpy(np.float64)
    value = result.table.query("`class` == 'overall'")["value"].item()
    assert value == pytest.approx(spearman(-aum, entropy))


def test_of_a_models_runs_the_mean_and_their_own_agreement_are_told(four_runs, experiment, entropy):
    records = analysis.load_records(RunQuery(experiments=(experiment,)))
    aligned = analysis.align(records)
    result = without_intervals(records, table_of(aligned.sample_ids, entropy))
    overall = result.table.query("`class` == 'overall'")
    single = [spearman(values, entropy) for values in aligned.values]
    runs = overall.query("kind == 'run'")
    assert runs["run_id"].tolist() == aligned.runs["run_id"].tolist()
    assert runs["value"].tolist() == pytest.approx(single)
    means = overall.query("kind == 'mean'").set_index("model")
    assert means["value"].to_dict() == pytest.approx(
        {"a": np.mean(single[:2]), "b": np.mean(single[2:])}
    )
    ceilings = {"a": spearman(*aligned.values[:2]), "b": spearman(*aligned.values[2:])}
    assert means["same_model"].to_dict() == pytest.approx(ceilings)
    expected = means["value"] / np.sqrt(pd.Series(ceilings))
    np.testing.assert_allclose(means["disattenuated"], expected)
    assert means["n_runs"].tolist() == [2, 2]


def test_a_model_with_one_run_has_no_mean(record, history, entropy):
    other = replace(history, losses=history.losses * np.linspace(1, 2, N_SAMPLES, dtype=np.float32))
    records = [record(history, model="a"), record(history, model="a"), record(other, model="b")]
    table = without_intervals(records, table_of(history.sample_ids, entropy)).table
    assert table.query("kind == 'mean'")["model"].unique().tolist() == ["a"]
    assert table.query("kind == 'run'")["model"].unique().tolist() == ["a", "b"]


def test_integer_ids_may_come_as_text(record, history, entropy):
    stored = record(history)
    as_text = table_of([str(number) for number in history.sample_ids], entropy)
    expected = without_intervals([stored], table_of(history.sample_ids, entropy))
    assert without_intervals([stored], as_text).table.equals(expected.table)


def test_samples_without_a_value_are_left_out_and_counted(record, text_ids, entropy):
    values = entropy.copy()
    values[[2, 3, 4]] = [np.nan, np.inf, np.nan]
    outside = table_of([*text_ids.sample_ids[2:], "dog/1.jpg"], [*values[2:], 1.0])
    result = without_intervals([record(text_ids)], outside)
    assert result.coverage.to_dict("records") == [
        {
            "outside": "entropy", "n_samples": N_SAMPLES, "n_without_row": 2,
            "example": "cat/000.jpg", "n_without_value": 3, "n_unused": 1,
        }
    ]  # fmt: skip
    row = result.table.iloc[0]
    action = text_ids.losses.astype(float).sum(axis=0)
    assert row["value"] == pytest.approx(spearman(action[5:], values[5:]))
    assert (row["n_samples"], row["n_dropped"]) == (N_SAMPLES - 5, 5)
    assert sentences.describe_agreement(result).endswith(
        f"Of {N_SAMPLES} samples of the runs these are left out for entropy: 2 without a row, such "
        "as 'cat/000.jpg', 3 without a finite value. 1 row of the table is of no sample of the "
        "runs."
    )


def test_every_measure_has_its_rows(record, history, entropy):
    outside = table_of(history.sample_ids, entropy).assign(seconds=lambda rows: -rows["entropy"])
    table = without_intervals([record(history)], outside).table
    values = table.set_index(["outside", "class"])["value"].unstack("outside")  # noqa: PD010
    np.testing.assert_allclose(values["seconds"], -values["entropy"])


def test_all_scores_that_order_samples_are_taken_on_request(record, history, entropy):
    table = without_intervals([record(history)], table_of(history.sample_ids, entropy), scores=None)
    expected = {name for name, score in SCORES.items() if score.ranks}
    expected -= {"action_NAME", "perplexity"}  # of parts of a loss, of language models
    assert set(table.table["score"]) == expected


def test_a_score_without_an_order_is_said_to_have_none(record, history, entropy):
    flat = replace(history, losses=np.ones_like(history.losses))
    result = without_intervals([record(flat)], table_of(history.sample_ids, entropy))
    assert result.table["value"].isna().all()
    assert "is not defined for action (fewer than 3 finite values, or all the same)." in (
        sentences.describe_agreement(result)
    )


def test_the_sentence_has_the_numbers_of_the_table(four_runs, experiment, entropy):
    records = analysis.load_records(RunQuery(experiments=(experiment,)))
    outside = table_of(records[0].samples.sample_ids, entropy)
    result = analysis.agreement_with(records, outside, n_bootstrap=50)
    mean = result.table.query("`class` == 'overall' and kind == 'mean' and model == 'a'").iloc[0]
    assert sentences.describe_agreement(result).startswith(
        f"Spearman's ρ with entropy, of which high is hard, over {N_SAMPLES} samples in 2 runs of "
        f"a, on average, is {mean['value']:.3f} for action (95 % interval {mean['ci_low']:.3f} to "
        f"{mean['ci_high']:.3f}; between two of the runs {mean['same_model']:.3f}). "
    )


def test_ids_that_meet_nowhere_are_shown_beside_each_other(record, text_ids, entropy):
    text = (
        f"none of the {N_SAMPLES} samples of the runs has an outside difficulty: their ids look "
        "like 'cat/000.jpg', those of the table like '7'. Ids are compared as text, never by "
        "position: write those of the record."
    )
    outside = pd.DataFrame({"sample_id": np.arange(7, 7 + N_SAMPLES), "entropy": entropy})
    with pytest.raises(NotComparableError, match=message(text)):
        without_intervals([record(text_ids)], outside)


def test_hashed_ids_are_hinted_at(new_run, store, spool, entropy):
    from actiontrack.recorder import Recorder

    run = new_run()
    with Recorder(run_id=run, store=store, spool=spool, id_salt="s" * 32) as recorder:
        recorder.update(np.arange(6), np.linspace(1, 2, 6))
        recorder.end_epoch()
    with pytest.raises(NotComparableError, match="hash the others with 'actiontrack hash-ids'"):
        without_intervals([store.open_record(run)], table_of(np.arange(6), entropy[:6]))


def test_two_values_are_too_few(record, history, entropy):
    text = (
        f"only 2 of the {N_SAMPLES} samples of the runs have a value of entropy: a correlation "
        "needs 3. Choose another record with --record, or add values."
    )
    with pytest.raises(NotComparableError, match=message(text)):
        without_intervals([record(history)], table_of(history.sample_ids[:2], entropy[:2]))


def test_a_constant_is_no_difficulty(record, history):
    text = (
        f"all {N_SAMPLES} samples have the same value of entropy, 0.5: it puts them in no order. "
        "Choose another column."
    )
    outside = table_of(history.sample_ids, np.full(N_SAMPLES, 0.5))
    with pytest.raises(DataError, match=message(text)):
        without_intervals([record(history)], outside)


@pytest.mark.parametrize("scores", ["action", []])
def test_scores_are_a_list(record, history, entropy, scores):
    with pytest.raises(ParameterError, match="scores: must be a list of scores, got "):
        without_intervals([record(history)], table_of(history.sample_ids, entropy), scores=scores)


def test_an_unknown_score_is_named(record, history, entropy):
    outside = table_of(history.sample_ids, entropy)
    with pytest.raises(NotFoundError, match="no score 'actoin' in the record"):
        without_intervals([record(history)], outside, scores=["actoin"])


def test_ranks_run_from_easiest_to_hardest_on_both_sides(four_runs, experiment, entropy):
    records = analysis.load_records(RunQuery(experiments=(experiment,)))
    aligned = analysis.align(records)
    outside = table_of(aligned.sample_ids[1:], entropy[1:])
    frame = analysis.difficulty_ranks(records, outside, high_is_hard=False)
    size = N_SAMPLES - 1
    assert frame["sample_id"].tolist() == aligned.sample_ids[1:].tolist()
    np.testing.assert_allclose(
        frame["outside_rank"], (stats.rankdata(-entropy[1:]) - 1) / (size - 1)
    )
    expected = (stats.rankdata(aligned.values[:, 1:], axis=1) - 1) / (size - 1)
    np.testing.assert_allclose(frame["score_rank"], expected.mean(axis=0))
    assert frame.attrs == {"outside": "entropy", "score": "action", "n_runs": 4}


def test_an_unknown_measure_is_refused(record, history, entropy):
    outside = table_of(history.sample_ids, entropy)
    text = "column: must be one of entropy, got 'seconds'. Choose one."
    with pytest.raises(ParameterError, match=message(text)):
        analysis.difficulty_ranks([record(history)], outside, column="seconds")


def test_the_c_scores_of_cifar10_agree_with_themselves(record, tmp_path):
    """Real C-scores by a table of ids, against a score that is made of them."""
    if not CSCORES.exists():
        pytest.skip("shared/data/cscores is not beside the repository")
    stored = np.load(CSCORES)
    rows = np.flatnonzero(stored["labels"] < 2)[:500]  # airplanes and automobiles
    labels, scores = stored["labels"][rows], stored["scores"][rows]
    names = ("airplane", "automobile")
    ids = np.array([f"train/{names[c]}/{i:05d}.jpg" for c, i in zip(labels, rows, strict=True)])
    order = np.argsort(ids)
    losses = (-np.log(scores) * np.ones((2, 1))).astype(np.float32)
    history = LossHistory(
        losses=losses[:, order], sample_ids=ids[order], labels=labels[order],
        class_names=names, loss_name="cross_entropy", split="train",
    )  # fmt: skip
    path = tmp_path / "cscores.csv"
    pd.DataFrame({"id": ids, "c_score": scores}).to_csv(path, index=False)
    outside = analysis.read_difficulties(path)
    table = without_intervals([record(history)], outside, high_is_hard=False).table
    assert table["class"].tolist()[2:] == list(names)
    np.testing.assert_allclose(table.query("`class` != 'within-class'")["value"], 1.0, atol=1e-6)
