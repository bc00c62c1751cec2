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
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.report import Report, Section
from actiontrack.store import ARTIFACT_ROOT, RunInfo, Store, StoredRecord

__all__ = [
    "comparison_report",
    "describe_clusters",
    "describe_comparison",
    "describe_neighbours",
    "describe_noise",
    "describe_run",
    "describe_stability",
    "gallery",
    "log_report",
    "log_run_report",
    "neighbour_gallery",
    "run_report",
]

_GALLERY = 12
_CURVES = 6
_CLUSTERS = 3
_QUERIES, _NEIGHBOURS = 6, 8
_MIN_STEPS = 3  # below, a curve has no shape


def run_report(record: StoredRecord) -> Report:
    """Report of one record: data, distribution per class, curves, hardest and easiest samples.

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
        *_clusters(record),
        *_extremes(record, scores),
        *_neighbours(record),
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
    if _has_classes(scores):
        sections.append(_classes(scores))
    sections.append(Section(heading="Runs", text="The runs compared.", frame=comparison.runs))
    return Report(title="Comparison of action scores", sections=sections)


def gallery(
    record: StoredRecord, rows: pd.DataFrame, *, score: str = "action"
) -> tuple[Figure, int]:
    """Images of samples with label and score under each (Fig. 1, 4).

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
    return _pictures(record, rows["sample_id"].tolist(), titles)


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


def describe_run(store: Store, run: RunInfo, record: str | None = None) -> str:
    """What a terminal shows after a run: scores per class, hardest samples, where things are."""
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
            _whereabouts(store, opened),
        ]
    )


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
        verdict = "above" if same.min() > cross.max() else "not above"
        sentences.append(
            f"Spearman's ρ between two runs of the same model is {_span(same)}, between "
            f"different models {_span(cross)}: every same-model value lies {verdict} every "
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


def _clusters(record: StoredRecord) -> list[Section]:
    if record.manifest.n_steps < _MIN_STEPS:
        return []
    try:
        clusters = analysis.curve_clusters(record, _CLUSTERS)
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
        auroc = rows.drop_duplicates("score").set_index("score")["auroc_mean"].dropna()
        told = [name for name in ("action", "final_loss") if name in auroc.index]
        values = ", ".join(f"{auroc[name]:.3f} by {name}" for name in told)
        runs = int(rows["n_runs"].max())
        sentences.append(
            f"{model}: wrong labels are found at AUROC {values}; best of {len(auroc)} scores is "
            f"{auroc.idxmax()} with {auroc.max():.3f} (mean over {runs} "
            f"{'run' if runs == 1 else 'runs'})."
        )
    return " ".join(sentences)


def _neighbours(record: StoredRecord) -> list[Section]:
    k = min(_NEIGHBOURS, record.manifest.n_samples - 1)
    if not record.has_features or k < 1:
        return []
    frame = analysis.neighbours(record, n=_QUERIES, k=k)
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


def _whereabouts(store: Store, record: StoredRecord) -> str:
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
        "report": f"{base}/report/report.html",
        "see it": see,
    }
    return "\n".join(f"{name:<10} {value}" for name, value in lines.items())


def _pictures(
    record: StoredRecord, sample_ids: Sequence[object], titles: Sequence[str], *, columns: int = 6
) -> tuple[Figure, int]:
    """Images of samples with a title under each, and how many could not be had."""
    position = {each: row for row, each in enumerate(record.samples.sample_ids.tolist())}
    images = [_image(record, position[each]) for each in sample_ids]
    return plots.gallery(images, titles, columns=columns), sum(each is None for each in images)


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


def _number(value: float) -> str:
    return f"{value:.4g}"


def _span(values: "pd.Series[float]") -> str:
    low, high = values.min(), values.max()
    return f"{low:.3f}" if len(values) == 1 else f"{low:.3f} to {high:.3f}"
