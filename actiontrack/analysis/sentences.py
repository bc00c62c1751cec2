"""Findings in plain sentences with numbers: pages, terminal and report take them from here."""

from typing import Any

import numpy as np
import pandas as pd

from actiontrack.analysis.changes import OVERALL, Changes
from actiontrack.analysis.comparison import Comparison
from actiontrack.analysis.outside import OutsideAgreement
from actiontrack.analysis.slices.differences import SliceDifferences
from actiontrack.analysis.slices.effects import SIGNIFICANT, Slices
from actiontrack.compare import HIGH_ACTION, HIGH_ENTROPY

__all__ = [
    "REGIONS",
    "count_runs",
    "describe_agreement",
    "describe_changes",
    "describe_clusters",
    "describe_comparison",
    "describe_disattenuated",
    "describe_ensemble",
    "describe_map_correlation",
    "describe_neighbours",
    "describe_noise",
    "describe_pixel_classes",
    "describe_slice_differences",
    "describe_slices",
    "describe_stability",
    "describe_wrong_labels",
    "percent",
    "short_number",
    "span",
]

_LOW, _NEARLY = 0.01, 0.001  # probabilities below, and above one minus them, are told apart
#: What each region of interest means, by its name.
REGIONS = {
    HIGH_ACTION: "the models tend to be certain of another class than the label.",
    HIGH_ENTROPY: "the models tend to hesitate, and not to contradict the label.",
}

_FAR_APART = 3.0  # times the lower end
_NOT_JUDGED = (
    "No label could be judged: a step lacks every sample, or there are over 2,048 classes."
)
_WIDE = (
    "The range is wide: the network came to agree with labels that it contradicted at first. If it "
    "learnt wrong labels by heart, more are wrong than this: look at the number up to an earlier "
    "step."
)


def short_number(value: float) -> str:
    """A number as sentences show it: four digits."""
    return f"{value:.4g}"


def percent(probability: float) -> str:
    """A probability for people: in whole percent, near 0 and 1 with a decimal.

    >>> [percent(p).replace("\u00a0", " ") for p in (0.974, 0.9962, 0.99996, 0.004, 0.0)]
    ['97 %', '99.6 %', '> 99.9 %', '0.4 %', '< 0.1 %']
    """
    if probability < _NEARLY:
        text = f"< {100 * _NEARLY:.1f} %"
    elif probability > 1 - _NEARLY:
        text = f"> {100 * (1 - _NEARLY):.1f} %"
    else:
        digits = 0 if _LOW <= probability <= 1 - _LOW else 1
        text = f"{100 * probability:.{digits}f} %"
    return text.replace(" ", "\u00a0")


def span(values: "pd.Series[float]") -> str:
    """The smallest and the largest of some correlations, or the only one."""
    low, high = values.min(), values.max()
    return f"{low:.3f}" if len(values) == 1 else f"{low:.3f} to {high:.3f}"


def count_runs(count: int) -> str:
    """A number of runs in words."""
    return "1 run" if count == 1 else f"{count} runs"


def describe_agreement(agreement: OutsideAgreement) -> str:
    """The finding of `analysis.agreement_with` in plain sentences with numbers."""
    overall = agreement.table.query("method == 'spearman' and `class` == 'overall'")
    averaged = overall.loc[overall["kind"] == "mean", "model"]
    rows = overall.loc[(overall["kind"] == "mean") | ~overall["model"].isin(averaged)]
    direction = "high" if agreement.high_is_hard else "low"
    sentences = []
    for (outside, kind, model, _), part in rows.groupby(
        ["outside", "kind", "model", "run_id"], sort=False
    ):
        first, n_samples = part.iloc[0], part["n_samples"].max()
        name = f"the run {first['run_name']}"
        where = f"{count_runs(first['n_runs'])} of {model}, on average," if kind == "mean" else name
        values = ", ".join(_one_agreement(row, n_samples) for _, row in part.iterrows())
        sentences.append(
            f"Spearman's ρ with {outside}, of which {direction} is hard, over {n_samples} samples "
            f"in {where} is {values}."
        )
    if sentences:
        sentences.append("A positive ρ means that both find the same samples hard.")
    if agreement.note:
        sentences.append(agreement.note.capitalize() + ".")
    return " ".join([*sentences, *_coverage_sentences(agreement.coverage)])


