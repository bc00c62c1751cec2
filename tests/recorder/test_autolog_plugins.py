"""Adapters of other packages: listed and used like ours, and never in the way of ours."""

import ast
import importlib
import importlib.util
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import mlflow
import pytest
from autologging import autologged, warnings_of
from helpers import ROOT

import actiontrack
from actiontrack.errors import ParameterError
from actiontrack.recorder.autolog import Adapter, installed
from actiontrack.recorder.autolog.installed import GROUP, declarations, read
from actiontrack.store import Store
from actiontrack.testing import AdapterTests

PIP = ("-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps")
NO_CALLBACK = """
from actiontrack.recorder.autolog import Adapter
ADAPTER = Adapter(framework="looplet", callback="acme_callback:Callback")
"""


@pytest.fixture(scope="module")
def looplet(once):
    """The example of the documentation, as pip installs it, and its tests, on the path."""

    def install(folder):
        source = folder / "source"
        shutil.copytree(ROOT / "examples" / "adapter", source)
        target = ("--target", folder / "installed")
        subprocess.run([sys.executable, *PIP, *target, source], check=True, timeout=120)
        shutil.copy(source / "test_looplet.py", folder / "installed")

    folder = once("looplet", install) / "installed"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    for name in ("test_looplet", "actiontrack_looplet", "actiontrack_looplet.recording", "looplet"):
        sys.modules.pop(name, None)


@pytest.fixture
def declare(tmp_path, monkeypatch):
    """A function that makes a package, with its entry points, be installed."""

    def make(package, entries, **modules):
        folder = tmp_path / package
        (metadata := folder / f"{package}-3.1.dist-info").mkdir(parents=True)
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 3.1\n"
        )
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (metadata / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
        for name, code in modules.items():
            (folder / f"{name}.py").write_text(code)
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(folder)

    return make


@pytest.mark.parametrize("kind", ["TestByHand", "TestUnderAutologging"])
def test_the_example_of_the_documentation_passes_the_tests_of_adapters(looplet, kind):
    theirs = getattr(importlib.import_module("test_looplet"), kind)
    tests = type(kind, (theirs,), {"make_store": lambda *_: Store(mlflow.get_tracking_uri())})()
    names = [name for name in dir(AdapterTests) if name.startswith("test_")]
    assert len(names) == 6
    for name in names:
        getattr(tests, name)()
    type(tests)._folder.cleanup()


def test_an_installed_adapter_is_listed_beside_ours(looplet):
    row = actiontrack.adapters().loc["looplet"]
    assert (row["package"], row["version"]) == ("actiontrack-looplet", "0.1")
    assert (row["framework"], row["framework_version"]) == ("looplet", "0.1")
    assert (bool(row["autolog"]), row["problem"]) == (True, "")


def test_a_check_imports_what_is_declared(looplet, declare, monkeypatch):
    declare("acme", {"acme": "acme_adapter:ADAPTER"}, acme_adapter=NO_CALLBACK)
    others = {name: declarations()[name] for name in ("acme", "looplet")}
    monkeypatch.setattr(installed, "declarations", lambda: others)
    assert actiontrack.adapters()["problem"].tolist() == ["", ""]
    problem = "ModuleNotFoundError: No module named 'acme_callback'"
    assert actiontrack.adapters(check=True)["problem"].tolist() == [problem, ""]


def test_autologging_without_names_takes_it_too(looplet, store, run_id):
    tests = importlib.import_module("test_looplet")
    with autologged(), mlflow.start_run(run_id=run_id):
        tests.Model(64, 10).fit(*tests.TRAIN)
    run = store.get_run(run_id)
    assert run.records == ("train-probe",)
    assert run.tags["actiontrack.train-probe.autolog"] == "looplet: inputs"
    assert run.tags["actiontrack.train-probe.ids"] == "positions in inputs"


def test_ours_are_declared_in_the_same_group():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = {
        name: declaration.entry.value
        for name, declaration in declarations().items()
        if declaration.package == "actiontrack"
    }
    assert project["entry-points"][GROUP] == ours


def test_ours_name_callbacks_and_functions_that_there_are():
    for adapter in read(declarations()).values():
        for path in (adapter.callback, adapter.attach or adapter.callback):
            module, _, name = path.partition(":")
            tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text("utf-8"))
            assert name in {getattr(node, "name", "") for node in tree.body}


