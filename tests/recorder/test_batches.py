import warnings

import numpy as np
import pytest
import torch
from helpers import message
from PIL import Image
from recording import LABELS, LOGITS, N
from scipy import special
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.batches import batch_ids, batch_of, check_shapes
from actiontrack.recorder.epoch import EpochBuffer

CHANCES = special.softmax(LOGITS[0].astype(np.float64), axis=1)


def checked(size=4, **arguments):
    """A batch of four samples, as `update` takes it."""
    batch = batch_of(size, **arguments)
    check_shapes(batch.columns, size)
    return batch


def rows(**arguments):
    """The columns of an epoch of one batch of eleven samples."""
    batch = checked(N, **arguments)
    buffer = EpochBuffer()
    buffer.add(np.arange(N), N, batch.columns, batch.outputs, batch.invalid)
    return buffer.rows(None).columns


@pytest.mark.parametrize("scalar", [torch.tensor(0.5), 0.5, np.float32(0.5)])
def test_a_reduced_loss_is_refused_with_the_remedy(scalar):
    text = (
        "losses: must have one value per sample, got a single number. "
        "The criterion reduces the batch: construct it with reduction='none'."
    )
    with pytest.raises(RecordingError, match=message(text)):
        checked(losses=scalar)


@pytest.mark.parametrize("shape", [(4, 1), (1,), (3,), (4, 8, 8), (1, 4)])
def test_losses_that_are_not_one_per_id_are_refused(shape):
    text = (
        f"losses: must have shape (4,), one value per id, got {shape}. "
        "Average over the other dimensions first, or pass parts of the loss as components."
    )
    with pytest.raises(RecordingError, match=message(text)):
        checked(losses=np.ones(shape))


@pytest.mark.parametrize("shape", [(4, 1), (3,), (4, 3)])
def test_labels_that_are_not_one_per_id_are_refused(shape):
    text = f"label: must have shape (4,), one value per id, got {shape}."
    with pytest.raises(RecordingError, match=message(text)):
        checked(losses=np.ones(4), labels=np.ones(shape, int))


def test_a_component_that_is_not_one_per_id_is_refused():
    text = "box: must have shape (4,), one value per id, got (4, 4)."
    with pytest.raises(RecordingError, match=message(text)):
        checked(losses=np.ones(4), components={"box": np.ones((4, 4))})


@pytest.mark.parametrize("name", ["loss", "margin", "label", "sample", "step", "batch", "ids"])
def test_a_component_may_not_take_a_name_of_the_record(name):
    text = f"components: must not take a name of the record itself, got {name!r}. Rename it."
    with pytest.raises(ParameterError, match=message(text)):
        checked(losses=np.ones(4), components={name: np.ones(4)})


def test_neither_losses_nor_logits_is_refused():
    text = "losses: must be given, or logits with labels, got None. Pass one of the two."
    with pytest.raises(ParameterError, match=message(text)):
        checked(labels=np.ones(4, int))


@pytest.mark.parametrize("name", ["logits", "probabilities"])
def test_outputs_without_labels_are_refused(name):
    text = f"labels: must be given with {name}, got None. Pass labels."
    with pytest.raises(ParameterError, match=message(text)):
        checked(**{name: np.ones((4, 2))})


def test_logits_and_probabilities_together_are_refused():
    text = "probabilities: must be left out with logits, got 'both'. "
    with pytest.raises(ParameterError, match=f"^{text}"):
        checked(logits=np.ones((4, 2)), probabilities=np.ones((4, 2)), labels=np.ones(4, int))


@pytest.mark.parametrize("outputs", [np.ones((3, 2)), np.ones((4, 2, 2))])
def test_outputs_without_a_row_per_id_are_refused(outputs):
    text = (
        f"logits: must have shape (4, n_classes), one row per id, got {outputs.shape}. "
        "Pass the outputs of the same batch as the ids."
    )
    with pytest.raises(ParameterError, match=message(text)):
        checked(logits=outputs, labels=np.ones(4, int))


def test_outputs_that_are_integers_are_refused():
    with pytest.raises(ParameterError, match=r"^logits: must be floating-point numbers, got 'int"):
        checked(logits=np.ones((4, 2), int), labels=np.ones(4, int))


# What is no array


@pytest.mark.parametrize(
    "values", ["abcd", ["a", "b", "c", "d"], [None] * 4, np.array(["x"] * 4), [[1], [1, 2], [], []]]
)
def test_what_is_no_array_of_numbers_is_refused_by_name(values):
    with pytest.raises(ParameterError, match=r"^losses: must be an array of numbers, got "):
        checked(losses=values)


def test_an_image_in_place_of_losses_is_refused_by_its_shape():
    with pytest.raises(RecordingError, match=r"^losses: must have shape \(4,\).*got \(8, 4\)\."):
        checked(losses=Image.new("L", (4, 8)))


def test_lists_are_taken_as_arrays():
    columns = rows(logits=LOGITS[0].tolist(), labels=LABELS.tolist())
    np.testing.assert_allclose(columns["loss"], -np.log(CHANCES[np.arange(N), LABELS]), rtol=1e-6)


def test_labels_may_come_from_another_library_than_the_logits():
    mixed = rows(logits=torch.tensor(LOGITS[0]), labels=LABELS.tolist())
    np.testing.assert_array_equal(mixed["label"], LABELS)
    other_way = rows(logits=LOGITS[0], labels=torch.tensor(LABELS))
    np.testing.assert_allclose(mixed["loss"], other_way["loss"], rtol=1e-6)


