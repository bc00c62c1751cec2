"""timm: ids come through its loaders; images that are made of two are refused."""

import numpy as np
import pytest
import torch
from helpers import message
from PIL import Image
from timm.data import FastCollateMixup, ImageDataset, Mixup, create_loader
from torch import nn

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.criterion import PerSampleLoss
from actiontrack.recorder.timm import IndexedTargets, with_ids

N = 10
MIXED = (
    "loader: mixup and cutmix make one image of two, so a loss belongs to neither. Train with "
    "them as they are, and record an evaluation pass over a loader without them."
)


class Grey(torch.utils.data.Dataset):
    """Images whose grey says which one it is; labels are others."""

    transform = None

    def __len__(self):
        return N

    def __getitem__(self, row):
        image = Image.new("RGB", (8, 8), (20 * row,) * 3)
        return self.transform(image) if self.transform else image, 3 * row % 7


def loader(dataset, **options):
    settings = {"batch_size": 4, "num_workers": 0, "device": torch.device("cpu")}
    settings |= {"mean": (0, 0, 0), "std": (1, 1, 1), "hflip": 0, "color_jitter": 0}
    return create_loader(dataset, 8, **settings | options)


def rows_of(images):
    """Which image it is, by its grey."""
    return (images.float().mean(dim=(1, 2, 3)) * 255 / 20).round().int().tolist()


@pytest.mark.parametrize("prefetcher", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("several", [{}, {"use_multi_epochs_loader": True}, {"num_workers": 1}])
def test_an_id_is_that_of_its_image(prefetcher, training, several):
    data = IndexedTargets(Grey())
    made = loader(data, use_prefetcher=prefetcher, is_training=training, **several)
    for _ in range(2):
        seen = []
        for ids, images, labels in with_ids(made):
            assert rows_of(images) == ids.tolist()
            assert labels.tolist() == [3 * row % 7 for row in ids.tolist()]
            seen += ids.tolist()
        assert len(set(seen)) == len(seen) == (8 if training else N)


def test_ids_may_be_text():
    names = [f"image {row}" for row in range(N)]
    for ids, images, _ in with_ids(loader(IndexedTargets(Grey(), names))):
        assert ids == [names[row] for row in rows_of(images)]
    text = "ids: must have length 10, got 1. Pass one id per item."
    with pytest.raises(ParameterError, match=message(text)):
        IndexedTargets(Grey(), ["one"])


def test_a_loader_that_mixes_is_refused_before_its_first_batch():
    mixing = FastCollateMixup(num_classes=7)
    made = loader(IndexedTargets(Grey()), is_training=True, collate_fn=mixing)
    with pytest.raises(RecordingError, match=message(MIXED)):
        with_ids(made)


def test_targets_mixed_in_the_loop_are_refused_by_the_criterion():
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
    _, mixed = Mixup(num_classes=7)(images, labels)
    per_sample = PerSampleLoss(nn.CrossEntropyLoss())
    with pytest.raises(RecordingError, match=r"^targets: class probabilities mix several samples"):
        per_sample(torch.randn(4, 7), mixed)


def test_a_loader_without_ids_is_refused():
    text = (
        "loader: must be made of an IndexedTargets, as timm drops ids, got 'Grey'. "
        "create_loader(IndexedTargets(dataset), …)"
    )
    with pytest.raises(ParameterError, match=message(text)):
        with_ids(loader(Grey()))


# timm 1.0 leaves the file open that it could not read.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_an_image_that_cannot_be_read_is_not_replaced_by_the_next(tmp_path):
    for row in range(3):
        (tmp_path / "class").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "class" / f"{row}.png")
    (tmp_path / "class" / "1.png").write_bytes(b"no image")
    plain = [labels.tolist() for _, labels in loader(ImageDataset(tmp_path))]
    assert plain == [[0, 0, 0]]  # timm says nothing but a warning in its log
    with pytest.raises(RuntimeError, match="Failed to load 1 consecutive samples"):
        list(with_ids(loader(IndexedTargets(ImageDataset(tmp_path)))))


def test_a_schedule_of_sizes_wraps_the_dataset_once_more():
    sizes = {"input_size_choices": [8, 12], "is_training": True}
    made = loader(IndexedTargets(Grey()), **sizes)
    ids = np.concatenate([ids for ids, _, _ in with_ids(made)])
    assert set(ids) <= set(range(N))
