"""Last-layer features: the nearest neighbours of a sample and a map in two dimensions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack import compare
from actiontrack.analysis.loading import score_frame
from actiontrack.analysis.samples import hardest
from actiontrack.analysis.tables import (
    check_score,
    matching_rows,
    open_record,
    run_columns,
    with_run_columns,
)
from actiontrack.store import StoredRecord

__all__ = [
    "feature_map",
    "neighbours",
]


def neighbours(
    record: StoredRecord,
    sample_ids: Sequence[Any] | None = None,
    *,
    n: int = 10,
    k: int = 8,
    score: str = "action",
) -> pd.DataFrame:
    """Nearest neighbours of samples in feature space (Fig. 5), and whether they share the class.

    Args:
        record: an open record that holds features.
        sample_ids: which samples. Default: the n hardest.
        n: how many, without ids.
        k: neighbours of each.
        score: by which the hardest are chosen.

    Returns:
        One row per sample and neighbour: run_id, run_name, model, query_id, query_class,
        query_<score>, rank (from 1, the nearest first), sample_id, class, distance (L2, float64),
        <score> (of the neighbour), same_class.

    Raises:
        NotFoundError: if the record holds no features, or no such sample.
        ParameterError: if k is not below the number of samples, or there is no such score.
    """
    features = open_record(record).features()
    table = score_frame([record])
    check_score(table, score)
    ids = record.samples.sample_ids
    if sample_ids is None:
        sample_ids = hardest(table, n, by=score)["sample_id"].tolist()
    rows = matching_rows(record, ids, sample_ids)
    nearest, distances = compare.nearest_neighbours(features, rows, k=k)
    queries, others = np.repeat(rows, k), nearest.ravel()
    classes, values = table["class"].astype(str).to_numpy(), table[score].to_numpy()
    frame = pd.DataFrame(
        {
            "query_id": ids[queries],
            "query_class": classes[queries],
            f"query_{score}": values[queries],
            "rank": np.tile(np.arange(1, k + 1), len(rows)),
            "sample_id": ids[others],
            "class": classes[others],
            "distance": distances.ravel(),
            score: values[others],
            "same_class": classes[queries] == classes[others],
        }
    )
    return with_run_columns(frame, run_columns(record))


def feature_map(record: StoredRecord, *, score: str = "action") -> pd.DataFrame:
    """Samples in the plane of their features: as they are where there are two, else by PCA.

    Args:
        record: an open record that holds features, such as an autoencoder's latent codes.
        score: score to add.

    Returns:
        run_id, run_name, model, sample_id, class, x, y, <score>. `attrs["axes"]` names the axes.

    Raises:
        NotFoundError: if the record holds no features.
        ParameterError: if there is no such score, or fewer than two features.
    """
    points: npt.NDArray[Any] = open_record(record).features()
    table = score_frame([record])
    check_score(table, score)
    names = ["feature 1", "feature 2"]
    if points.shape[1] != 2:
        points, explained = compare.principal_components(points, 2)
        names = [f"component {n} ({share:.0%})" for n, share in enumerate(explained, start=1)]
    head = table[["run_id", "run_name", "model", "sample_id", "class"]]
    frame = head.assign(x=points[:, 0], y=points[:, 1], **{score: table[score]})
    frame.attrs["axes"] = names
    return frame
