"""Scales: presets fill what is not given."""

from typing import ClassVar

import pytest

from actiontrack.errors import ParameterError
from projects.params import defaults, parse
from projects.params.experiments import ExperimentParams, auto


class Example(ExperimentParams):
    """An experiment."""

    presets: ClassVar = {
        "smoke": {"epochs": 2, "rounds": 1},
        "cpu": {"epochs": 12, "rounds": 3},
        "paper": {"epochs": 85, "rounds": 20},
    }

    rounds: int = auto(ge=1, description="rounds")


def test_a_scale_fills_the_values_that_are_not_given():
    params = parse(Example, ["--scale", "cpu"])
    assert (params.epochs, params.rounds, params.dataset, params.subset) == (
        12,
        3,
        "cifar10",
        10000,
    )


def test_without_a_scale_the_experiment_is_a_smoke_test_on_digits():
    params = parse(Example, [])
    assert (params.scale, params.dataset, params.epochs) == ("smoke", "digits", 2)


def test_a_given_value_wins_over_the_preset():
    assert parse(Example, ["--scale", "paper", "--rounds", "4"]).rounds == 4


@pytest.mark.parametrize(
    ("argv", "is_given"),
    [
        *[([], False), (["--rounds", "auto"], False)],
        *[(["--rounds", "20"], True), (["--rounds", "4"], True)],
    ],
)
def test_a_value_is_chosen_though_it_is_that_of_the_preset(argv, is_given):
    assert parse(Example, ["--scale", "paper", *argv]).is_given("rounds") is is_given


def test_the_word_auto_is_the_preset():
    assert parse(Example, ["--scale", "paper", "--rounds", "auto"]).rounds == 20


def test_a_given_value_is_checked():
    with pytest.raises(ParameterError) as caught:
        parse(Example, ["--rounds", "0"])
    expected = "rounds: must be an integer >= 1, got '0'. Leave it out for the default, auto."
    assert str(caught.value) == expected


def test_an_unknown_scale_is_refused():
    with pytest.raises(ParameterError) as caught:
        parse(Example, ["--scale", "huge"])
    assert str(caught.value) == (
        "scale: must be one of smoke, cpu, paper, got 'huge'. Leave it out for the default, smoke."
    )


def test_the_declared_default_of_what_a_preset_fills_is_auto():
    assert defaults(Example)["rounds"] == "auto"
    assert defaults(Example)["scale"] == "smoke"


def test_a_training_takes_the_parameters_of_the_same_name_and_the_changes():
    training = parse(Example, ["--epochs", "3"]).training(model="cnn3", seed=5)
    assert (training.epochs, training.model, training.seed) == (3, "cnn3", 5)
    assert training.dataset == "digits"


def test_a_training_that_can_not_be_is_refused_by_name():
    with pytest.raises(ParameterError, match="warmup_epochs: must be an integer < epochs"):
        parse(Example, ["--epochs", "2"]).training(warmup_epochs=2)
