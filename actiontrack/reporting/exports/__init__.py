"""Scores in the forms that other tools take: Datalab, FiftyOne, Label Studio, CVAT, data loaders.

Every function takes an open record. What is *suspect* is decided in one place, `mark_suspects`, and
what people said of a sample counts more than its score.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from actiontrack.record.escaping import read_csv
from actiontrack.reporting.exports.cvat import cvat_labels, cvat_xml, save_cvat
from actiontrack.reporting.exports.datalab import datalab_issues, save_datalab
from actiontrack.reporting.exports.fiftyone import add_to_fiftyone, fiftyone_samples, save_fiftyone
from actiontrack.reporting.exports.folder import image_folder
from actiontrack.reporting.exports.label_studio import (
    label_studio_config,
    label_studio_tasks,
    save_label_studio,
)
from actiontrack.reporting.exports.selection import Suspects, mark_suspects
from actiontrack.reporting.exports.slices import (
    fairlearn_frame,
    save_slices,
    slice_issues,
    slice_tags,
)
from actiontrack.reporting.exports.training import (
    curriculum,
    sampling_weights,
    save_curriculum,
    save_subset,
    subset_indices,
)
from actiontrack.store import StoredRecord

__all__ = [
    "EXPORTS",
    "Suspects",
    "add_to_fiftyone",
    "curriculum",
    "cvat_labels",
    "cvat_xml",
    "datalab_issues",
    "fairlearn_frame",
    "fiftyone_samples",
    "image_folder",
    "label_studio_config",
    "label_studio_tasks",
    "mark_suspects",
    "read_csv",
    "sampling_weights",
    "save_curriculum",
    "save_cvat",
    "save_datalab",
    "save_fiftyone",
    "save_label_studio",
    "save_slices",
    "save_subset",
    "slice_issues",
    "slice_tags",
    "subset_indices",
]

#: What `actiontrack export --to` can write: name -> function of record, folder and `Suspects`.
EXPORTS: Mapping[str, Callable[[StoredRecord, Path, Suspects, Mapping[str, Any]], list[Path]]] = {
    "datalab": lambda record, folder, suspects, _: save_datalab(record, folder, suspects),
    "fiftyone": lambda record, folder, suspects, options: save_fiftyone(
        record, folder, suspects, image_root=options["image_root"]
    ),
    "label-studio": lambda record, folder, suspects, options: save_label_studio(
        record, folder, suspects, image_root=options["image_root"]
    ),
    "cvat": lambda record, folder, suspects, _: save_cvat(record, folder, suspects),
    "subset": lambda record, folder, suspects, options: save_subset(
        record, folder, suspects, favour=options["favour"]
    ),
    "curriculum": lambda record, folder, suspects, options: save_curriculum(
        record, folder, suspects, chunks=options["chunks"]
    ),
    "image-folder": lambda record, folder, suspects, options: image_folder(
        record, folder, suspects, link=options["link"], relabel=options["relabel"]
    ),
    "slices": lambda record, folder, suspects, _: save_slices(record, folder, score=suspects.score),
}
