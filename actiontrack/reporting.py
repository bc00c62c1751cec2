"""Reports of runs: what the records hold, as tables, figures and plain sentences with numbers."""

import io
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from actiontrack import analysis, plots
from actiontrack.analysis import Comparison
from actiontrack.compare import HIGH_ACTION, HIGH_ENTROPY
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.report import Report, Section
from actiontrack.store import ARTIFACT_ROOT, RunInfo, Store, StoredRecord

__all__ = [
    "comparison_report",
    "describe_clusters",
    "describe_comparison",
    "describe_disattenuated",
    "describe_ensemble",
    "describe_map_correlation",
    "describe_neighbours",
    "describe_noise",
    "describe_pixel_classes",
    "describe_run",
    "describe_stability",
    "detection_figure",
    "ensemble_sections",
    "gallery",
    "has_pixel_classes",
    "log_report",
    "log_run_report",
    "neighbour_gallery",
    "noise_gallery",
    "noise_sections",
    "pixel_figure",
    "region_gallery",
    "run_report",
]

_GALLERY = 12
_OF_COMPONENT = 6  # hardest and easiest samples shown for each part of a loss
_CURVES = 6
_MAX_CONTRASTS = 6  # ordered pairs of models whose disagreement is shown
_CLUSTERS = 3
_QUERIES, _NEIGHBOURS = 6, 8
_REGIONS = {
    HIGH_ACTION: "the models tend to be certain of another class than the label.",
    HIGH_ENTROPY: "the models tend to hesitate, and not to contradict the label.",
}
_MAPS = 4  # hardest and easiest samples shown with the action of their pixels
_MIN_STEPS = 3  # below, a curve has no shape
_LABEL = "label"  # name of the pictures whose pixel values are classes
_SHOWN_SCORE = 0.5  # of predicted boxes in a gallery


def run_report(
    record: StoredRecord,
    *,
    n_clusters: int = _CLUSTERS,
    n_queries: int = _QUERIES,
    n_neighbours: int = _NEIGHBOURS,
) -> Report:
    """Report of one record: data, distribution per class, curves, hardest and easiest samples.

    Args:
        record: an open record.
        n_clusters: clusters of loss curves.
        n_queries: hardest samples whose neighbours are shown, where features are recorded.
        n_neighbours: neighbours of each.

    Raises:
        NotFoundError: if the record has no complete epoch.
    """
    scores = analysis.score_frame([record])
    sections = [
        Section(heading="Summary", text=_run_summary(record, scores)),
        Section(heading="Run", text="What was recorded.", frame=_facts(record)),
        _distribution(scores),
        *([_classes(scores)] if _has_classes(scores) else []),
        _curves(record),
        *_clusters(record, n_clusters),
        *_extremes(record, scores),
        *_component_extremes(record, scores),
        *_pixel_sections(record, scores),
        *_feature_section(record),
        *_neighbours(record, n_queries, n_neighbours),
        *_stability(record),
        Section(heading="How to read this", text=_how_to_read(record)),
    ]
    title = f"Action scores of {record.run.name}, record {record.name}"
    return Report(title=title, sections=sections)


def comparison_report(records: Sequence[StoredRecord], comparison: Comparison) -> Report:
    """Report of several runs: correlation tables, quantile curves, distributions per class."""
    scores = analysis.score_frame(records, up_to_step=comparison.up_to_step)
    sections = [Section(heading="Summary", text=describe_comparison(comparison))]
    sections += [_correlations(comparison, method) for method in ("spearman", "pearson")]
    quantiles = analysis.correlation_by_quantile(
        records,
        score=comparison.score,
        on_mismatch="inner",
        up_to_step=comparison.up_to_step,
    )
    sections += [
        Section(
            heading="Every pair of models",
            text="Mean over the pairs of runs, 95 % bootstrap interval over the samples.",
            frame=comparison.groups,
        ),
        Section(
            heading="Correlation among the hardest samples",
            text="Correlation of the samples at or above each quantile of the score.",
            frame=quantiles,
            figure=_figure(plots.quantile_curves(quantiles)),
            caption="Correlation as a function of the quantile (paper, Fig. 14).",
        ),
    ]
    if len(set(comparison.runs["model"])) > 1:
        sections += _biases(records, comparison)
    if _has_classes(scores):
        sections.append(_classes(scores))
    sections.append(Section(heading="Runs", text="The runs compared.", frame=comparison.runs))
    return Report(title="Comparison of action scores", sections=sections)