def _one_agreement(row: "pd.Series[Any]", n_samples: int) -> str:
    """Value, interval and ceiling of one score."""
    if not np.isfinite(row["value"]):
        return f"not defined for {row['score']} (fewer than 3 finite values, or all the same)"
    facts = []
    if np.isfinite(row["ci_low"]):
        facts.append(f"95 % interval {row['ci_low']:.3f} to {row['ci_high']:.3f}")
    if np.isfinite(row["same_model"]):
        facts.append(f"between two of the runs {row['same_model']:.3f}")
    if row["n_samples"] < n_samples:
        facts.append(f"{row['n_samples']} samples")
    return f"{row['value']:.3f} for {row['score']}" + (f" ({'; '.join(facts)})" if facts else "")


def _coverage_sentences(coverage: pd.DataFrame) -> list[str]:
    """Which samples have no outside difficulty, and which rows no sample."""
    sentences = []
    for _, row in coverage.iterrows():
        reasons = []
        if row["n_without_row"]:
            reasons.append(f"{row['n_without_row']} without a row, such as {row['example']!r}")
        if row["n_without_value"]:
            reasons.append(f"{row['n_without_value']} without a finite value")
        if reasons:
            sentences.append(
                f"Of {row['n_samples']} samples of the runs these are left out for "
                f"{row['outside']}: {', '.join(reasons)}."
            )
    unused = int(coverage["n_unused"].max())
    if unused:
        rows = "row of the table is" if unused == 1 else "rows of the table are"
        sentences.append(f"{unused} {rows} of no sample of the runs.")
    return sentences


def describe_clusters(clusters: pd.DataFrame) -> str:
    """The finding of `analysis.curve_clusters` in one sentence with numbers."""
    centres = clusters.query("rank == 0").groupby("cluster", sort=False)
    total = int(centres["n_samples"].first().sum())
    parts = [
        f"{rows['n_samples'].iloc[0] / total:.1%} {rows['trend'].iloc[0]} (from "
        f"{short_number(rows['loss'].iloc[0])} to {short_number(rows['loss'].iloc[-1])})"
        for _, rows in centres
    ]
    return f"The mean loss curves of {len(parts)} clusters, hardest first: {', '.join(parts)}."


def describe_comparison(comparison: Comparison) -> str:
    """The finding of a comparison in plain sentences with numbers."""
    overall = comparison.groups.query("method == 'spearman' and `class` == 'overall'")
    same = overall.loc[overall["kind"] == "same-model", "mean"]
    cross = overall.loc[overall["kind"] == "cross-model", "mean"]
    n_samples = int(overall["n_samples"].max()) if len(overall) else 0
    record = comparison.runs["record"].iloc[0]
    what = f"the {comparison.score} of {n_samples} samples ({record})"
    sentences = [f"{len(comparison.runs)} runs are compared by {what}."]
    if comparison.note:
        sentences.append(comparison.note.capitalize() + ".")
    if len(same) and len(cross):
        every = "every" if same.min() > cross.max() else "not every"
        sentences.append(
            f"Spearman's ρ between two runs of the same model is {span(same)}, between "
            f"different models {span(cross)}: {every} same-model value lies above every "
            "cross-model value."
        )
    elif len(overall):
        sentences.append(f"Spearman's ρ is {span(overall['mean'])}.")
    dropped = int(overall["n_dropped"].max()) if len(overall) else 0
    if dropped:
        sentences.append(f"{dropped} samples without a finite score are left out.")
    return " ".join(sentences)


