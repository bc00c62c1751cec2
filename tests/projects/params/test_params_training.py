"""What the parameters of a training refuse together, and what is derived from them."""

from pathlib import Path

import pytest
from helpers import message

from actiontrack.errors import ParameterError
from projects.params import TrainParams, parse, validate
from projects.params.autoencoder import AutoencoderParams
from projects.params.detection import DetectionParams
from projects.params.segmentation import SegmentationParams

EVERY = (TrainParams, AutoencoderParams, DetectionParams, SegmentationParams)
every_training = pytest.mark.parametrize("model", EVERY)


def refusal(model, **values):
    with pytest.raises(ParameterError) as caught:
        validate(model, values)
    return str(caught.value)


@every_training
@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_a_warm_up_is_shorter_than_the_training(model, epochs):
    assert validate(model, {"epochs": epochs, "warmup_epochs": epochs - 1}).adapted == set()
    assert refusal(model, epochs=epochs, warmup_epochs=epochs) == (
        f"warmup_epochs: must be an integer < epochs, which is {epochs}, got {epochs}. "
        f"Pass --warmup_epochs {epochs - 1} or less, or more epochs."
    )


@every_training
def test_the_untrained_model_has_no_training_batches(model):
    values = {"record": "train", "mode": "inline", "record_initial": "true"}
    assert refusal(model, **values) == (
        "record_initial: must be false when nothing is probed: the untrained model has no training "
        "batch, got True. Pass --mode both or --record_initial false."
    )
    assert validate(model, values | {"mode": "both"}).record_initial
    assert validate(model, values | {"record": "test,train"}).record_initial


@every_training
@pytest.mark.parametrize("delta_n", ["batch", "wall_time"])
def test_the_untrained_model_counts_as_an_epoch_only(model, delta_n):
    assert refusal(model, record_initial="true", delta_n=delta_n) == (
        f"record_initial: must be false with delta_n {delta_n}, which has no Δn for n = 0, got "
        "True. Pass --delta_n epoch or --record_initial false."
    )


@every_training
@pytest.mark.parametrize(
    ("record", "mode"),
    [("test,train", "inline"), ("train", "inline"), ("train", "both"), ("train,test", "both")],
)
def test_inline_losses_fit_every_record_with_the_training_split(model, record, mode):
    params = validate(model, {"record": record, "mode": mode})
    assert params.record == tuple(record.split(","))
    assert params.adapted == set()


@pytest.mark.parametrize("values", [{"label_noise": "0.1"}, {"noisy_labels": "x.csv"}])
def test_shares_of_votes_can_not_be_wrong_labels(values):
    assert refusal(TrainParams, ferplus_labels="probability", **values) == (
        "ferplus_labels: must be majority with wrong labels: shares of votes can't be replaced by "
        "them, got 'probability'. Pass --ferplus_labels majority."
    )


def test_wrong_labels_come_from_a_file_or_from_chance():
    text = "noisy_labels: must be empty with label_noise 0.1, got 'x.csv'. Pass one of the two."
    assert refusal(TrainParams, noisy_labels="x.csv", label_noise="0.1") == text


def test_an_empty_data_dir_is_refused():
    text = "data_dir: must be a folder or auto, got ''. Leave it out for the default, auto."
    with pytest.raises(ParameterError, match=message(text)):
        parse(TrainParams, ["--data_dir", ""])


def test_the_file_of_wrong_labels_may_lie_in_the_home_folder():
    path = parse(TrainParams, ["--noisy_labels", "~/labels.csv"]).noisy_labels_path
    assert path == Path.home() / "labels.csv"


@pytest.mark.parametrize(
    ("seed", "noise_seed", "expected"), [(5, -1, 5), (5, 0, 0), (0, -1, 0), (0, 9, 9)]
)
def test_the_noise_has_the_seed_of_the_run_unless_it_has_its_own(seed, noise_seed, expected):
    params = validate(TrainParams, {"seed": seed, "noise_seed": noise_seed})
    assert params.effective_noise_seed == expected
