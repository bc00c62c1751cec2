"""Defaults never contradict what the user chose, at any entry point."""

import math
import shlex
from typing import Literal, get_args, get_origin

import pytest
import yaml
from helpers import ROOT, message

from actiontrack.errors import ParameterError
from projects.experiments.curriculum import CurriculumParams
from projects.experiments.curves import CurvesParams
from projects.experiments.ensemble import EnsembleParams
from projects.experiments.label_noise_params import LabelNoiseParams
from projects.experiments.model_bias import ModelBiasParams
from projects.params import CompareParams, DemoParams, TrainParams, parse, to_strings, validate
from projects.params.autoencoder import AutoencoderParams
from projects.params.detection import DetectionParams
from projects.params.segmentation import SegmentationParams
from projects.run_log import lasting

MODELS = {
    "main": DemoParams,
    "train": TrainParams,
    "train_detection": DetectionParams,
    "train_segmentation": SegmentationParams,
    "train_autoencoder": AutoencoderParams,
    "compare": CompareParams,
    "report": CompareParams,
    "curves": CurvesParams,
    "model_bias": ModelBiasParams,
    "label_noise": LabelNoiseParams,
    "ensemble": EnsembleParams,
    "curriculum": CurriculumParams,
}
COMMANDS = {
    name: entry["command"]
    for name, entry in yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"].items()
}
LARGE = 10**6
TYPES = {bool: (False, True), str: ("x",)}
LISTS = {
    "record": ("train", "test,train"),
    "models": ("cnn3", "vgg5,cnn3,cnn_keras,resnet_v2,xception_mini,speednet"),
    "datasets": ("ferplus", "digits,mnist"),
    "classes": ("", "b,a"),
    "metadata_columns": ("", "b,a"),
    "noise": ("asymmetric", "file:x.pt#a,symmetric"),
}
DATASETS = {
    "train_detection": ("voc:x",),
    "train_segmentation": ("masks:a,b", "cityscapes:x"),
}
#: Where the rule of a field depends on another parameter, so that its type does not express it.
ENDS = {
    ("train", "warmup_epochs"): (0, 11),
    ("train_detection", "warmup_epochs"): (0, 11),
    ("train_segmentation", "warmup_epochs"): (0, 23),
    ("train_autoencoder", "warmup_epochs"): (0, 19),
    ("label_noise", "warmup_epochs"): (0, 4),
    ("label_noise", "label_noise"): (1e-9, math.nextafter(1, 0)),
}


def bound(field, inclusive, exclusive, step):
    for constraint in field.metadata:
        if getattr(constraint, inclusive, None) is not None:
            return getattr(constraint, inclusive)
        if getattr(constraint, exclusive, None) is not None:
            return step(getattr(constraint, exclusive))
    return None


def ends(entry, name, field):
    """The extreme values that a field accepts, all of them where they are few."""
    if name == "dataset":
        return DATASETS.get(entry, ("ferplus", "cifar10", "folder:x"))
    if get_origin(field.annotation) is tuple:
        return LISTS[name]
    if get_origin(field.annotation) is Literal:
        return get_args(field.annotation)
    if field.annotation in TYPES:
        return TYPES[field.annotation]
    low = bound(field, "ge", "gt", lambda value: math.nextafter(value, math.inf))
    high = bound(field, "le", "lt", lambda value: math.nextafter(value, -math.inf))
    return ENDS.get((entry, name), (low, LARGE if high is None else high))


CASES = [
    (entry, name, end)
    for entry, model in MODELS.items()
    for name, field in model.model_fields.items()
    for end in ends(entry, name, field)
]


def as_text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def words_of_mlflow(entry, **values):
    """The command line that `mlflow run -e ENTRY -P NAME=VALUE` makes: every parameter is on it."""
    model = MODELS[entry]
    texts = to_strings(model.model_construct()) | values
    command = COMMANDS[entry].format(**{name: shlex.quote(text) for name, text in texts.items()})
    return shlex.split(command)[3:]


def test_every_entry_point_is_known_here():
    assert list(COMMANDS) == list(MODELS)


@pytest.mark.parametrize(("entry", "name", "end"), CASES)
def test_any_single_parameter_can_be_at_its_end(entry, name, end):
    params = validate(MODELS[entry], {name: as_text(end)})
    assert name not in params.adapted
    assert parse(MODELS[entry], words_of_mlflow(entry, **{name: as_text(end)})) == params


@pytest.mark.parametrize("scale", ["smoke", "cpu", "paper"])
def test_every_scale_trains_for_a_single_epoch(scale):
    params = validate(LabelNoiseParams, {"scale": scale, "epochs": 1})
    assert {training.epochs for training in params.trainings("symmetric")} == {1}
    assert params.warmup_epochs == 0


