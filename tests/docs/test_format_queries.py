"""What the page of the format computes without this package is what the package computes."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from helpers import ROOT
from record_files import write
from sybil.document import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from actiontrack.testing import make_history

UNSEEN = 7


@pytest.fixture(scope="module")
def history():
    """Five steps of unequal weights; one sample was not seen in one of them."""
    history = make_history(n_steps=5, n_samples=30, n_classes=3)
    seen, losses = np.ones(history.losses.shape, dtype=bool), history.losses.copy()
    seen[2, UNSEEN], losses[2, UNSEEN] = False, np.nan
    deltas = np.array([1, 0.5, 2, 1, 4.0])
    return replace(history, losses=losses, seen=seen, deltas=deltas)


@pytest.fixture(scope="module")
def printed(history, tmp_path_factory):
    """The names that the page's code leaves behind, on a record of three files of losses."""
    folder = tmp_path_factory.mktemp("artifacts")
    write(folder / "actiontrack" / "test-probe", history)
    run = PythonEvaluator()
    parser = CodeBlockParser("python", lambda _: None)
    examples = list(Document.parse(str(ROOT / "docs" / "format.md"), parser).examples())
    with contextlib.chdir(folder):
        for example in examples:
            if "maps/" not in example.parsed:
                run(example)
        return {
            name: value.df() if name in {"action", "weighted", "curve"} else value
            for name, value in examples[0].namespace.items()
        }


def hardest(sums):
    """The five largest sums and their samples."""
    rows = np.argsort(-np.where(np.isnan(sums), -np.inf, sums))[:5]
    return rows.tolist(), sums[rows]


def test_every_file_of_losses_is_read(printed, history):
    assert len(printed["paths"]) == 3
    assert len(printed["losses"]) == history.losses.size


@pytest.mark.parametrize(("name", "weigh"), [("action", False), ("weighted", True)])
def test_sums_of_losses_are_the_action_of_samples_that_missed_no_step(
    printed, history, name, weigh
):
    weights = history.deltas if weigh else np.ones(history.n_steps)
    samples, sums = hardest(weights @ history.losses.astype(float))
    assert printed[name]["sample"].tolist() == samples
    np.testing.assert_allclose(printed[name]["action"], sums, rtol=1e-12)


def test_the_footers_tell_every_step(printed, history):
    steps = printed["steps"]
    assert steps["step"].tolist() == history.steps.tolist()
    assert steps["delta"].tolist() == history.deltas.tolist()
    assert steps["n_seen"].tolist() == history.seen.sum(axis=1).tolist()


def test_the_curve_of_a_sample_is_that_of_its_steps(printed, history):
    assert printed["curve"]["step"].tolist() == history.steps.tolist()
    np.testing.assert_array_equal(printed["curve"]["loss"], history.losses[:, 5])
