"""Settings of a model take the place of what the user leaves out, and of nothing else."""

from typing import ClassVar

import pytest

from actiontrack.errors import ParameterError
from projects.experiments.label_noise_params import LabelNoiseParams
from projects.params import TrainParams, parse, to_strings, validate
from projects.params.experiments import ExperimentParams
from projects.params.recipes import recipe_of

RECIPE = dict(recipe_of("speednet"))


class Example(ExperimentParams):
    """An experiment without any of the settings."""

    presets: ClassVar = {"smoke": {"epochs": 3}}


def settings(params):
    return {name: getattr(params, name) for name in RECIPE}


def test_speednet_has_its_settings_and_says_so():
    params = validate(TrainParams, {"model": "speednet"})
    assert settings(params) == RECIPE
    assert params.adapted == RECIPE.keys()


@pytest.mark.parametrize("model", ["cnn3", "resnet_v2"])
def test_models_without_a_recipe_keep_the_defaults(model):
    params = validate(TrainParams, {"model": model})
    assert settings(params) == settings(TrainParams())
    assert not params.adapted


def test_what_the_user_chooses_stays():
    params = validate(TrainParams, {"model": "speednet", "optimizer": "adamw", "batch_size": 64})
    assert settings(params) == RECIPE | {"optimizer": "adamw", "batch_size": 64}


def test_the_recipe_can_be_left_out():
    params = validate(TrainParams, {"model": "speednet", "recipe": "none"})
    assert settings(params) == settings(TrainParams())


def test_mlflow_passes_the_defaults_and_they_count_as_not_chosen():
    texts = to_strings(TrainParams()) | {"model": "speednet"}
    assert settings(validate(TrainParams, texts)) == RECIPE


def test_a_warm_up_beside_the_triangular_schedule_of_the_recipe_is_refused():
    with pytest.raises(ParameterError) as caught:
        validate(TrainParams, {"model": "speednet", "warmup_epochs": 2})
    assert str(caught.value) == (
        "warmup_epochs: must be 0 with schedule triangular, which rises by itself, got 2. "
        "Leave it out."
    )


@pytest.mark.parametrize(("experiment", "epochs"), [(Example, 3), (LabelNoiseParams, 5)])
def test_in_an_experiment_the_recipe_takes_the_place_of_what_the_scale_fills_in(experiment, epochs):
    training = parse(experiment, []).training(model="speednet")
    assert settings(training) == RECIPE
    assert training.epochs == epochs


def test_in_an_experiment_what_the_user_chooses_stays():
    chosen = parse(LabelNoiseParams, ["--learning_rate", "0.1", "--batch_size", "32"])
    training = chosen.training(model="speednet")
    assert settings(training) == RECIPE | {"learning_rate": 0.1, "batch_size": 32}


@pytest.mark.parametrize(
    ("scale", "name", "value"),
    [("smoke", "batch_size", 128), ("cpu", "optimizer", "adam"), ("paper", "schedule", "cosine")],
)
def test_in_an_experiment_a_choice_that_is_equal_to_the_preset_stays(scale, name, value):
    assert LabelNoiseParams.preset(scale)[name] == value
    chosen = parse(LabelNoiseParams, ["--scale", scale, f"--{name}", str(value)])
    assert settings(chosen.training(model="speednet")) == RECIPE | {name: value}


@pytest.mark.parametrize("scale", ["smoke", "cpu", "paper"])
def test_the_triangular_schedule_of_the_recipe_has_no_warm_up_of_the_scale(scale):
    params = parse(LabelNoiseParams, ["--models", "speednet,cnn3", "--scale", scale])
    by_model = {training.model: training for training in params.trainings("symmetric")}
    assert settings(by_model["speednet"]) == RECIPE
    assert by_model["speednet"].warmup_epochs == 0
    assert by_model["cnn3"].warmup_epochs == params.warmup_epochs == int(scale == "paper")


@pytest.mark.parametrize("epochs", ["1", "2"])
def test_a_warm_up_that_is_chosen_is_refused_beside_the_recipe_of_an_experiment(epochs):
    chosen = parse(LabelNoiseParams, ["--scale", "paper", "--warmup_epochs", epochs])
    with pytest.raises(ParameterError, match=r"^warmup_epochs: must be 0 with schedule triangular"):
        chosen.training(model="speednet")


@pytest.mark.parametrize("augment", ["none", "flip_crop"])
def test_a_training_stays_the_same_in_a_process_of_its_own(augment):
    chosen = parse(LabelNoiseParams, ["--scale", "cpu", "--augment", augment])
    training = chosen.training(model="speednet")
    assert validate(TrainParams, to_strings(training)) == training