@pytest.mark.parametrize("model", [DetectionParams, SegmentationParams])
def test_the_default_warm_up_fits_into_fewer_epochs(model):
    assert parse(model, ["--epochs", "1"]).warmup_epochs == 0
    assert parse(model, ["--epochs", "2"]).warmup_epochs == 1


@pytest.mark.parametrize("model", [DetectionParams, SegmentationParams])
def test_a_warm_up_that_the_user_chose_is_refused_where_it_does_not_fit(model):
    text = (
        "warmup_epochs: must be an integer < epochs, which is 1, got 1. "
        "Pass --warmup_epochs 0 or less, or more epochs."
    )
    with pytest.raises(ParameterError, match=message(text)):
        parse(model, ["--epochs", "1", "--warmup_epochs", "1"])


def test_a_preset_s_warm_up_fits_and_the_user_s_own_is_refused():
    assert parse(LabelNoiseParams, ["--scale", "paper", "--epochs", "1"]).warmup_epochs == 0
    with pytest.raises(ParameterError, match="warmup_epochs: must be an integer < epochs"):
        parse(LabelNoiseParams, ["--scale", "paper", "--epochs", "2", "--warmup_epochs", "2"])


def test_inline_losses_make_the_default_record_hold_the_training_split():
    params = parse(TrainParams, ["--mode", "inline"])
    assert params.record == ("test", "train")
    assert params.adapted == {"record"}


def test_a_record_without_the_training_split_that_the_user_chose_is_refused():
    text = (
        "mode: must be probe when train is not in record: only training batches have inline "
        "losses, got 'inline'. Pass --record test,train or --mode probe."
    )
    with pytest.raises(ParameterError, match=message(text)):
        parse(TrainParams, ["--record", "test", "--mode", "inline"])


def test_shares_of_votes_choose_the_dataset_that_has_votes():
    assert parse(TrainParams, ["--ferplus_labels", "probability"]).dataset == "ferplus"
    with pytest.raises(ParameterError, match="must be majority with dataset digits, which has no"):
        parse(TrainParams, ["--ferplus_labels", "probability", "--dataset", "digits"])


def test_weights_choose_the_detector_that_has_weights():
    assert parse(DetectionParams, ["--weights", "imagenet"]).model == "ssd300_vgg16"
    with pytest.raises(ParameterError, match=r"^weights: must be none for model ssd_small"):
        parse(DetectionParams, ["--weights", "imagenet", "--model", "ssd_small"])


def test_weights_choose_the_width_that_has_weights():
    assert parse(SegmentationParams, ["--encoder_weights", "imagenet"]).width_divisor == 1
    text = (
        "encoder_weights: must be none with width_divisor 8: there are weights for VGG-16 at its "
        "full width only, got 'imagenet'. Pass --encoder_weights none or --width_divisor 1."
    )
    with pytest.raises(ParameterError, match=message(text)):
        parse(SegmentationParams, ["--encoder_weights", "imagenet", "--width_divisor", "8"])


@pytest.mark.parametrize("model", [DemoParams, ModelBiasParams])
def test_trainings_that_leave_nothing_to_compare_are_refused(model):
    text = (
        "seeds: must be an integer >= 2 with a single model: a comparison needs two runs, got 1. "
        "Pass --seeds 2 or more, or several models."
    )
    with pytest.raises(ParameterError, match=message(text)):
        parse(model, ["--models", "cnn3", "--seeds", "1"])


def test_an_adapted_default_is_reported(capsys):
    parse(DetectionParams, ["--epochs", "1"])
    assert capsys.readouterr().err == (
        "warmup_epochs: 0 instead of the default 1, to fit the other parameters\n"
    )


def test_a_run_keeps_the_parameter_as_mlflow_passed_it_beside_the_value_in_effect():
    params = parse(DetectionParams, words_of_mlflow("train_detection", epochs="1"))
    logged = lasting(params)
    assert (logged["warmup_epochs"], logged["effective.warmup_epochs"]) == ("1", "0")
    assert [name for name in logged if name.startswith("effective.")] == ["effective.warmup_epochs"]


def test_without_adapted_defaults_a_run_has_the_parameters_alone():
    assert not [name for name in lasting(parse(DetectionParams, [])) if "effective" in name]


def test_adapted_values_survive_the_way_to_a_child_run():
    params = parse(SegmentationParams, ["--epochs", "1", "--encoder_weights", "imagenet"])
    words = [f"--{name}={text}" for name, text in to_strings(params).items()]
    assert to_strings(parse(SegmentationParams, words)) == to_strings(params)