def _biases(records: Sequence[StoredRecord], comparison: Comparison) -> list[Section]:
    """Where the models of a comparison agree once noise is taken out, and where they do not."""
    aligned = analysis.align(
        records, score=comparison.score, on_mismatch="inner", up_to_step=comparison.up_to_step
    )
    sections = []
    corrected = analysis.disattenuated_correlations(comparison)
    if len(corrected):
        sections.append(
            Section(
                heading="Correlation between models without the noise of training",
                text=describe_disattenuated(corrected)
                + " r_ab / √(r_aa r_bb): the cross-model correlation over what two runs of each "
                "model reach with themselves (Spearman 1904). 1 would mean the same hard samples.",
                frame=corrected,
            )
        )
    sections.append(
        Section(
            heading="Hardest samples in common",
            text="Share of the k hardest samples that two runs have in common, mean over the "
            "pairs of runs; chance is k over the number of samples.",
            frame=analysis.top_k_overlaps(aligned),
        )
    )
    pairs = analysis.contrasts(aligned, n=_GALLERY).groupby(["hard_for", "easy_for"], sort=False)
    for (hard, easy), rows in list(pairs)[:_MAX_CONTRASTS]:
        sections.append(_contrast(records[0], str(hard), str(easy), rows))
    return sections


def _contrast(record: StoredRecord, hard: str, easy: str, rows: pd.DataFrame) -> Section:
    titles = [
        f"{name} {high:.2f} / {low:.2f}"
        for name, high, low in zip(rows["class"], rows["rank_hard"], rows["rank_easy"], strict=True)
    ]
    drawn, missing = _pictures(record, rows["sample_id"].tolist(), titles)
    shown = ["place", "sample_id", "class", "rank_hard", "rank_easy", "difference"]
    return Section(
        heading=f"Hard for {hard}, easy for {easy}",
        text="Rank of a sample among all, 0 the easiest and 1 the hardest, mean over the runs of "
        "each model.",
        frame=rows[shown],
        figure=drawn if missing < len(rows) else None,
        caption=f"Label, and rank for {hard} / for {easy}, under each image.",
    )


def describe_disattenuated(corrected: pd.DataFrame) -> str:
    """The finding of `analysis.disattenuated_correlations` in one sentence with numbers."""
    overall = corrected.query("method == 'spearman' and `class` == 'overall'")
    parts = [
        f"{row.model_a} / {row.model_b} {row.cross:.3f} becomes {row.disattenuated:.3f}"
        for row in overall.itertuples()
    ]
    return f"Spearman's ρ overall: {', '.join(parts)}."


def gallery(
    record: StoredRecord, rows: pd.DataFrame, *, score: str = "action"
) -> tuple[Figure, int]:
    """Images of samples with label and score under each (Fig. 1, 4), with boxes where logged.

    Args:
        record: where the images are referred to or stored.
        rows: rows of a score frame of this record.
        score: score to show.

    Returns:
        The figure, and how many images could not be had.
    """
    titles = [
        f"{label} {value:.3g}" for label, value in zip(rows["class"], rows[score], strict=True)
    ]
    ids = rows["sample_id"].tolist()
    boxes = record.boxes
    if boxes is None:
        return _pictures(record, ids, titles)
    titles = [f"{each} {value:.3g}" for each, value in zip(ids, rows[score], strict=True)]
    shown = boxes.loc[(boxes["kind"] == "truth") | (boxes["score"] >= _SHOWN_SCORE)]
    of_sample = [shown.loc[shown["sample_id"] == each] for each in ids]
    return _pictures(record, ids, titles, columns=3, boxes=of_sample)


def noise_gallery(
    record: StoredRecord, rows: pd.DataFrame, *, score: str = "action"
) -> tuple[Figure, int]:
    """Images of samples with given label, true label and score under each (4.4).

    Args:
        record: where the images are referred to or stored; its samples have true labels.
        rows: rows of a score frame of this record.
        score: score to show.

    Returns:
        The figure, and how many images could not be had.
    """
    names = dict(enumerate(record.manifest.class_names))
    titles = [
        f"given {given}\n{'right' if label == truth else f'true {names.get(truth, truth)}'}\n"
        f"{value:.3g}"
        for given, label, truth, value in zip(
            rows["class"], rows["label"], rows["true_label"], rows[score], strict=True
        )
    ]
    return _pictures(record, rows["sample_id"].tolist(), titles)


def detection_figure(summary: pd.DataFrame) -> Figure:
    """The figure of `plots.detection_scores` of a frame of `analysis.noise_summary`."""
    return _figure(plots.detection_scores(summary))


def region_gallery(record: StoredRecord, rows: pd.DataFrame) -> tuple[Figure, int]:
    """Images of samples with label, prediction, action and entropy under each (Fig. 7).

    Args:
        record: where the images are referred to or stored.
        rows: rows of the frame of `analysis.ensemble_regions`.

    Returns:
        The figure, and how many images could not be had.
    """
    titles = [
        f"{label} → {predicted}\n{action:.2f}–{entropy:.2f}"
        for label, predicted, action, entropy in zip(
            rows["class"], rows["predicted"], rows["action"], rows["entropy"], strict=True
        )
    ]
    return _pictures(record, rows["sample_id"].tolist(), titles)


