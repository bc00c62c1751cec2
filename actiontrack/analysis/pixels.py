"""Pixel actions: classes, regions, and the correlation of the maps of two runs."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from actiontrack import compare
from actiontrack.analysis.alignment import shared_values
from actiontrack.analysis.cluster.connection import each_on_cluster
from actiontrack.analysis.comparable import CHOOSE_RUNS
from actiontrack.analysis.tables import (
    class_name,
    open_record,
    open_records,
    pair_columns,
    run_columns,
    runs_frame,
    with_run_columns,
)
from actiontrack.errors import NotComparableError, ParameterError
from actiontrack.record.rasters import open_raster
from actiontrack.store import StoredRecord

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "map_correlation",
    "pixel_classes",
    "pixel_regions",
]

_Result = TypeVar("_Result")
_REGION = [
    *("sample_id", "class", "n_pixels", "mean"),
    *("top", "left", "bottom", "right"),
]  # columns of a region
_MAPS = 64  # whose sums are added up before they are added to those of others


def pixel_classes(
    record: StoredRecord, *, picture: str = "label", client: "Client | None" = None
) -> pd.DataFrame:
    """Which class holds the hard pixels: pixel actions (eq. 7) by the class of the pixel.

    Args:
        record: an open record that holds maps, and pictures whose pixel values are classes.
        picture: name of these pictures.
        client: of a Dask cluster, see `compare_runs`. Sums of 64 maps each are added in the order
            of the samples, here and there: the result is the same.

    Returns:
        One row per class that occurs, hardest first: run_id, run_name, model, class, n_pixels,
        mean (mean action of its pixels; NaN if all are void that is ignored), std, share_pixels
        and share_action (of the sum of all actions), lift (share_action over share_pixels: above
        1, the class holds more of the action than its size tells). Pixels without an action are
        left out of all but n_pixels.

    Raises:
        NotFoundError: if the record holds no maps or no such pictures.
    """
    open_record(record)
    sums = np.zeros((256, 4))
    for part in _of_maps(_class_sums, [record], client, picture):
        sums += part
    classes = np.flatnonzero(sums[:, 0])
    pixels, scored, total, squares = sums[classes].T
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / scored
        std = np.sqrt(np.maximum(squares / scored - mean**2, 0))
        share_pixels, share_action = scored / scored.sum(), total / total.sum()
        frame = pd.DataFrame(
            {
                "class": [class_name(record, value) for value in classes.tolist()],
                "n_pixels": pixels.astype(np.int64),
                "mean": mean,
                "std": std,
                "share_pixels": share_pixels,
                "share_action": share_action,
                "lift": share_action / share_pixels,
            }
        )
    ranked = frame.sort_values("mean", ascending=False, kind="stable", ignore_index=True)
    frame = with_run_columns(ranked, run_columns(record))
    loss = record.manifest.pixel_loss_name.replace("_", " ")
    frame.attrs |= {"delta_kind": record.manifest.delta_kind, "loss": loss}
    return frame


def _class_sums(
    samples: Sequence[int], records: Sequence[StoredRecord], picture: str
) -> npt.NDArray[np.float64]:
    """A row per class: pixels, pixels with an action, Σ a, Σ a² of some samples, (256, 4)."""
    sums = np.zeros((256, 4))
    for sample in samples:
        action, classes = _map_with_classes(records[0], sample, picture)
        scored = np.isfinite(action)
        held, values = classes[scored], action[scored].astype(np.float64)
        parts = (np.bincount(classes.ravel(), minlength=256), np.bincount(held, minlength=256))
        sums += np.stack(
            [*parts, *(np.bincount(held, values**power, minlength=256) for power in (1, 2))], axis=1
        )
    return sums


def _of_maps(
    function: Callable[..., _Result],
    records: Sequence[StoredRecord],
    client: "Client | None",
    *options: Any,
) -> Iterable[_Result]:
    """Answers for 64 samples with maps at a time, in their order: here, or by a cluster."""
    samples = np.flatnonzero(records[0].map_index["file"].to_numpy() >= 0).tolist()
    chunks = [samples[start : start + _MAPS] for start in range(0, len(samples), _MAPS)]
    if client is not None:
        return each_on_cluster(client, function, chunks, records, *options)
    return (function(chunk, records, *options) for chunk in chunks)


def pixel_regions(
    record: StoredRecord,
    n: int = 20,
    *,
    picture: str = "label",
    min_pixels: int = 100,
    client: "Client | None" = None,
) -> pd.DataFrame:
    """The hardest regions of all images: connected pixels of one class, by their mean action.

    Args:
        record: see `pixel_classes`.
        n: how many regions.
        picture: see `pixel_classes`.
        min_pixels: smaller regions are left out. Pixels count in the map's own size.
        client: of a Dask cluster, see `compare_runs`.

    Returns:
        run_id, run_name, model, sample_id, class, n_pixels, mean (action), top, left, bottom,
        right (pixels of the label picture; bottom and right are the first outside), hardest first.

    Raises:
        NotFoundError: if the record holds no maps or no such pictures.
    """
    open_record(record)
    regions: list[dict[str, Any]] = []
    for part in _of_maps(_hardest_regions, [record], client, n, picture, min_pixels):
        regions = sorted([*regions, *part], key=_by_mean)[:n]
    return with_run_columns(pd.DataFrame(regions, columns=_REGION), run_columns(record))


def _hardest_regions(
    samples: Sequence[int], records: Sequence[StoredRecord], n: int, picture: str, min_pixels: int
) -> list[dict[str, Any]]:
    """The hardest regions of some samples, hardest first."""
    rows: list[dict[str, Any]] = []
    record = records[0]
    ids = record.samples.sample_ids
    for sample in samples:
        action, classes = _map_with_classes(record, sample, picture)
        for value in np.unique(classes).tolist():
            labelled, count = ndimage.label(classes == value)
            numbers = np.arange(1, count + 1)
            sizes = np.bincount(labelled.ravel(), minlength=count + 1)[1:]
            means = ndimage.mean(action, labelled, numbers)
            boxes = ndimage.find_objects(labelled)
            for size, mean, (down, across) in zip(sizes, means, boxes, strict=True):
                if size >= min_pixels and np.isfinite(mean):
                    sides = {"top": down.start, "left": across.start}
                    sides |= {"bottom": down.stop, "right": across.stop}
                    head = {"sample_id": ids[sample], "class": class_name(record, value)}
                    rows.append(head | {"n_pixels": int(size), "mean": float(mean)} | sides)
        rows = sorted(rows, key=_by_mean)[:n]
    return rows


def _by_mean(region: dict[str, Any]) -> float:
    return -float(region["mean"])


def map_correlation(
    records: Sequence[StoredRecord],
    *,
    methods: Sequence[compare.Method] = ("spearman", "pearson"),
    on_mismatch: str = "error",
    client: "Client | None" = None,
) -> pd.DataFrame:
    """Correlation of the pixel actions of each sample between runs: are the same parts hard?

    Args:
        records: open records with maps, of two runs or more.
        methods: which of "spearman" and "pearson" to compute.
        on_mismatch: see `align`.
        client: of a Dask cluster, see `compare_runs`.

    Returns:
        One row per pair of runs, sample and method: method, kind ("same-model" or
        "cross-model"), model_a, model_b, run_a, run_b (run ids), sample_id, value (NaN where a
        map is constant), n_pixels (those that are finite in all runs).

    Raises:
        NotComparableError: if the runs do not measure the same thing on the same samples, or their
            maps differ in loss, down-sampling or size.
        NotFoundError: if a record holds no maps.
        ParameterError: if there are fewer than two runs, or a method is unknown or none given.
    """
    records = open_records(records)
    if len(records) < 2:
        raise ParameterError("records", "must be two runs or more", len(records), "Choose more.")
    compare.check_methods(methods)
    shared = shared_values(records, on_mismatch, None)  # refuses what can't be compared
    for record in shared.records:
        _check_same_maps(shared.records[0], record)
    runs = runs_frame(shared.records)
    ids = shared.sample_ids()
    chunks = [ids[start : start + _MAPS] for start in range(0, len(ids), _MAPS)]
    if client is None:
        parts = [_map_values(chunk, shared.records, methods) for chunk in chunks]
    else:
        parts = each_on_cluster(client, _map_values, chunks, shared.records, methods)
    values = np.concatenate(
        [correlations for correlations, _ in parts]
    )  # (samples, methods, pairs)
    n_pixels = np.concatenate([counts for _, counts in parts])
    models, run_ids = (runs[name].to_numpy() for name in ("model", "run_id"))
    first, second, head = pair_columns(models)
    head |= {"run_a": run_ids[first], "run_b": run_ids[second]}
    outer = len(ids) * len(methods)
    return pd.DataFrame(
        {
            "method": np.tile(np.repeat(np.array(methods, dtype=object), len(first)), len(ids)),
            **{name: np.tile(column, outer) for name, column in head.items()},
            "sample_id": np.repeat(ids, len(methods) * len(first)),
            "value": values.ravel(),
            "n_pixels": np.repeat(n_pixels, len(methods) * len(first)),
        }
    )


def _map_values(
    sample_ids: npt.NDArray[Any],
    records: Sequence[StoredRecord],
    methods: Sequence[compare.Method],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Correlations of the maps of some samples, (n, methods, pairs), and pixels in them, (n,)."""
    pairs = np.triu_indices(len(records), 1)
    values = np.empty((len(sample_ids), len(methods), len(pairs[0])))
    n_pixels = np.empty(len(sample_ids), dtype=np.int64)
    for row, sample_id in enumerate(sample_ids):
        maps = _maps_of(records, sample_id)
        finite = compare.finite_columns(maps)
        n_pixels[row] = finite.sum()
        for column, method in enumerate(methods):
            matrix = compare.spearman_matrix if method == "spearman" else compare.pearson_matrix
            values[row, column] = matrix(maps[:, finite])[pairs]
    return values, n_pixels


