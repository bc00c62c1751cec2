"""The types that parameters share: what each accepts, and the rule that a refusal tells."""

import pytest
from helpers import message
from pydantic import Field

from actiontrack.errors import ParameterError
from projects.params.fields import (
    DATASETS,
    MAX_SEED,
    Bool,
    Dataset,
    ModelNames,
    Names,
    Splits,
    to_tuple,
)
from projects.params.reading import Params, validate
from projects.params.training import TrainParams


class Example(Params):
    """One field of every shared type."""

    bool: Bool = Field(default=False, description="-")
    dataset: Dataset = Field("digits", description="-")
    models: ModelNames = Field(("cnn3",), description="-")
    names: Names = Field((), description="-")
    splits: Splits = Field(("test",), description="-")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *[("bool", "true", True), ("bool", "FALSE", False), ("bool", True, True)],
        *[("dataset", name, name) for name in DATASETS],
        *[("dataset", "folder:a", "folder:a"), ("dataset", "folder:a:b,c", "folder:a:b,c")],
        ("models", "cnn3,vgg5", ("cnn3", "vgg5")),
        ("models", ("vgg5",), ("vgg5",)),
        *[("names", "", ()), ("names", "a", ("a",)), ("names", "b,a", ("b", "a"))],
        *[("names", " a", (" a",)), ("names", "é", ("é",))],
        *[("splits", "test", ("test",)), ("splits", "train,test", ("train", "test"))],
        ("splits", ("train",), ("train",)),
    ],
)
def test_a_value_is_read(name, value, expected):
    assert getattr(validate(Example, {name: value}), name) == expected


@pytest.mark.parametrize(
    ("name", "value", "rule", "default"),
    [
        *[("bool", value, "true or false", "false") for value in ("1", "yes", "", "t", "None")],
        *[
            (
                "dataset",
                value,
                "one of digits, mnist, fashion_mnist, kmnist, cifar10, ferplus, folder:PATH",
                "digits",
            )
            for value in ("", "folder:", "Digits", "folder", "voc:x")
        ],
        *[
            (
                "models",
                value,
                "a comma list of cnn_keras, resnet_v2, xception_mini, vgg5, cnn3, speednet",
                "cnn3",
            )
            for value in ("", "cnn4", "cnn3,", "cnn3, vgg5")
        ],
        *[
            ("names", value, "a comma list of names without repeats", "empty")
            for value in (",", "a,", ",a", "a,a", "a,,b")
        ],
        *[
            ("splits", value, "a comma list of test, train without repeats", "test")
            for value in ("", "test,test", "val", "test,", "test train")
        ],
    ],
)
def test_another_value_is_refused_by_the_rule(name, value, rule, default):
    text = f"{name}: must be {rule}, got {value!r}. Leave it out for the default, {default}."
    with pytest.raises(ParameterError, match=message(text)):
        validate(Example, {name: value})


@pytest.mark.parametrize("value", [1, None, ("a",), ["a", "b"]])
def test_only_text_is_split(value):
    assert to_tuple(value) is value


def test_the_largest_seed_is_one_that_every_library_takes():
    import numpy as np
    import torch
    from sklearn.utils import check_random_state

    torch.Generator().manual_seed(MAX_SEED)
    np.random.default_rng(MAX_SEED)
    check_random_state(MAX_SEED)
    assert validate(TrainParams, {"seed": MAX_SEED}).seed == MAX_SEED
    with pytest.raises(ParameterError, match=f"<= {MAX_SEED}"):
        validate(TrainParams, {"seed": MAX_SEED + 1})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(ParameterError, match=r"^learning_rate: must be a number > 0, got"):
        validate(TrainParams, {"learning_rate": value})


@pytest.mark.parametrize("value", ["1_000", " 5 ", "5.0"])
def test_a_whole_number_may_be_spelled_as_pydantic_reads_it(value):
    assert validate(TrainParams, {"epochs": value}).epochs == int(float(value.replace("_", "")))


@pytest.mark.parametrize("value", ["five", "5.5", "0x10", "", "9" * 5000])
def test_another_spelling_is_refused_without_printing_it_whole(value):
    with pytest.raises(ParameterError, match=r"^epochs: must be an integer >= 1, got") as caught:
        validate(TrainParams, {"epochs": value})
    assert len(str(caught.value)) < 700