def ensemble_sections(
    records: Sequence[StoredRecord],
    scores: pd.DataFrame,
    correlations: pd.DataFrame,
    *,
    share: float = 0.02,
    n_images: int = _GALLERY,
) -> list[Section]:
    """Sections on an ensemble: action against entropy, accuracy by threshold, regions (4.1).

    Args:
        records: open records of its models; the images are those of the first.
        scores: frame of `analysis.ensemble_scores` of these records.
        correlations: frame of `analysis.ensemble_correlations` of these scores.
        share: part of the samples in each region, see `compare.regions_of_interest`.
        n_images: samples of each gallery.

    Raises:
        ParameterError: if the share is not above 0 and at most 0.5.
    """
    regions = analysis.ensemble_regions(scores, share=share)
    accuracy = analysis.ensemble_accuracy(records, scores)
    marked = scores.merge(regions[["sample_id", "region"]], on="sample_id", how="left")
    return [
        _joint_distribution(scores, regions, share),
        _masked_accuracy(accuracy),
        *(_region(records[0], regions, name, n_images) for name in _REGIONS),
        Section(
            heading="Correlation of the scores",
            text="Correlation of action, entropy and loss variance over the samples, with 95 % "
            "bootstrap intervals over the samples.",
            frame=correlations,
        ),
        Section(heading="Runs", text="The models.", frame=analysis.runs_frame(records)),
        Section(
            heading="Accuracy at each threshold",
            text="The curves of accuracy by threshold, as numbers.",
            frame=analysis.accuracy_summary(accuracy),
        ),
        Section(
            heading="Every sample",
            text="Scores of the ensemble, the hardest sample first.",
            frame=marked.sort_values("action", ascending=False, kind="stable", ignore_index=True),
        ),
    ]


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
    told = (
        f"Over an ensemble of {n_models} models, Spearman's ρ of action and entropy is "
        f"{chosen['value']:.3f}{interval} on {chosen['n_samples']} samples; the ensemble is right "
        f"on {scores['correct'].mean():.1%} of them (one model on "
        f"{scores['member_accuracy'].mean():.1%})"
    )
    for name in _REGIONS:
        right = regions.loc[regions["region"] == name, "correct"]
        share = f"on {right.mean():.1%} of the" if len(right) else "and there are"
        told += f", {share} {len(right)} with {name.replace(',', ' and')}"
    return f"{told}."


def _joint_distribution(scores: pd.DataFrame, regions: pd.DataFrame, share: float) -> Section:
    return Section(
        heading="Action against entropy",
        text="The action of each sample is its mean over the models, the entropy that of their "
        "mean prediction; both are min–max normalised. The regions of interest hold "
        f"the {share:.0%} of the samples whose action exceeds their entropy most, and the "
        f"{share:.0%} whose entropy exceeds their action most.",
        figure=_figure(plots.joint_distribution(scores, regions)),
        caption="Joint distribution of action and entropy, with both regions of interest (paper, "
        "Fig. 6b).",
    )


def _masked_accuracy(accuracy: pd.DataFrame) -> Section:
    return Section(
        heading="Accuracy by threshold",
        text="Accuracy of the models on the samples at or above a threshold on each normalised "
        "score of the ensemble: mean over the models, 95 % confidence interval by Student's t. "
        "The lower a curve lies, the better its score finds the samples that are misclassified.",
        figure=_figure(plots.accuracy_curves(accuracy)),
        caption="Accuracy against a threshold on action, entropy and loss variance (paper, "
        "Fig. 6c).",
    )


def _region(record: StoredRecord, regions: pd.DataFrame, name: str, n_images: int) -> Section:
    rows = regions.loc[regions["region"] == name]
    shown = rows.head(n_images)
    text = f"{len(rows)} samples have {name}: {_REGIONS[name]}"
    if shown.empty:
        return Section(heading=name.capitalize(), text=text)
    figure, missing = region_gallery(record, shown)
    columns = ["place", "sample_id", "class", "predicted", "action", "entropy", "member_accuracy"]
    return Section(
        heading=name.capitalize(),
        text=text,
        frame=shown[columns],
        figure=figure if missing < len(shown) else None,
        caption="Label → class predicted by the ensemble, and action–entropy, under each image; "
        "first the samples whose two scores differ most (paper, Fig. 7).",
    )