@pytest.mark.parametrize("ids", ["abc", b"abc", 3, np.int64(3), torch.tensor(3), {1: 2}, iter([1])])
def test_ids_that_are_no_sequence_are_refused(ids):
    with pytest.raises(ParameterError, match=r"^ids: must have shape \(batch,\), got .* Pass one"):
        batch_ids(ids)


# Probabilities, and binary classifiers


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_probabilities_give_every_measure_that_their_logits_give(library):
    direct = rows(probabilities=library(CHANCES), labels=library(LABELS))
    by_logits = rows(logits=library(LOGITS[0].astype(np.float64)), labels=library(LABELS))
    assert direct.keys() == by_logits.keys()
    for name, values in by_logits.items():
        np.testing.assert_allclose(direct[name], values, rtol=2e-6, atol=1e-6, err_msg=name)


def test_a_class_of_probability_zero_has_the_loss_of_the_smallest_probability():
    chances = np.eye(3)[(LABELS + 1) % 3]
    assert rows(probabilities=chances, labels=LABELS)["loss"] == pytest.approx(36.04, abs=0.01)


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_the_probability_of_class_1_alone_is_that_of_a_binary_classifier(shape):
    chance, labels = np.linspace(0.05, 0.95, N), np.arange(N) % 2
    losses = rows(probabilities=chance.reshape(shape), labels=labels)["loss"]
    expected = F.binary_cross_entropy(
        torch.tensor(chance), torch.tensor(labels).double(), reduction="none"
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_a_single_logit_is_that_of_a_binary_classifier(shape, dtype):
    logits = torch.linspace(-3, 3, N)
    labels = (torch.arange(N) % 2).to(dtype)
    columns = rows(logits=logits.reshape(shape), labels=labels.reshape(shape))
    expected = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
    np.testing.assert_allclose(columns["loss"], expected, rtol=1e-5)
    np.testing.assert_array_equal(columns["predicted"], (logits > 0).int())


@pytest.mark.parametrize(
    "chances", [CHANCES * 2, CHANCES - 0.5, np.full((N, 3), np.nan), LOGITS[0].astype(float)]
)
def test_probabilities_that_are_none_are_refused_at_the_end_of_the_epoch(chances):
    with pytest.raises(RecordingError, match=r"^probabilities: rows of batch 1 are no distribut"):
        rows(probabilities=chances, labels=LABELS)


@pytest.mark.parametrize(("dtype", "n_classes"), [("bfloat16", 300), ("float16", 46_800)])
def test_probabilities_of_half_precision_are_taken(dtype, n_classes):
    chances = torch.full((N, n_classes), 1 / n_classes).to(getattr(torch, dtype))
    exact = chances.double().numpy()
    assert (abs(exact.sum(axis=1) - 1) > 1e-3).all()
    columns = rows(probabilities=chances, labels=LABELS)
    expected = -np.log(exact[np.arange(N), LABELS]) + np.log(exact.sum(axis=1))
    np.testing.assert_allclose(columns["loss"], expected, rtol=1e-5)


def test_half_precision_does_not_make_distributions_of_other_numbers():
    chances = torch.tensor(CHANCES, dtype=torch.bfloat16) * 1.1
    with pytest.raises(RecordingError, match=r"^probabilities: rows of batch 1 are no distribut"):
        rows(probabilities=chances, labels=LABELS)


def test_probabilities_passed_as_logits_are_warned_about_once(recorder, read):
    rec = recorder()
    rec.update(np.arange(N), logits=CHANCES, labels=LABELS)
    with pytest.warns(UserWarning, match=r"^logits: every row .* pass them as prob") as caught:
        rec.end_epoch()
    assert caught[0].filename == __file__
    rec.update(np.arange(N), logits=CHANCES, labels=LABELS)
    rec.end_epoch()
    rec.finish()
    expected = -special.log_softmax(CHANCES, axis=1)[np.arange(N), LABELS]
    np.testing.assert_allclose(read().history().losses[1], expected, rtol=1e-6)


def test_a_record_of_probabilities_is_one_of_the_cross_entropy(recorder, read):
    with recorder() as rec, warnings.catch_warnings():
        warnings.simplefilter("error")
        rec.update(np.arange(N), probabilities=CHANCES, labels=LABELS)
        rec.end_epoch()
    assert read().manifest.loss_name == "cross_entropy"
    expected = -np.log(CHANCES[np.arange(N), LABELS])
    np.testing.assert_allclose(read().scores()["action"], expected, rtol=1e-6)


# Losses that are all equal


def test_a_forgotten_reduction_is_refused_at_the_end_of_the_epoch(recorder):
    rec = recorder()
    rec.update(np.arange(N), torch.full((N,), 0.25))
    text = (
        f"losses: all {N} losses of batch 1 are 0.25. The criterion reduces the batch: construct "
        "it with reduction='none'. If the losses are right, pass allow_uniform=True."
    )
    with pytest.raises(RecordingError, match=message(text)):
        rec.end_epoch()


def test_equal_losses_from_logits_are_no_forgotten_reduction(recorder, read):
    with recorder() as rec:
        rec.update(np.arange(N), logits=np.zeros((N, 3)), labels=LABELS)
        rec.end_epoch()
    assert read().history().losses[0] == pytest.approx(np.log(3))
