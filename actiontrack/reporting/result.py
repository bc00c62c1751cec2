"""What a finished record comes to: a few lines for a terminal, two pictures and one page."""

import base64
import html
import io
from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from actiontrack import analysis, plots
from actiontrack.analysis.questions import score_table_of
from actiontrack.analysis.sentences import short_number
from actiontrack.reporting.common import GALLERY, figure_of, has_classes, sources_of, traced
from actiontrack.reporting.document import Report, Section
from actiontrack.reporting.pictures import gallery, with_caption
from actiontrack.reporting.run import class_section, distribution_section, summary_of
from actiontrack.store import StoredRecord
from actiontrack.store.notebook import table_html

__all__ = [
    "CLASSES_PNG",
    "HARDEST_PNG",
    "RESULT_PAGE",
    "describe_result",
    "result_files",
    "result_html",
]

#: Files that stand for a finished record among the artifacts of its run, beside its own.
HARDEST_PNG, CLASSES_PNG, RESULT_PAGE = "hardest.png", "classes.png", "report.html"

_LISTED = 5
_DPI = 110


def describe_result(record: StoredRecord, where: Mapping[str, str]) -> str:
    """The five hardest samples, three classes, and where to look further.

    Args:
        record: a finished record.
        where: what to look at, such as an address or a command, by a word for it.
    """
    manifest, scores = record.manifest, score_table_of(record)
    head = (
        f"{record.name} of run {record.run.name or record.run.run_id}: {manifest.n_samples:,} "
        f"samples × {manifest.n_steps} steps, action in {record.unit}"
    )
    names = ["sample_id", "class", "action", "final_loss", "predicted"]
    if manifest.of_training:  # elsewhere the model's own mistakes would count as wrong labels
        names.append("p_wrong")
    rows = analysis.hardest(scores, _LISTED)
    hardest = rows[[name for name in names if name in rows.columns]]
    parts = [head, "hardest samples\n" + _table(hardest)]
    if has_classes(scores):
        classes = analysis.class_distributions(scores)[["class", "n", "median", "q95"]]
        middle = sorted({0, len(classes) // 2, len(classes) - 1})
        parts.append("hardest, middle and easiest class\n" + _table(classes.iloc[middle]))
    lines = [f"{word:<7}  {place}" for word, place in where.items()]
    return "\n\n".join([*parts, "\n".join(lines)])


def result_files(record: StoredRecord) -> dict[str, bytes]:
    """Pictures of the hardest samples and of the classes, and one page with both.

    Args:
        record: a finished record.

    Returns:
        Content by name: `RESULT_PAGE`, `HARDEST_PNG` where there are images, `CLASSES_PNG` where
        there are classes.
    """
    scores = score_table_of(record)
    classes = analysis.class_distributions(scores) if has_classes(scores) else None
    sections, pictures = [], {}
    hardest = analysis.hardest(scores, GALLERY)
    figure, caption = _gallery(record, hardest)
    if figure is not None:
        pictures[HARDEST_PNG] = figure
        sections.append(Section(heading="Hardest samples", figure=figure, caption=caption))
    else:
        names = ["sample_id", "class", "action", "final_loss", "aum", "predicted"]
        frame = hardest[[name for name in names if name in hardest.columns]]
        sections.append(Section(heading="Hardest samples", frame=frame, caption=caption))
    if classes is not None:
        pictures[CLASSES_PNG] = figure_of(plots.class_distributions(scores))
        frame = classes[["class", "n", "median", "mean", "q95"]]
        sections.append(class_section(scores, frame))
    sections.append(distribution_section(scores))
    sentence = summary_of(record, scores, classes, _suspects(record, scores))
    page = Report(
        title=f"Action scores of {record.run.name}, record {record.name}",
        sections=traced([Section(heading="Summary", text=sentence), *sections], [record]),
        sources=sources_of([record]),
    )
    files = {name: _png(picture) for name, picture in pictures.items()}
    return {RESULT_PAGE: page.to_html().encode(), **files}


def result_html(record: StoredRecord) -> str:
    """The hardest samples of a record for a notebook: their images, or a table without any."""
    hardest = analysis.hardest(score_table_of(record), GALLERY)
    heading = f"Hardest samples of {record.name}, run {record.run.name or record.run.run_id}"
    figure, caption = _gallery(record, hardest)
    if figure is None:
        return table_html(heading, hardest[["sample_id", "class", "action"]])
    image = base64.b64encode(_png(figure)).decode()
    return (
        f"<div><strong>{html.escape(heading)}</strong><br>"
        f'<img style="max-width:100%" alt="{html.escape(caption)}" '
        f'src="data:image/png;base64,{image}"></div>'
    )


def _suspects(record: StoredRecord, scores: pd.DataFrame) -> str:
    """How many labels are likely wrong, by the score table alone."""
    if not record.manifest.of_training or "p_wrong" not in scores.columns:
        return ""
    n = int((scores["p_wrong"] > 0.5).sum())
    return f"{n} of {len(scores)} labels are more likely wrong than right (p_wrong above .5)."


def _gallery(record: StoredRecord, rows: pd.DataFrame) -> tuple[Figure | None, str]:
    caption = f"Label and action ({record.unit}) under each image."
    return with_caption(gallery(record, rows), len(rows), caption)


def _table(frame: pd.DataFrame) -> str:
    return frame.to_string(index=False, float_format=short_number)


def _png(figure: Figure) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=_DPI)
    return target.getvalue()