def noise_sections(
    records: Sequence[StoredRecord], others: Sequence[StoredRecord] = ()
) -> list[Section]:
    """Sections on wrong labels: distributions, hardest samples, and which classes are taken (4.4).

    Args:
        records: open records whose samples have true labels, of one model or several.
        others: records of another split of the same runs, such as the test split.

    Returns:
        The distributions of the action per model; for the first record of each model a gallery of
        the hardest samples and one of the hardest whose label is right; and for each model the
        wrong labels found, by true and given class.

    Raises:
        NotFoundError: if a record holds no true labels.
    """
    scores = analysis.noise_scores([*records, *others])
    sections = [_noise_distributions(scores)]
    firsts: dict[str, StoredRecord] = {}
    for record in records:
        firsts.setdefault(record.manifest.model or record.run.model, record)
    for record in firsts.values():
        sections += _noise_galleries(record)
    pairs = analysis.noise_pairs(records)
    sections += [_noise_pairs(model, pairs[pairs["model"] == model]) for model in firsts]
    return sections


def has_pixel_classes(record: StoredRecord) -> bool:
    """Whether a record holds maps, and labels that tell the class of each pixel."""
    return record.has_maps and _LABEL in record.picture_names


def pixel_figure(record: StoredRecord, rows: pd.DataFrame) -> tuple[Figure, int]:
    """Image, pictures such as label and prediction, and pixel actions of samples (Fig. 11).

    Args:
        record: an open record that holds maps.
        rows: rows of a score frame of this record, one per sample to show.

    Returns:
        The figure, and how many images could not be had.

    Raises:
        NotFoundError: if the record holds no maps.
    """
    positions = analysis.positions(record, rows["sample_id"].tolist())
    titles = [
        f"{name}\n{value:.3g}"
        for name, value in zip(rows["sample_id"], rows["action"], strict=True)
    ]
    images = [_image(record, each) for each in positions]
    others = record.picture_names
    pictures: list[dict[str, plots.Picture]] = []
    for position, image in zip(positions, images, strict=True):
        shown: dict[str, plots.Picture] = {"image": image}
        pictures.append(shown | {name: _picture(record, name, position) for name in others})
    maps = [record.pixel_action(each) for each in positions]
    classes = _class_colours(record, positions)
    drawn = plots.pixel_maps(pictures, maps, titles, unit=_pixel_unit(record), classes=classes)
    return drawn, sum(each is None for each in images)


def describe_pixel_classes(classes: pd.DataFrame) -> str:
    """The finding of `analysis.pixel_classes` in one sentence with numbers."""
    known = classes.loc[np.isfinite(classes["mean"].to_numpy(dtype=np.float64))]
    parts = [
        f"{row['class']} {_number(row['mean'])} ({row['share_pixels']:.1%} of pixels, "
        f"{row['share_action']:.1%} of the action)"
        for _, row in known.iterrows()
    ]
    return f"Mean action of a pixel by its class, hardest first: {', '.join(parts)}."


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


def _picture(record: StoredRecord, name: str, position: int) -> Image.Image:
    image = Image.open(io.BytesIO(record.picture_bytes(name, position)))
    image.load()
    return image


def _class_colours(record: StoredRecord, positions: Sequence[int]) -> dict[str, plots.Colour]:
    """Colour of each class in the palette pictures of some samples, by class."""
    found: dict[int, plots.Colour] = {}
    for name in record.picture_names:
        for position in positions:
            image = _picture(record, name, position)
            palette = image.getpalette() if image.mode == "P" else None
            if palette is None:
                continue
            for value in np.unique(np.asarray(image)).tolist():
                red, green, blue = (each / 255 for each in palette[3 * value : 3 * value + 3])
                found[value] = (red, green, blue)
    return {analysis.class_name(record, value): found[value] for value in sorted(found)}


def _feature_section(record: StoredRecord) -> list[Section]:
    """Where the hard samples lie in feature space."""
    if not record.has_features or min(record.features().shape) < 2:
        return []
    points = analysis.feature_map(record)
    caption = "Each sample in the plane of its features, coloured by its action (supplement)."
    if record.features().shape[1] != 2:
        caption = f"First two principal components of the features. {caption}"
    drawn = _figure(plots.feature_scatter(points, unit=_unit(record)))
    return [Section(heading="Samples in feature space", figure=drawn, caption=caption)]


def _pixel_sections(record: StoredRecord, scores: pd.DataFrame) -> list[Section]:
    """Which class holds the hard pixels, and where they are in the hardest and easiest samples."""
    if not record.has_maps:
        return []
    sections = []
    if has_pixel_classes(record):
        classes = analysis.pixel_classes(record)
        sections.append(
            Section(
                heading="Difficulty of pixels per class",
                text=describe_pixel_classes(classes),
                frame=classes.drop(columns=["run_id", "run_name", "model"]),
                figure=_figure(plots.pixel_classes(classes, unit=_pixel_unit(record))),
                caption="Mean action of the pixels of each class; the dashed line is the mean over "
                "all pixels (paper, section 4.3).",
            )
        )
        regions = analysis.pixel_regions(record)
        sections.append(
            Section(
                heading="Hardest regions",
                text="Connected pixels of one class with the largest mean action.",
                frame=regions.drop(columns=["run_id", "run_name", "model"]),
            )
        )
    for heading, rows in (
        ("Pixel actions of the hardest samples", analysis.hardest(scores, _MAPS)),
        ("Pixel actions of the easiest samples", analysis.easiest(scores, _MAPS)),
    ):
        figure, _ = pixel_figure(record, rows)
        caption = "Loss of each pixel, accumulated over training (paper, eq. 7 and Fig. 11)."
        sections.append(Section(heading=heading, figure=figure, caption=caption))
    return sections