def describe_disattenuated(corrected: pd.DataFrame) -> str:
    """The finding of `analysis.disattenuated_correlations` in one sentence with numbers."""
    overall = corrected.query("method == 'spearman' and `class` == 'overall'")
    parts = [
        f"{row.model_a} / {row.model_b} {row.cross:.3f} becomes {row.disattenuated:.3f}"
        + (f" ({row.note!s})" if row.note else "")
        for row in overall.itertuples()
    ]
    return f"Spearman's ρ overall: {', '.join(parts)}."


def describe_ensemble(
    scores: pd.DataFrame, regions: pd.DataFrame, correlations: pd.DataFrame, n_models: int
) -> str:
    """The finding of an ensemble in one sentence with numbers.

    Args:
        scores: frame of `analysis.ensemble_scores`.
        regions: frame of `analysis.ensemble_regions`.
        correlations: frame of `analysis.ensemble_correlations`.
        n_models: models in the ensemble.
    """
    chosen = correlations.query(
        "method == 'spearman' and `class` == 'overall' and score_a == 'action' and "
        "score_b == 'entropy'"
    ).iloc[0]
    interval = ""
    if np.isfinite(chosen["ci_low"]):
        interval = f" (95 % interval {chosen['ci_low']:.3f} to {chosen['ci_high']:.3f})"
    sentence = (
        f"Over an ensemble of {n_models} models, Spearman's ρ of action and entropy is "
        f"{chosen['value']:.3f}{interval} on {chosen['n_samples']} samples; the ensemble is right "
        f"on {scores['correct'].mean():.1%} of them (one model on "
        f"{scores['member_accuracy'].mean():.1%})"
    )
    for name in REGIONS:
        right = regions.loc[regions["region"] == name, "correct"]
        share = f"on {right.mean():.1%} of the" if len(right) else "and there are"
        sentence += f", {share} {len(right)} with {name.replace(',', ' and')}"
    return f"{sentence}."


def describe_map_correlation(correlations: pd.DataFrame) -> str:
    """The finding of `analysis.map_correlation` in one sentence with numbers."""
    chosen = correlations.loc[correlations["method"] == "spearman"]
    parts = []
    for kind, values in chosen.groupby("kind", sort=False)["value"]:
        low, median, high = values.quantile([0.25, 0.5, 0.75])
        parts.append(f"{kind} median {median:.3f} (middle half {low:.3f} to {high:.3f})")
    n_samples = chosen["sample_id"].nunique()
    return (
        f"Spearman's ρ of the pixel actions of a sample between runs, over {n_samples} samples: "
        f"{', '.join(parts)}."
    )


def describe_neighbours(neighbours: pd.DataFrame) -> str:
    """The finding of `analysis.neighbours` in one sentence with numbers."""
    shares = neighbours.groupby("query_id", sort=False)["same_class"].mean()
    alone = int((shares < 0.5).sum())
    verb = "lies" if alone == 1 else "lie"
    queries = "1 sample" if len(shares) == 1 else f"{len(shares)} samples"
    return (
        f"{neighbours['same_class'].mean():.1%} of the {int(neighbours['rank'].max())} nearest "
        f"neighbours of {queries} are of the sample's own class; {alone} of them "
        f"{verb} mostly among other classes."
    )


def describe_noise(summary: pd.DataFrame) -> str:
    """The finding of `analysis.noise_summary` in one sentence per model, with numbers."""
    sentences = []
    for model, rows in summary.groupby("model", sort=False):
        scores = rows.dropna(subset="auroc_mean").drop_duplicates("score").set_index("score")
        means, deviations = scores["auroc_mean"], scores["auroc_std"]
        spelled = {
            name: f"{mean:.3f}" if np.isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"
            for name, mean, deviation in zip(scores.index, means, deviations, strict=True)
        }
        named = [name for name in ("action", "final_loss") if name in spelled]
        values = ", ".join(f"{spelled[name]} by {name}" for name in named)
        best, runs = means.idxmax(), int(rows["n_runs"].max())
        fewer = int(scores["n_runs"].to_dict()[best])
        over = "" if fewer == runs else f" over {count_runs(fewer)}"
        spread = "mean ± standard deviation" if runs > 1 else "mean"
        sentences.append(
            f"{model}: wrong labels are found at AUROC {values}; best of {len(scores)} scores is "
            f"{best} with {spelled[best]}{over} ({spread} over {count_runs(runs)})."
        )
    return " ".join(sentences)


