import warnings
from io import BytesIO

import numpy as np
import pytest
import torch
from helpers import message
from PIL import Image
from recording import N, one_epoch

from actiontrack.errors import StoreError
from actiontrack.recorder import attachments


@pytest.fixture
def recorded(recorder):
    """A recorder of one epoch."""
    rec = recorder()
    one_epoch(rec, 1)
    return rec


def png(shade):
    target = BytesIO()
    Image.new("L", (2, 2), shade).save(target, "PNG")
    return target.getvalue()


def test_features_and_thumbnails_are_kept_in_canonical_order(recorder, read):
    order = np.random.default_rng(0).permutation(N)
    features = np.arange(2 * N, dtype=np.float32).reshape(N, 2)
    with recorder() as rec:
        one_epoch(rec, 1)
        rec.log_features(order, features[order])
        rec.log_thumbnails(order, [bytes([row]) for row in order])
    np.testing.assert_array_equal(read().features(), features)
    assert read().image_bytes(7) == b"\x07"


def test_features_may_be_lists_or_tensors_with_a_graph(recorded, read):
    features = np.arange(2 * N, dtype=np.float32).reshape(N, 2)
    recorded.log_features(range(N), features.tolist())
    recorded.log_features(range(N), torch.tensor(features, requires_grad=True))
    recorded.finish()
    np.testing.assert_array_equal(read().features(), features)


def test_probabilities_are_kept_in_canonical_order(recorder, read):
    order = np.random.default_rng(0).permutation(N)
    probabilities = np.random.default_rng(1).dirichlet([1, 1, 1], size=N).astype(np.float32)
    with recorder() as rec:
        one_epoch(rec, 1)
        rec.log_probabilities(order, probabilities[order])
    assert read().has_probabilities
    np.testing.assert_array_equal(read().probabilities(), probabilities)


def test_probabilities_go_with_the_scores_when_training_goes_on(recorder, read):
    with recorder() as rec:
        one_epoch(rec, 1)
        rec.log_probabilities(np.arange(N), np.full((N, 4), 0.25))
    with recorder(resume=True) as rec:
        one_epoch(rec, 2)
    assert read().manifest.n_steps == 2
    assert not read().has_probabilities


# What can't be kept is a warning, and the record is whole without it


@pytest.mark.parametrize(
    ("method", "arguments", "reason"),
    [
        (
            "log_features",
            ([1, 2], np.ones((2, 2))),
            (
                "features: ids: must be those of the record test-probe, each once. Declare the "
                "samples or record an epoch first."
            ),
        ),
        (
            "log_features",
            (range(N), np.ones((3, 2))),
            (
                f"features: features: must have shape ({N}, n_features), got (3, 2). Pass "
                "one vector "
                "per id."
            ),
        ),
        (
            "log_features",
            (range(N), ["a"] * N),
            (
                "features: features: must be an array of numbers, got 'list'. Pass a "
                "NumPy, PyTorch "
                "or JAX array."
            ),
        ),
        (
            "log_probabilities",
            (range(N), np.full(N, 0.5)),
            (
                f"probabilities: probabilities: must have shape ({N}, n_classes), got ({N},). Pass "
                "one distribution over all classes per id."
            ),
        ),
        (
            "log_thumbnails",
            (range(N), [png(0)] * 3),
            (
                f"thumbnails: images: must be one PNG per id, {N} of them, got '3 "
                "images'. Pass one "
                "per id."
            ),
        ),
        (
            "log_thumbnails",
            (range(N), [None] * N),
            (
                "thumbnails: images: must be PIL images, arrays, paths or the bytes of PNG files, "
                "got 'NoneType'. Pass one image per id."
            ),
        ),
        (
            "log_pictures",
            ("label", range(N), [Image.new("L", (2, 2))] * N),
            (
                "pictures: images: must be the bytes of a PNG file, one per id, got 'Image'. Save "
                "each image as PNG into an io.BytesIO and pass its getvalue()."
            ),
        ),
        (
            "log_pictures",
            ("../label", range(N), [png(0)] * N),
            (
                "pictures: name: must be 1 to 64 letters, digits, dots or underscores, starting "
                "with a letter or digit, got '../label'. Choose a plain name such as 'test'."
            ),
        ),
    ],
)
def test_what_cannot_be_kept_is_left_out_with_a_warning(recorded, read, method, arguments, reason):
    text = f"record test-probe is left without {reason}"
    with pytest.warns(UserWarning, match=message(text)) as caught:
        getattr(recorded, method)(*arguments)
    assert caught[0].filename == __file__
    assert recorded.finish()
    assert read().manifest.complete
    assert not {"features.parquet", "probabilities.parquet"} & read().manifest.files.keys()


def test_probabilities_over_other_than_the_classes_are_left_out(recorder):
    rec = recorder(class_names=("a", "b", "c"))
    one_epoch(rec, 1)
    with pytest.warns(UserWarning, match=rf"must have shape \({N}, 3\), got \({N}, 2\)"):
        rec.log_probabilities(np.arange(N), np.full((N, 2), 0.5))


def test_what_comes_after_the_end_is_left_out_with_a_warning(recorded):
    recorded.finish()
    with pytest.warns(UserWarning, match=r"log_features: the record test-probe is closed"):
        recorded.log_features(range(N), np.ones((N, 2)))


def test_a_full_disk_does_not_end_a_training_for_features(recorded, monkeypatch, read):
    def fail(*_):
        raise StoreError("cannot write features.parquet: No space left on device.")

    monkeypatch.setattr(attachments, "write_features", fail)
    with pytest.warns(UserWarning, match="No space left"):
        recorded.log_features(range(N), np.ones((N, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert recorded.finish()
    assert read().manifest.complete
