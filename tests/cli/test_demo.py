"""A store to look around in."""

import re

import numpy as np
import pytest
from sklearn.datasets import load_digits

from actiontrack import demo
from actiontrack.analysis import load_records
from actiontrack.store import RunQuery, Store

pytestmark = pytest.mark.slow


@pytest.fixture
def short(monkeypatch):
    """A demo of one seed and three epochs."""
    monkeypatch.setattr(demo, "_EPOCHS", 3)
    monkeypatch.setattr(demo, "_SEEDS", 1)


@pytest.mark.usefixtures("short")
def test_a_demo_is_a_store_of_two_models_with_images_and_wrong_labels(run_cli, tmp_path):
    code, out, _ = run_cli("demo", "--folder", str(tmp_path / "new"), "--no-ui")
    assert code == 0
    uri = out.strip()
    assert uri == f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    store = Store(uri)
    records = [
        record
        for name in ("test-probe", "train-probe")
        for record in load_records(RunQuery(record=name), store=store)
    ]
    assert sorted((record.model, record.name) for record in records) == [
        *(("logistic", "test-probe"), ("logistic", "train-probe")),
        *(("mlp", "test-probe"), ("mlp", "train-probe")),
    ]
    truth = load_digits().target
    for record in records:
        assert record.has_thumbnails
        if record.name == "train-probe":
            wrong = record.samples.labels != truth[record.samples.sample_ids]
            assert np.array_equal(wrong, record.samples.labels != record.samples.true_labels)
            assert wrong.sum() == 52


@pytest.mark.usefixtures("short")
def test_a_demo_serves_its_pages(run_cli, tmp_path, monkeypatch):
    served = []
    for name in ("_serve_inside", "_serve_alone"):
        monkeypatch.setattr(f"actiontrack.cli.serving.{name}", lambda *given: served.append(given))
    code, out, _ = run_cli("demo", "--folder", str(tmp_path / "new"), "--port", "5099")
    assert code == 0
    [(address, options)] = served
    assert address.uri == out.strip()
    assert (options["host"], options["port"]) == ("127.0.0.1", 5099)


def test_a_folder_that_holds_something_is_refused(run_cli, tmp_path):
    (tmp_path / "file").touch()
    code, _, said = run_cli("demo", "--folder", str(tmp_path))
    assert code == 8
    assert re.fullmatch(r"error: .* is not empty\. Name another folder, or empty it\.\n", said)
