import importlib
import pkgutil

import pytest

import actiontrack
from actiontrack.errors import MissingDependencyError

CODE = """
import sys
import actiontrack{}
heavy = {{"torch", "mlflow", "seaborn", "matplotlib", "flask", "pyarrow.dataset", "sqlalchemy"}}
heavy |= {{"dask", "distributed"}}
print(sorted(heavy & set(sys.modules)))
"""


def module_names():
    return sorted(e.name for e in pkgutil.walk_packages(actiontrack.__path__, "actiontrack."))


def test_importing_actiontrack_loads_no_framework(in_subprocess):
    assert in_subprocess(CODE.format("")).stdout == "[]\n"


@pytest.mark.parametrize(
    "module",
    [
        "errors",
        "record.digest",
        "history",
        "scores",
        "compare",
        "analysis.cluster.scores",
        "record.losses",
        "store",
        "recorder",
        "testing",
    ],
)
def test_importing_the_core_loads_no_framework(in_subprocess, module):
    assert in_subprocess(CODE.format(f".{module}")).stdout == "[]\n"


@pytest.mark.parametrize("module", module_names())
def test_public_names_are_sorted_and_true(module):
    try:
        found = importlib.import_module(module)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    names = getattr(found, "__all__", None)
    if names is None:
        assert [
            name for name in vars(found) if not name.startswith("_") and _is_own(found, name)
        ] == []
        return
    assert names == sorted(names, key=natural_order)
    assert len(set(names)) == len(names)
    assert [each for each in names if not hasattr(found, each)] == []


def _is_own(module, name):
    return getattr(getattr(module, name), "__module__", "") == module.__name__


def natural_order(name):
    """CONSTANTS, then Classes, then functions: the order that ruff keeps."""
    return (not name.isupper(), not name[0].isupper(), name)


def test_the_version_is_a_version():
    parts = actiontrack.__version__.split(".")
    assert len(parts) == 3
    assert all(each.isdigit() for each in parts)


def test_pytorch_that_is_not_installed_is_named_with_the_pip_command(in_subprocess):
    code = """
import sys
sys.modules["torch"] = None
from actiontrack.errors import MissingDependencyError
try:
    import actiontrack.recorder.torch
except MissingDependencyError as error:
    print(error)
"""
    text = "actiontrack.recorder.torch needs PyTorch: pip install 'actiontrack[train]'\n"
    assert in_subprocess(code).stdout == text
