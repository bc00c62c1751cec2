"""Parts that pages with samples share: tiles, the stage with boxes, neighbours, verdicts."""

from typing import Any

import pandas as pd

from actiontrack.history import Classes
from actiontrack.web import samples
from actiontrack.web.choice import class_name
from actiontrack.web.images import why_no_images
from actiontrack.web.rendering import plain, rows
from actiontrack.web.routes import current_site
from actiontrack.web.runs import RunView

__all__ = [
    "neighbour_tiles",
    "sample_facts",
    "stage_context",
    "tiles",
    "verdict_of",
]

_MIN_BOX_SCORE = 0.5  # of predicted boxes that are drawn


def tiles(view: RunView, table: pd.DataFrame, score: str) -> list[dict[str, Any]]:
    """Samples of a score table with names of classes, the badge of a prediction, a suggestion."""
    tile_rows = rows(table)
    badges = samples.prediction_badges(table)
    wrong_labels = samples.mislabelled(table)
    suggested = samples.suggestions(table, Classes(view.manifest.class_names))
    lists = (tile_rows, badges, wrong_labels, suggested)
    for row, badge, is_mislabelled, suggestion in zip(*lists, strict=True):
        row["value"] = row[score]
        row["predicted_class"] = class_name(view, row.get("predicted"))
        row["true_class"] = class_name(view, row.get("true_label"))
        row["badge"], row["is_mislabelled"] = badge, is_mislabelled
        row["suggestion"] = suggestion
    return tile_rows


def sample_facts(view: RunView, sample_id: str) -> dict[str, Any]:
    """The row of one sample, see `samples.sample_row`; None for what is not known."""
    row = samples.sample_row(current_site().records, view.info.run_id, view.record, sample_id)
    absent = dict.fromkeys(("predicted_class", "true_class", "path", "badge", "suggestion"))
    return absent | {str(name): plain(value) for name, value in row.items()}


def neighbour_tiles(view: RunView, sample_id: str, *, k: int) -> list[dict[str, Any]]:
    """The nearest neighbours of a sample, none without features."""
    k = min(k, view.manifest.n_samples - 1)
    if not view.has_features or k < 1:
        return []
    options = {"id": [sample_id], "k": k}
    records = current_site().records
    return rows(records.ask("neighbours", view.info.run_id, view.record, **options))


def stage_context(view: RunView, sample_id: str) -> dict[str, Any]:
    """What the image of a sample with its boxes needs."""
    boxes: list[dict[str, Any]] = []
    if view.has_boxes:
        records = current_site().records
        frame = records.ask("boxes", view.info.run_id, view.record, id=sample_id)
        boxes = rows(frame.loc[(frame["kind"] == "truth") | (frame["score"] >= _MIN_BOX_SCORE)])
    n_truth = sum(box["kind"] == "truth" for box in boxes)
    return {"boxes": boxes, "n_truth": n_truth, "no_images": why_no_images(view.manifest)}


def verdict_of(verdicts: pd.DataFrame, sample_id: Any) -> dict[str, Any] | None:
    """The verdict of one sample among current ones, None without one."""
    of_sample = rows(verdicts.loc[verdicts["sample_id"] == sample_id])
    return of_sample[0] if of_sample else None
