"""The dataset that the parameters of a classifier describe, as two splits in memory.

The id of a sample never changes: it is the index in the official order, or the path of the file.
The *subset* and the split of a folder depend on ``split_seed`` and never on the run's ``seed``, so
runs that differ only in ``seed`` have the same samples.
"""

from dataclasses import replace

import numpy as np

from actiontrack.errors import DataError
from projects.datasets.builtin import open_builtin
from projects.datasets.digits import open_digits
from projects.datasets.ferplus import open_ferplus
from projects.datasets.folder import open_folder
from projects.datasets.noise import add_label_noise
from projects.datasets.noisy_labels import read_noisy_labels
from projects.datasets.sizing import resize_and_crop
from projects.datasets.split import ImageSplit, Source
from projects.datasets.stratify import check_total, stratified_subset
from projects.params.training import TrainParams

__all__ = ["load_dataset"]


def _open(params: TrainParams) -> tuple[Source, Source]:
    if params.dataset == "digits":
        return open_digits()
    if params.dataset == "ferplus":
        return open_ferplus(params.data_path, params.ferplus_labels)
    if not params.dataset.startswith("folder:"):
        return open_builtin(params.dataset, params.data_path)
    return open_folder(
        params.dataset.removeprefix("folder:"),
        test_fraction=params.test_fraction,
        split_seed=params.split_seed,
        image_size=params.image_size,
    )


def _load(source: Source, params: TrainParams, *, argument: str) -> ImageSplit:
    """Read the subset that the parameter named `argument` asks for, at the size asked for."""
    total, size = getattr(params, argument), len(source.ids)
    check_total(total, size, argument, split=f"the {source.split} split")
    picked = np.arange(size, dtype=np.int64)
    if total:
        picked = stratified_subset(
            source.ids,
            source.labels,
            n_classes=len(source.class_names),
            total=total,
            seed=params.split_seed,
        )
    split = source.load(picked)
    return replace(split, images=resize_and_crop(split.images, params.image_size))


def _with_labels_of_file(train: ImageSplit, source: Source, params: TrainParams) -> ImageSplit:
    """Replace labels by those of the user's file; rows outside the subset are ignored."""
    path = params.noisy_labels_path
    whole = read_noisy_labels(path, source, label_set=params.noisy_labels_set)
    noisy = whole[np.isin(source.ids, train.ids)]
    if np.array_equal(noisy, train.labels.numpy()):
        raise DataError(
            f"noisy_labels: {path} changes the label of none of the {len(train)} training images. "
            "Leave it out, or give other labels."
        )
    return train.with_noisy_labels(noisy)


def _with_noise(train: ImageSplit, source: Source, params: TrainParams) -> ImageSplit:
    if params.noisy_labels:
        return _with_labels_of_file(train, source, params)
    if not params.label_noise:
        return train
    noisy = add_label_noise(
        train.labels.numpy(),
        n_classes=train.n_classes,
        fraction=params.label_noise,
        kind=params.noise_kind,
        seed=params.effective_noise_seed,
    )
    return train.with_noisy_labels(noisy)


def _check_same_size(train: ImageSplit, test: ImageSplit) -> None:
    (h, w), (h1, w1) = train.image_size, test.image_size
    if (h, w) != (h1, w1):
        raise DataError(
            f"{train.name}: training images are {w}x{h} and test images {w1}x{h1}. "
            f"Pass --image_size {min(h, w, h1, w1)} to resize and crop them."
        )


def load_dataset(params: TrainParams) -> tuple[ImageSplit, ImageSplit]:
    """Load the training and the test split that the parameters describe.

    Args:
        params: Uses dataset, data_dir, ferplus_labels, subset, test_subset, split_seed,
            image_size, test_fraction, label_noise, noise_kind, noise_seed, noisy_labels and seed.

    Returns:
        Train and test with the same number of channels; label noise in train only, where
        ``true_labels`` then has the truth.

    Raises:
        ParameterError: A subset larger than its split.
        DataError: Missing files, a damaged or odd-sized image, an impossible folder layout,
            noisy labels that don't fit.
    """
    sources = _open(params)
    train = _load(sources[0], params, argument="subset")
    test = _load(sources[1], params, argument="test_subset")
    _check_same_size(train, test)
    channels = max(train.in_channels, test.in_channels)
    train, test = train.with_channels(channels), test.with_channels(channels)
    return _with_noise(train, sources[0], params), test
