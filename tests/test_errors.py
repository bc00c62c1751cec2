import inspect
import pickle

import pytest
from helpers import message

from actiontrack import errors
from actiontrack.errors import ActionTrackError, ParameterError

CLASSES = [
    value
    for value in (getattr(errors, name) for name in errors.__all__)
    if inspect.isclass(value) and issubclass(value, Exception)
]


def test_every_error_class_is_public():
    defined = {
        name
        for name, each in vars(errors).items()
        if inspect.isclass(each) and issubclass(each, Exception)
    }
    assert defined == {error.__name__ for error in CLASSES}


def test_every_error_is_an_actiontrack_error():
    assert all(issubclass(each, ActionTrackError) for each in CLASSES)


def test_exit_codes_are_distinct_and_not_success():
    codes = [each.exit_code for each in CLASSES]
    assert sorted(codes) == list(range(1, len(CLASSES) + 1))


@pytest.mark.parametrize("each", CLASSES)
def test_the_docstring_of_the_module_names_every_error_with_its_code(each):
    line = next(line for line in errors.__doc__.splitlines() if f" {each.__name__} " in f"{line} ")
    assert each is ActionTrackError or f"(exit code {each.exit_code})" in line


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ParameterError", ValueError),
        ("NotFoundError", LookupError),
        ("MissingDependencyError", ImportError),
    ],
)
def test_errors_are_caught_by_the_builtin_that_callers_expect(name, builtin):
    assert issubclass(getattr(errors, name), builtin)


def test_a_parameter_error_says_what_where_and_how_to_mend_it():
    error = ParameterError("epochs", "must be positive", -1, "Pass 1 or more.")
    assert str(error) == "epochs: must be positive, got -1. Pass 1 or more."


def test_a_parameter_error_survives_pickling_between_processes():
    error = ParameterError("epochs", "must be positive", -1, "Pass 1 or more.")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copy), str(copy), copy.argument) == (ParameterError, str(error), "epochs")


def test_not_found_reads_as_its_message_and_not_as_a_quoted_key():
    with pytest.raises(LookupError, match=message("run 'x': not found.")):
        raise errors.NotFoundError("run 'x': not found.")
