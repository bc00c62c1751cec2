"""Functions that are wrapped, and put back."""

import functools
import types

import pytest

from actiontrack.recorder.autolog import patches


def twice(function):
    @functools.wraps(function)
    def wrapper(*args):
        return 2 * function(*args)

    return wrapper


class Base:
    def fit(self):
        return 1


@pytest.fixture
def owner():
    return type("Model", (Base,), {})


def test_a_function_is_wrapped_once_and_put_back():
    module = types.ModuleType("loop")
    module.train = function = lambda: 1
    for _ in range(2):
        patches.apply(module, "train", twice)
        assert module.train() == 2
    patches.revert(module, "train")
    assert module.train is function
    patches.revert(module, "train")
    assert module.train is function


def test_what_is_inherited_is_not_owned_afterwards(owner):
    patches.apply(owner, "fit", twice)
    assert (owner().fit(), Base().fit()) == (2, 1)
    patches.revert(owner, "fit")
    assert "fit" not in vars(owner)


def test_below_another_patch_ours_stays_and_is_not_wrapped_again(owner):
    patches.apply(owner, "fit", twice)
    ours = owner.fit
    owner.fit = theirs = functools.wraps(ours)(lambda self: ours(self) + 1)
    patches.apply(owner, "fit", twice)
    patches.revert(owner, "fit")
    assert owner.fit is theirs
    owner.fit = ours
    patches.revert(owner, "fit")
    assert owner().fit() == 1


def test_the_home_of_a_method_is_its_class():
    module = types.ModuleType("loop")
    module.Base, module.train = Base, print
    assert patches.home_of(module, "Base.fit") == (Base, "fit")
    assert patches.home_of(module, "train") == (module, "train")
    with pytest.raises(AttributeError):
        patches.home_of(module, "Gone.fit")