def describe_pixel_classes(classes: pd.DataFrame) -> str:
    """The finding of `analysis.pixel_classes` in one sentence with numbers."""
    scored = classes.loc[np.isfinite(classes["mean"].to_numpy(dtype=np.float64))]
    parts = [
        f"{row['class']} {short_number(row['mean'])} ({row['share_pixels']:.1%} of pixels, "
        f"{row['share_action']:.1%} of the action)"
        for _, row in scored.iterrows()
    ]
    return f"Mean action of a pixel by its class, hardest first: {', '.join(parts)}."


def describe_slices(result: Slices) -> str:
    """The finding of `slices.slices` in plain sentences with numbers."""
    beyond = result.table.loc[result.table["q_value"] <= SIGNIFICANT]
    harder, easier = beyond.query("p_harder > 0.5"), beyond.query("p_harder < 0.5")
    runs = f", ranks averaged over {result.n_runs} runs" if result.n_runs > 1 else ""
    verb = "is" if len(harder) == 1 else "are"
    first = (
        f"Of {result.n_tried} slices of {result.n_samples} samples{runs}, {len(harder)} {verb} "
        f"harder and {len(easier)} easier than the rest of their classes, at a rate of false "
        f"discoveries of {percent(SIGNIFICANT)}."
    )
    sentences = [first]
    if len(harder):
        row = harder.iloc[0]
        interval = f", 95 % interval {percent(row['ci_low'])} to {percent(row['ci_high'])}"
        sentences.append(
            f"The hardest is {row['slice']} ({row['n']} samples): one of them is harder than one "
            f"of its class outside it with a chance of {percent(row['p_harder'])}"
            f"{interval if np.isfinite(row['ci_low']) else ''}."
        )
    if result.without_row:
        sentences.append(f"{result.without_row} samples have no row in the metadata.")
    sentences += [f"Left out: {reason}" for reason in result.left_out["reason"]]
    if result.note:
        sentences.append(result.note.capitalize() + ".")
    return " ".join(sentences)


def describe_stability(stability: pd.DataFrame, *, level: float = 0.95) -> str:
    """The finding of `analysis.stability` in one sentence with numbers.

    Args:
        stability: the frame of `analysis.stability`, with Spearman's ρ.
        level: from which ρ on, for all further steps too, a score counts as settled.
    """
    chosen = stability.loc[stability["method"] == "spearman"]
    ends, settled = [], []
    for _, rows in chosen.sort_values("step", kind="stable").groupby("run_id", sort=False):
        steps, below = rows["step"].to_numpy(), ~(rows["value"].to_numpy() >= level)
        ends.append(int(steps[-1]))
        after = int(np.flatnonzero(below)[-1]) + 1 if below.any() else 0
        if after < len(steps):
            settled.append(int(steps[after]))
    last = f"{min(ends)} to {max(ends)}" if min(ends) < max(ends) else f"{ends[0]}"
    if len(settled) < len(ends):
        undefined = len(ends) - len(settled)
        return (
            f"Spearman's ρ with the full score is not defined in {undefined} of {len(ends)} runs: "
            "fewer than 3 samples have a score, or all have the same."
        )
    where = "in every run" if len(ends) > 1 else "in the run"
    return (
        f"After {max(settled)} of {last} epochs Spearman's ρ with the full score is at least "
        f"{level:g} {where}, and stays there."
    )


