"""Nothing that comes from a server or a file is ever unpickled or run."""

import ast
import os
import pickle
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from record_files import promise, read, write

from actiontrack.errors import CorruptRecordError, DataError
from actiontrack.record.losses import read_history
from actiontrack.record.manifest import read_manifest
from actiontrack.record.vectors import read_scores
from actiontrack.testing import make_history
from projects.checkpoint import Checkpoint

SOURCES = sorted([*(ROOT / "actiontrack").rglob("*.py"), *(ROOT / "projects").rglob("*.py")])
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "read_pickle", "to_pickle", "load_model", "unsafe_load", "full_load"}
SAFE = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


def unsafe(tree):
    """What of a module could run what it reads: line and name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [each.name for each in node.names]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from ((node.lineno, each) for each in names if each.split(".")[0] in MODULES)
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if (name in CALLS or name.split(".")[-1] in CALLS - {"eval", "exec"}) or (
                name == "yaml.load" or (name in SAFE and not has(node, *SAFE[name]))
            ):
                yield node.lineno, name


def has(call, option, value):
    found = [each.value for each in call.keywords if each.arg == option]
    return [each.value for each in found if isinstance(each, ast.Constant)] == [value]


@pytest.mark.parametrize("path", SOURCES, ids=lambda each: str(each.relative_to(ROOT)))
def test_a_module_holds_nothing_that_unpickles_or_runs_what_it_reads(path):
    assert list(unsafe(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from joblib import load", "import torch; torch.load(x)",
        "torch.load(x, weights_only=False)", "np.load(x)", "np.load(x, allow_pickle=True)",
        "pd.read_pickle(x)", "eval(x)", "yaml.load(x)", "mlflow.sklearn.load_model(x)",
    ],
)  # fmt: skip
def test_the_check_finds_what_it_is_to_find(code):
    assert list(unsafe(ast.parse(code)))


class Exploit:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def exploit(tmp_path):
    """A folder that unpickling would make, and the pickle that would."""
    path = tmp_path / "unpickled"
    return path, pickle.dumps(Exploit(path))


def test_the_exploit_works_where_one_unpickles(exploit):
    pickle.loads(exploit[1])  # noqa: S301 - our own
    assert exploit[0].is_dir()


@pytest.mark.parametrize("name", ["samples.parquet", "losses/000002.parquet", "scores.parquet"])
def test_a_pickle_in_the_place_of_a_file_is_refused_and_not_run(tmp_path, exploit, name):
    folder = tmp_path / "test-probe"
    write(folder, make_history(n_steps=3, n_samples=10))
    (folder / name).write_bytes(exploit[1])
    promise(folder, name)
    manifest, fetch = read(folder)
    with pytest.raises(CorruptRecordError):
        _ = read_scores(manifest, fetch), read_history(manifest, fetch)
    assert not exploit[0].exists()


def test_a_pickle_in_the_place_of_a_manifest_is_refused_and_not_run(tmp_path, exploit):
    (tmp_path / "manifest.json").write_bytes(exploit[1])
    with pytest.raises(CorruptRecordError):
        read_manifest(tmp_path / "manifest.json")
    assert not exploit[0].exists()


def test_a_checkpoint_of_somebody_else_is_refused_and_not_run(tmp_path, exploit):
    path = Path(tmp_path, "last.pt")
    torch.save({"model": Exploit(exploit[0])}, path)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(DataError, match="is damaged or belongs to another model"):
        Checkpoint(path).load(model, optimizer, torch.Generator())
    assert not exploit[0].exists()


def test_an_empty_checkpoint_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    path.touch()
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(DataError, match="is damaged or belongs to another model"):
        Checkpoint(path).load(model, optimizer, torch.Generator())