def _map_with_classes(
    record: StoredRecord, sample: int, picture: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Action and class of each pixel of a picture, (H, W) both."""
    action = record.pixel_action(sample)
    with open_raster(record.picture_bytes(picture, sample)) as image:
        classes = np.asarray(image, dtype=np.uint8)
    factor = int((record.manifest.maps or {}).get("factor", 1))
    if factor > 1:
        action = action.repeat(factor, axis=0).repeat(factor, axis=1)
    return action[: classes.shape[0], : classes.shape[1]], classes


def _check_same_maps(first: StoredRecord, other: StoredRecord) -> None:
    for record in (first, other):
        _ = record.map_index  # refuses a record without maps
    kinds = [
        (record.manifest.pixel_loss_name, (record.manifest.maps or {}).get("factor"))
        for record in (first, other)
    ]
    if kinds[0] != kinds[1]:
        raise NotComparableError(
            "the maps do not measure the same thing: pixel loss and down-sampling are "
            f"{kinds[0]} in run {first.run.run_id} ({first.run.name}) and {kinds[1]} in run "
            f"{other.run.run_id} ({other.run.name}). {CHOOSE_RUNS}"
        )


def _maps_of(records: Sequence[StoredRecord], sample_id: Any) -> npt.NDArray[np.float64]:
    """Maps of a sample in several runs, (n_runs, n_pixels)."""
    maps = [
        record.pixel_action(int(np.searchsorted(record.samples.sample_ids, sample_id)))
        for record in records
    ]
    if len({values.shape for values in maps}) > 1:
        shapes = sorted({f"{values.shape[1]}x{values.shape[0]}" for values in maps})
        raise NotComparableError(
            f"the maps of sample {sample_id} differ in size: {', '.join(shapes)}. {CHOOSE_RUNS}"
        )
    return np.stack([values.ravel().astype(np.float64) for values in maps])
