"""Records of image folders whose names are hard for other programs."""

import numpy as np
import pytest
from photographs import photo, shade

from actiontrack.recorder import Recorder


@pytest.fixture
def of_folder(new_run, store, spool, tmp_path):
    """A function that records images of a folder, hardest last, each of another shade."""

    def record(paths, labels=None, names=(), *, ids=None, files=True, split="train"):
        root = tmp_path / f"{split}-images"
        root.mkdir(parents=True, exist_ok=True)
        for row, path in enumerate(paths if files else ()):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(photo(shade(row)))
        run_id, ids = new_run(), paths if ids is None else ids
        source = {"kind": "folder", "root": str(root)}
        labels = None if labels is None else np.array(labels)
        with Recorder(
            split, run_id=run_id, store=store, spool=spool, class_names=names, source=source
        ) as recorder:
            recorder.describe_samples(ids, labels=labels, paths=paths)
            recorder.update(ids, np.arange(len(ids)) + 0.5, labels=labels)
            recorder.end_epoch()
        return store.open_record(run_id)

    return record
