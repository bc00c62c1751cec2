"""scikit-learn's handwritten digits: 1,797 real images of 8x8 pixels that need no download."""

from dataclasses import replace

import numpy as np
import torch
from sklearn.datasets import load_digits

from projects.datasets.split import Source
from projects.datasets.stratify import stratified_subset

__all__ = ["N_TEST", "open_digits"]

N_TEST = 360  # a fifth of 1,797
SPLIT_SEED = 0  # fixed: runs with any seed have the same test images


def open_digits() -> tuple[Source, Source]:
    """Open the digits with their fixed class-stratified split.

    Returns:
        Train (1,437) and test (360). Images are 1x8x8, the 0..16 of scikit-learn scaled to
        0..255; ids are the index into `sklearn.datasets.load_digits`.
    """
    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    images = torch.from_numpy(pixels).unsqueeze(1)  # (1797, 1, 8, 8)
    ids = np.arange(len(images), dtype=np.int64)
    labels = bunch.target.astype(np.int64)
    test = stratified_subset(ids, labels, n_classes=10, total=N_TEST, seed=SPLIT_SEED)
    train = np.setdiff1d(ids, test)
    part = Source(
        ids=ids[train],
        labels=labels[train],
        class_names=tuple(map(str, range(10))),
        name="digits",
        split="train",
        read=lambda picked: images[train[picked]],
    )
    return part, replace(
        part,
        ids=ids[test],
        labels=labels[test],
        split="test",
        read=lambda picked: images[test[picked]],
    )