BROKEN = "import a_module_that_is_nowhere"


def test_a_broken_adapter_is_named_in_a_warning_and_breaks_nothing_else(declare, caplog):
    declare("acme", {"acme": "acme_adapter:ADAPTER"}, acme_adapter=BROKEN)
    with autologged():
        pass
    (text,) = set(warnings_of(caplog))
    assert text == (
        "the adapter 'acme' of the package acme 3.1 can't be read, and is left out: "
        "ModuleNotFoundError: No module named 'a_module_that_is_nowhere'"
    )
    frame = actiontrack.adapters()
    assert frame.loc["acme", "problem"].startswith("ModuleNotFoundError: No module named")
    assert frame.loc["xgboost", "problem"] == ""


def test_what_is_no_adapter_is_named_too(declare, caplog):
    declare("acme", {"acme": "acme_adapter:ADAPTER"}, acme_adapter="ADAPTER = 'none'")
    with autologged("acme"):
        pass
    (text,) = warnings_of(caplog)
    assert text.startswith("the adapter 'acme' of the package acme 3.1 can't be read, and is left")
    assert text.endswith("TypeError: acme_adapter:ADAPTER is no Adapter but a str")


def test_nothing_is_said_of_a_broken_one_in_silence(declare, caplog):
    declare("acme", {"acme": "acme_adapter:ADAPTER"}, acme_adapter=BROKEN)
    with autologged(silent=True):
        pass
    assert warnings_of(caplog) == []


def test_of_two_of_one_name_ours_is_taken(declare):
    declare("acme", {"xgboost": "acme_adapter:ADAPTER"}, acme_adapter=BROKEN)
    assert declarations()["xgboost"].package == "actiontrack"


def test_a_framework_that_is_missing_is_listed_as_such(declare, monkeypatch):
    code = """
from actiontrack.recorder.autolog import Adapter, installed
ADAPTER = Adapter(framework="a_framework", callback="nowhere:Callback")
"""
    declare("acme", {"acme": "acme_adapter:ADAPTER"}, acme_adapter=code)
    acme = {"acme": declarations()["acme"]}
    monkeypatch.setattr(installed, "declarations", lambda: acme)
    row = actiontrack.adapters(check=True).loc["acme"]
    assert row["problem"] == "a_framework is not installed"
    assert not row["autolog"]


def test_trainings_need_something_to_attach():
    with pytest.raises(ParameterError, match="attach: must be given where there are trainings"):
        Adapter(framework="loop", callback="loop:C", trainings={"loop": ("fit",)})


BAD_ATTACH = """
from actiontrack.recorder.autolog import Adapter, installed
def attach(training):
    raise ZeroDivisionError("broken")
ADAPTER = Adapter(framework="acme_loop", callback="x:y", attach=attach,
                  trainings={"acme_loop": ("fit", "gone.fit"), "acme_lost": ("fit",)})
"""


def test_an_adapter_that_fails_leaves_the_training_alone(declare, caplog):
    entries = {"acme": "acme_adapter:ADAPTER"}
    declare("acme", entries, acme_adapter=BAD_ATTACH, acme_loop="def fit(n): return n + 1")
    loop = importlib.import_module("acme_loop")
    with autologged("acme"):
        assert loop.fit(1) == 2
        assert loop.fit(n=2) == 3
        with pytest.raises(TypeError, match="fit"):
            loop.fit()
    assert warnings_of(caplog) == [
        "autolog: trainings by acme_loop.gone.fit: module 'acme_loop' has no attribute 'gone'",
        "this training is not recorded: broken",
    ]