def neighbour_gallery(record: StoredRecord, neighbours: pd.DataFrame) -> tuple[Figure, int]:
    """A row of images for each sample: itself, then its nearest neighbours (Fig. 5).

    Args:
        record: where the images are referred to or stored.
        neighbours: frame of `analysis.neighbours` of this record.

    Returns:
        The figure, and how many images could not be had.
    """
    ids: list[object] = []
    titles: list[str] = []
    for query, rows in neighbours.groupby("query_id", sort=False):
        ids += [query, *rows["sample_id"].tolist()]
        titles.append(f"sample {query}: {rows['query_class'].iloc[0]}")
        titles += [
            f"{name} {distance:.3g}"
            for name, distance in zip(rows["class"], rows["distance"], strict=True)
        ]
    columns = 1 + int(neighbours["rank"].max()) if len(neighbours) else 1
    return _pictures(record, ids, titles, columns=columns)


def log_report(store: Store, run_id: str, report: Report, folder: str) -> None:
    """Save a report into a run: HTML, Markdown, tables as CSV and Parquet, figures as PNG and SVG.

    Args:
        store: the tracking server.
        run_id: the run.
        report: the report.
        folder: artifact folder, such as "report".
    """
    scratch = Path(tempfile.mkdtemp(prefix="actiontrack-"))
    try:
        report.save(scratch)
        for path in sorted(each for each in scratch.rglob("*") if each.is_file()):
            parent = path.relative_to(scratch).parent.as_posix()
            store.upload(run_id, path, folder if parent == "." else f"{folder}/{parent}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def log_run_report(record: StoredRecord) -> None:
    """Make the report of a record and save it beside the record, in its run."""
    folder = f"{ARTIFACT_ROOT}/{record.name}/report"
    log_report(record.store, record.run.run_id, run_report(record), folder)


def describe_run(
    store: Store, run: RunInfo, record: str | None = None, *, report: bool = True
) -> str:
    """What a terminal shows after a run: scores per class, hardest samples, where things are.

    Args:
        store: the tracking server.
        run: the run.
        record: which of its records. Default: the usual one.
        report: whether the record has a report to name.
    """
    opened = store.open_record(store.get_run(run.run_id), record)
    scores = analysis.score_frame([opened])
    classes = analysis.class_distributions(scores)[["class", "n", "median", "mean", "q95"]]
    columns = ["sample_id", "class", "action", "final_loss", "aum", "forgetting"]
    hardest = analysis.hardest(scores, 5)
    shown = [each for each in columns if each in hardest.columns]
    return "\n\n".join(
        [
            f"Action per class, hardest first ({opened.name}, {_unit(opened)}):\n"
            + classes.to_string(index=False, float_format=_number),
            "Hardest samples:\n" + hardest[shown].to_string(index=False, float_format=_number),
            *_pixel_ranking(opened),
            _whereabouts(store, opened, report=report),
        ]
    )


def _pixel_ranking(record: StoredRecord) -> list[str]:
    """Classes by the action of their pixels, where the record tells."""
    if not has_pixel_classes(record):
        return []
    shown = ["class", "n_pixels", "mean", "std", "share_pixels", "share_action", "lift"]
    table = analysis.pixel_classes(record)[shown]
    heading = f"Action of a pixel ({record.manifest.pixel_loss_name}) per class, hardest first:\n"
    return [heading + table.to_string(index=False, float_format=_number)]


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
            f"Spearman's ρ between two runs of the same model is {_span(same)}, between "
            f"different models {_span(cross)}: {every} same-model value lies above every "
            "cross-model value."
        )
    elif len(overall):
        sentences.append(f"Spearman's ρ is {_span(overall['mean'])}.")
    dropped = int(overall["n_dropped"].max()) if len(overall) else 0
    if dropped:
        sentences.append(f"{dropped} samples without a finite score are left out.")
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