def describe_wrong_labels(counts: pd.DataFrame) -> str:
    """How many labels are wrong, in one or two sentences per record, with numbers.

    Args:
        counts: the frame of `analysis.wrong_label_counts` of all labels together.
    """
    sentences = []
    for row in counts.to_dict("records"):
        run = f"{row['run_name']}: " if len(counts) > 1 else ""
        n_samples, n_wrong = row["n_samples"], row["n_wrong"]
        if not n_samples:
            sentences.append(f"{run}{_NOT_JUDGED}")
            continue
        low, n, high = (_whole(value) for value in (row["low"], n_wrong, row["high"]))
        verb = "is" if n == "1" else "are"
        sentences.append(f"{run}About {n} of {n_samples:,} labels {verb} wrong ({low} to {high}).")
        if row["high"] > _FAR_APART * row["low"] and row["high"] - row["low"] > 0.01 * n_samples:
            sentences.append(_WIDE)
    return " ".join(sentences)


def _whole(value: float) -> str:
    """A number of labels: three digits, as an estimate has, with commas."""
    return f"{float(f'{value:.3g}'):,.0f}"


def describe_changes(changes: Changes) -> str:
    """What changed, in plain sentences with numbers."""
    overall = changes.classes.iloc[0]
    sets = f"{count_runs(changes.n_before)} before and {count_runs(changes.n_after)} after"
    first = (
        f"{sets} are compared by the {changes.score} of {int(overall['n'])} samples: its mean goes "
        f"from {short_number(overall['before'])} to {short_number(overall['after'])} "
        f"({overall['relative']:+.1%}{_relative_interval(overall)})."
    )
    sentences = [first]
    classes = changes.classes.loc[changes.classes["class"] != OVERALL]
    if len(classes):
        most = classes.iloc[int(np.argmax(classes["relative"].abs().to_numpy(np.float64)))]
        sentences.append(
            f"The class that changed most is {most['class']}, from {short_number(most['before'])} "
            f"to {short_number(most['after'])} ({most['relative']:+.1%}{_relative_interval(most)})."
        )
    if changes.has_noise:
        count = int(changes.samples["beyond_noise"].sum())
        chance = 0.05 * len(changes.samples)
        sentences.append(
            f"{count} samples changed by more than 95 % of samples as difficult do by chance; "
            f"{chance:.0f} would without any change."
        )
    else:
        sentences.append(
            "There is one run in each set: what another seed would have changed is not known. "
            "Train two runs or more of either."
        )
    if len(changes.relabelled):
        sentences.append(f"{len(changes.relabelled)} samples have another label.")
    if changes.left_out:
        sentences.append(
            f"{changes.left_out} samples are left out: they are not in all runs, or without a "
            "finite score in one."
        )
    return " ".join(sentences)


def describe_slice_differences(differences: SliceDifferences) -> str:
    """By how much slices differ between two sets of runs, in plain sentences with numbers."""
    table = differences.table
    beyond = table.loc[table["q_value"] <= SIGNIFICANT]
    first = table.iloc[0]
    text = (
        f"Of {len(table)} slices {(beyond['change'] > 0).sum()} became harder and "
        f"{(beyond['change'] < 0).sum()} easier, at a rate of false discoveries of "
        f"{percent(SIGNIFICANT)}. What became hardest is {first['slice']}: its mean rank goes from "
        f"{first['before']:+.2f} to {first['after']:+.2f}"
    )
    if not np.isfinite(first["ci_low"]):
        return f"{text}. Chance is not known: train two runs or more of either."
    return (
        f"{text} (change {first['ci_low']:+.2f} to {first['ci_high']:+.2f}; runs of one set differ "
        f"by up to {first['same_model']:.2f})."
    )


def _relative_interval(row: "pd.Series[float]") -> str:
    """The interval of a change relative to the value before, or the empty string without one."""
    if not np.isfinite(row["ci_low"]):
        return ""
    low, high = (row[name] / abs(row["before"]) for name in ("ci_low", "ci_high"))
    return f", 95 % interval {low:+.1%} to {high:+.1%}"
