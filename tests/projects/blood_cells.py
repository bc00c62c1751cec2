"""Photographs of blood cells in the layout of VOC, for the tests of detectors."""

from pathlib import Path

import pytest
from helpers import open_tar

BCCD = Path(__file__).parents[3] / "shared" / "data" / "bccd-voc.tar"
FOLDER = "bccd/VOCdevkit/VOC2007"


def extract_cells(root, n_train, n_test):
    """Extract photographs: their folder, and their names.

    The first one of each list has an empty annotation.
    """
    if not BCCD.exists():
        pytest.skip(f"{BCCD} is not there")
    with open_tar(BCCD) as archive:
        members = sorted(name for name in archive.getnames() if name.endswith(".jpg"))
        for path in members[: n_train + n_test]:
            for name in (path, path.replace("JPEGImages", "Annotations").replace("jpg", "xml")):
                archive.extract(name, root)
    folder, names = root / FOLDER, [Path(path).stem for path in members[: n_train + n_test]]
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(names[:n_train]))
    (lists / "val.txt").write_text("\n".join(names[n_train:]))
    for name in (names[0], names[n_train]):
        (folder / "Annotations" / f"{name}.xml").write_text("<annotation/>")
    return folder, names