def _run_summary(record: StoredRecord, scores: pd.DataFrame) -> str:
    manifest = record.manifest
    classes = analysis.class_distributions(scores)
    state = "" if manifest.complete else " The record is not complete: it holds up to there."
    median = _number(float(scores["action"].median()))
    size = f"{manifest.n_samples} samples over {manifest.n_steps} steps"
    text = [f"The action of {size} has median {median} ({_unit(record)}).{state}"]
    if len(classes) > 1:
        text.append(
            f"The hardest class is {classes['class'].iloc[0]} (median "
            f"{_number(classes['median'].iloc[0])}), the easiest {classes['class'].iloc[-1]} "
            f"({_number(classes['median'].iloc[-1])})."
        )
    if "correct" in scores.columns:
        text.append(f"At the last step {scores['correct'].mean():.1%} are predicted right.")
    nonfinite = int((~np.isfinite(scores["action"])).sum())
    if nonfinite:
        text.append(f"{nonfinite} samples have no finite action: see the step table.")
    return " ".join(text)


def _facts(record: StoredRecord) -> pd.DataFrame:
    manifest = record.manifest
    initial = "included" if manifest.has_initial_state else "not included"
    facts = {
        "run": record.run.run_id,
        "experiment": record.run.experiment,
        "model": manifest.model or record.run.model,
        "split and mode": f"{manifest.split}, {manifest.mode}",
        "loss": manifest.loss_name,
        "Δn": manifest.delta_kind,
        "untrained state n = 0": initial,
        "steps": str(manifest.n_steps),
        "samples": str(manifest.n_samples),
        "losses that are not finite": str(sum(each.n_nonfinite for each in manifest.steps)),
        "duplicates dropped": str(sum(each.n_duplicates for each in manifest.steps)),
        "state": manifest.status,
    }
    optional = {"loss of a pixel": manifest.pixel_loss_name, "void": manifest.void}
    facts |= {what: value for what, value in optional.items() if value}
    facts |= {f"digest of {part}": value or "unknown" for part, value in manifest.digests.items()}
    return pd.DataFrame({"what": list(facts), "value": list(facts.values())})


def _distribution(scores: pd.DataFrame) -> Section:
    return Section(
        heading="Distribution",
        text="How the action is distributed over all samples.",
        figure=_figure(plots.score_histogram(scores)),
        caption="Histogram of the action. A heavy right tail holds the hard samples.",
    )


def _has_classes(scores: pd.DataFrame) -> bool:
    return len(scores["class"].unique()) > 1


def _classes(scores: pd.DataFrame) -> Section:
    return Section(
        heading="Difficulty per class",
        text="Classes by median action, hardest first.",
        frame=analysis.class_distributions(scores),
        figure=_figure(plots.class_distributions(scores)),
        caption="Action per class (paper, Fig. 6a).",
    )


def _curves(record: StoredRecord) -> Section:
    curves = analysis.loss_curves([record], n=_CURVES)
    return Section(
        heading="Loss of the hardest samples",
        text="Loss against step of the samples with the largest action.",
        figure=_figure(plots.loss_curves(curves)),
        caption="A loss that rises while the model learns marks a sample that contradicts the "
        "others: often a wrong label (paper, Fig. 3).",
    )


def describe_clusters(clusters: pd.DataFrame) -> str:
    """The finding of `analysis.curve_clusters` in one sentence with numbers."""
    centres = clusters.query("rank == 0").groupby("cluster", sort=False)
    total = int(centres["n_samples"].first().sum())
    parts = [
        f"{rows['n_samples'].iloc[0] / total:.1%} {rows['trend'].iloc[0]} (from "
        f"{_number(rows['loss'].iloc[0])} to {_number(rows['loss'].iloc[-1])})"
        for _, rows in centres
    ]
    return f"The mean loss curves of {len(parts)} clusters, hardest first: {', '.join(parts)}."


def _stability(record: StoredRecord) -> list[Section]:
    if record.manifest.n_steps < _MIN_STEPS:
        return []
    frame = analysis.stability([record])
    return [
        Section(
            heading="When recording could have stopped",
            text=describe_stability(frame),
            frame=frame.pivot(index="step", columns="method", values="value")  # noqa: PD010 - 1 value a cell
            .reset_index()
            .rename_axis(columns=None),
            figure=_figure(plots.stability_curves(frame)),
            caption="Correlation of the action after each step with the full action.",
        )
    ]


