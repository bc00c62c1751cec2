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
from actiontrack.errors import NotFoundError
from actiontrack.report import Report, Section
from actiontrack.store import ARTIFACT_ROOT, RunInfo, Store, StoredRecord

__all__ = [
    "comparison_report",
    "describe_comparison",
    "describe_run",
    "gallery",
    "log_report",
    "log_run_report",
    "run_report",
]

_GALLERY = 12
_CURVES = 6


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
        *_extremes(record, scores),
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
    position = {each: row for row, each in enumerate(record.samples.sample_ids.tolist())}
    images = [_image(record, position[each]) for each in rows["sample_id"].tolist()]
    titles = [
        f"{label} {value:.3g}" for label, value in zip(rows["class"], rows[score], strict=True)
    ]
    return plots.gallery(images, titles), sum(each is None for each in images)


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
