"""The tutorial notebook runs as it stands, and holds outputs of a moderate size."""

import re

import nbformat
import pytest
from helpers import ROOT
from nbclient import NotebookClient
from sklearn.datasets import load_digits

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
MAX_BYTES = 300_000


@pytest.fixture(scope="module")
def executed(tmp_path_factory, warm_python):
    """The notebook after a run in a folder of its own, by a kernel that starts at once."""
    folder = tmp_path_factory.mktemp("tutorial")
    warm_python.install(folder)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.create_kernel_manager().kernel_spec.argv[0] = str(folder / "python")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACTIONTRACK_SPOOL", str(folder / "spool"))
        patch.setenv("OMP_NUM_THREADS", "1")
        client.execute()
    return notebook


def kinds(notebook):
    """Of each code cell the kinds of its outputs, log lines left out."""
    return [
        {
            kind
            for output in cell["outputs"]
            if output.get("name") != "stderr"
            for kind in (output.get("data") or {output["name"]: ""})
        }
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def test_the_notebook_runs_and_shows_what_it_is_kept_with(executed):
    assert kinds(executed) == kinds(nbformat.read(NOTEBOOK, as_version=4))


def test_it_finds_that_seeds_of_a_network_agree_better_than_networks(executed):
    said = [
        output["text"]
        for cell in executed["cells"]
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    ]
    n_test = len(load_digits().target) - 1200
    (finding,) = (each for each in said if each.startswith("4 runs are compared"))
    assert f"4 runs are compared by the action of {n_test} samples" in finding
    found = re.search(
        r"same model is ([\d.]+) to ([\d.]+), between different .* (0\.\d+):", finding
    )
    low, high, cross = map(float, found.groups())
    assert (low + high) / 2 > cross  # two networks: the lowest and the highest are all there are


def test_it_is_kept_with_outputs_of_moderate_size_and_without_machine_names():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) <= MAX_BYTES
    assert "image/png" in text
    assert "mlruns" not in text  # a path of the machine that ran it
    assert "stderr" not in text