def _clusters(record: StoredRecord, k: int = _CLUSTERS) -> list[Section]:
    if record.manifest.n_steps < _MIN_STEPS:
        return []
    try:
        clusters = analysis.curve_clusters(record, k)
    except ParameterError:  # fewer distinct curves than clusters
        return []
    first = clusters.loc[clusters["step"] == clusters["step"].min()]
    section = Section(
        heading="Clusters of loss curves",
        text=describe_clusters(clusters),
        frame=first[["cluster", "trend", "n_samples", "kind", "sample_id", "class"]],
        figure=_figure(plots.curve_clusters(clusters)),
        caption="Centres of k-means over all loss curves, and the three curves closest to each "
        "(paper, Fig. 2).",
    )
    closest = first.query("kind == 'closest'")
    titles = [
        f"{cluster}: {name}"
        for cluster, name in zip(closest["cluster"], closest["class"], strict=True)
    ]
    drawn, missing = _pictures(record, closest["sample_id"].tolist(), titles, columns=3)
    if missing == len(closest):
        return [section]
    caption = "Cluster and label under each image, one row per cluster (paper, Fig. 2)."
    heading = "Samples closest to the centre of each cluster"
    return [section, Section(heading=heading, figure=drawn, caption=caption)]


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
        told = [name for name in ("action", "final_loss") if name in spelled]
        values = ", ".join(f"{spelled[name]} by {name}" for name in told)
        best, runs = means.idxmax(), int(rows["n_runs"].max())
        fewer = int(scores["n_runs"].to_dict()[best])
        over = "" if fewer == runs else f" over {_runs(fewer)}"
        spread = "mean ± standard deviation" if runs > 1 else "mean"
        sentences.append(
            f"{model}: wrong labels are found at AUROC {values}; best of {len(scores)} scores is "
            f"{best} with {spelled[best]}{over} ({spread} over {_runs(runs)})."
        )
    return " ".join(sentences)


def _noise_distributions(scores: pd.DataFrame) -> Section:
    groups = scores.groupby(["model", "group"], sort=False)["action"]
    return Section(
        heading="Distributions of the action",
        text="Samples with a wrong label (noisy) and with a right one (clean), and samples of any "
        "other split by its name, which no model was trained on.",
        frame=groups.describe().reset_index(),
        figure=plots.noise_panels(scores),
        caption="Density of the action, mean over the runs of a model in a band from the lowest "
        "to the highest run (paper, Fig. 12).",
    )


def _noise_galleries(record: StoredRecord) -> list[Section]:
    """The hardest samples of a record, and the hardest of those whose label is right."""
    scores = analysis.score_frame([record])
    right = scores[scores["label"] == scores["true_label"]]
    sections = []
    hardest = analysis.hardest(scores, 2 * _GALLERY)
    wrong = int((hardest["label"] != hardest["true_label"]).sum())
    for what, text, rows in (
        ("hardest samples", f"{wrong} of these {len(hardest)} labels are wrong.", hardest),
        (
            "hardest samples with a right label",
            "Right by the labels that the dataset came with: an error of theirs would be here.",
            analysis.hardest(right, _GALLERY),
        ),
    ):
        drawn, missing = noise_gallery(record, rows)
        seen = missing < len(rows)
        section = Section(
            heading=f"{record.run.name}: {what}",
            text=text,
            figure=drawn if seen else None,
            caption="Given label, true label and action under each image."
            if seen
            else "No images: record with thumbnails to see them.",
        )
        sections.append(section)
    return sections


def _noise_pairs(model: str, pairs: pd.DataFrame) -> Section:
    found, wrong = int(pairs["n_found"].sum()), int(pairs["n_wrong"].sum())
    return Section(
        heading=f"{model}: which wrong labels are found",
        text="Of each run the samples with the largest action are taken, as many as there are "
        f"wrong labels: {found} of {wrong} wrong labels are among them ({found / wrong:.1%}).",
        frame=pairs.sort_values(["share", "n_wrong"], ascending=[True, False], ignore_index=True),
        figure=_figure(plots.noise_pairs(pairs)),
        caption="Wrong labels found of all, by true and given class, summed over the runs; the "
        "table begins with the pairs that are found least.",
    )


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _neighbours(record: StoredRecord, n: int = _QUERIES, k: int = _NEIGHBOURS) -> list[Section]:
    k = min(k, record.manifest.n_samples - 1)
    if not record.has_features or k < 1:
        return []
    frame = analysis.neighbours(record, n=n, k=k)
    if frame.empty:
        return []
    drawn, missing = neighbour_gallery(record, frame)
    n_images = frame["query_id"].nunique() * (k + 1)
    shown = ["query_id", "query_class", "rank", "sample_id", "class", "distance", "same_class"]
    section = Section(
        heading="Nearest neighbours of the hardest samples",
        text=describe_neighbours(frame),
        frame=frame[shown],
        figure=drawn if missing < n_images else None,
        caption="Each hardest sample, then its nearest neighbours by the last feature layer, with "
        "label and distance (paper, Fig. 5).",
    )
    return [section]


def _extremes(record: StoredRecord, scores: pd.DataFrame) -> list[Section]:
    sections = []
    for heading, rows in (
        ("Hardest samples", analysis.hardest(scores, _GALLERY)),
        ("Easiest samples", analysis.easiest(scores, _GALLERY)),
    ):
        drawn, missing = gallery(record, rows)
        figure: Figure | None = drawn
        caption = "Label and action under each image (paper, Fig. 1, 4)."
        if missing == len(rows):
            figure, caption = None, "No images: record with thumbnails to see them."
        keep = ["sample_id", "class", "action", "final_loss", "aum", "forgetting", "predicted"]
        frame = rows[[each for each in keep if each in rows.columns]]
        sections.append(Section(heading=heading, frame=frame, figure=figure, caption=caption))
    return sections


def _component_extremes(record: StoredRecord, scores: pd.DataFrame) -> list[Section]:
    """Hardest and easiest samples by the action of each part of the loss (Fig. 8 to 10)."""
    sections = []
    for name in record.manifest.components:
        column = f"action_{name}"
        for word, choose in (("Hardest", analysis.hardest), ("Easiest", analysis.easiest)):
            rows = choose(scores, _OF_COMPONENT, by=column)
            drawn, missing = gallery(record, rows, score=column)
            shown = ["sample_id", "class", column, "action"]
            section = Section(
                heading=f"{word} samples by {name.replace('_', ' ')}",
                frame=rows[shown],
                figure=drawn if missing < len(rows) else None,
                caption=f"Action of the loss {name.replace('_', ' ')} alone under each image.",
            )
            sections.append(section)
    return sections


def _correlations(comparison: Comparison, method: str) -> Section:
    table = comparison.table(method)
    name = "Spearman's ρ" if method == "spearman" else "Pearson's r"
    return Section(
        heading=f"Correlation between models, {name}",
        text="Pairs of models first, then two runs of the same model: the ceiling that a "
        "cross-model value is to be read against.",
        frame=table.reset_index(),
        figure=_figure(plots.correlation_heatmap(table)),
        caption=f"{name} of the {comparison.score}, overall, within classes and per class "
        "(paper, Table 1).",
    )


def _how_to_read(record: StoredRecord) -> str:
    mode = (
        "Losses come from an evaluation pass after each epoch."
        if record.manifest.mode == "probe"
        else "Losses are those of the training batches as they went by."
    )
    return (
        "The action of a sample is its loss accumulated over training, Σ loss · Δn: high is hard "
        f"to learn. {mode} Scores compare only with runs of the same samples, mode, loss, Δn and "
        "number of steps. A hard sample is not a wrong label: look before you relabel."
    )


def _whereabouts(store: Store, record: StoredRecord, *, report: bool) -> str:
    run, uri = record.run, store.tracking_uri
    root = store.local_root(run)
    base = f"{root or run.artifact_uri}/{ARTIFACT_ROOT}/{record.name}"
    if uri.startswith(("http://", "https://")):
        see = f"{uri.rstrip('/')}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    else:
        see = f"mlflow ui --backend-store-uri {quote(uri, safe=':/.')}   then http://localhost:5000"
    lines = {
        "run": run.run_id,
        "artifacts": base,
        **({"report": f"{base}/report/report.html"} if report else {}),
        "see it": see,
    }
    return "\n".join(f"{name:<10} {value}" for name, value in lines.items())


def _pictures(
    record: StoredRecord,
    sample_ids: Sequence[object],
    titles: Sequence[str],
    *,
    columns: int = 6,
    boxes: Sequence[pd.DataFrame] | None = None,
) -> tuple[Figure, int]:
    """Images of samples with a title under each, and how many could not be had."""
    position = {each: row for row, each in enumerate(record.samples.sample_ids.tolist())}
    images = [_image(record, position[each]) for each in sample_ids]
    if boxes is not None:
        boxes = [_scaled(each, image) for each, image in zip(boxes, images, strict=True)]
    drawn = plots.gallery(images, titles, columns=columns, boxes=boxes)
    return drawn, sum(each is None for each in images)


def _scaled(boxes: pd.DataFrame, image: Image.Image | None) -> pd.DataFrame:
    """Boxes in pixels of the image at hand, which may be a smaller copy."""
    if image is None:
        return boxes
    x, y = image.width / boxes["width"], image.height / boxes["height"]
    factors = {"left": x, "right": x, "top": y, "bottom": y}
    return boxes.assign(**{side: boxes[side] * factor for side, factor in factors.items()})


def _image(record: StoredRecord, sample: int) -> Image.Image | None:
    try:
        image = Image.open(io.BytesIO(record.image_bytes(sample)))
        image.load()
    except (NotFoundError, UnidentifiedImageError, OSError):
        return None
    return image


def _figure(axes: object) -> Figure:
    figure = getattr(axes, "figure", None)
    assert isinstance(figure, Figure)  # noqa: S101 - plots make their own figures
    return figure


def _unit(record: StoredRecord) -> str:
    return {"epoch": "loss × epochs", "batch": "loss × updates", "wall_time": "loss × s"}[
        record.manifest.delta_kind
    ]


def _pixel_unit(record: StoredRecord) -> str:
    loss = record.manifest.pixel_loss_name.replace("_", " ")
    return _unit(record).replace("loss", loss)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _span(values: "pd.Series[float]") -> str:
    low, high = values.min(), values.max()
    return f"{low:.3f}" if len(values) == 1 else f"{low:.3f} to {high:.3f}"
