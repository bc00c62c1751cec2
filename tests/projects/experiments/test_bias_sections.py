"""The page of the model bias experiment over several datasets."""

from types import SimpleNamespace

import pandas as pd
import pytest

from actiontrack.reporting.document import Section
from actiontrack.store import RunInfo
from projects.experiments import model_bias
from projects.experiments.model_bias import PAPER_TABLE1, ModelBiasParams, paper_values
from projects.params import parse


def record(dataset, classes=()):
    run = RunInfo(
        run_id="1",
        name="run",
        experiment="experiment",
        status="FINISHED",
        records=("test-probe",),
        model="cnn3",
        params={"dataset": dataset},
    )
    return SimpleNamespace(run=run, manifest=SimpleNamespace(class_names=classes))


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [("digits", "digits"), ("folder:/a/b/cats", "cats"), ("'folder:x/y z'", "y z")],
)
def test_a_dataset_is_titled_by_its_name_or_by_the_last_folder_of_its_path(dataset, expected):
    assert model_bias._title([record(dataset)]) == expected


def test_sections_of_several_datasets_say_whose_they_are():
    section = model_bias._under("digits", Section(heading="Table", text="t"))
    assert (section.heading, section.text) == ("digits: Table", "t")


class Experiment:
    """In place of an experiment: the trainings that were asked for."""

    store = None

    def __init__(self):
        self.trainings = []

    def train(self, trainings):
        self.trainings += trainings
        return [SimpleNamespace(run_id=str(row)) for row, _ in enumerate(trainings)]


@pytest.fixture
def queries(monkeypatch):
    """Queries by which records were loaded."""
    log = []
    monkeypatch.setattr(model_bias, "load_records", lambda query, **_: log.append(query) or [])
    return log


def test_every_model_is_trained_with_every_seed_and_its_test_split_read(queries):
    params = parse(ModelBiasParams, ["--models", "cnn3,vgg5", "--seeds", "3"])
    current = Experiment()
    model_bias._train(current, params, "mnist")
    trained = [(training.model, training.seed) for training in current.trainings]
    assert trained == [(model, seed) for model in ("cnn3", "vgg5") for seed in (0, 1, 2)]
    assert {training.dataset for training in current.trainings} == {"mnist"}
    assert {training.record for training in current.trainings} == {("test",)}
    (query,) = queries
    assert query.record == "test-probe"
    assert query.run_ids == tuple("012345")


@pytest.mark.parametrize(
    ("scale", "n_datasets", "n_models", "epochs"),
    [("smoke", 1, 2, 6), ("cpu", 1, 2, 12), ("paper", 3, 3, 85)],
)
def test_a_scale_has_its_datasets_models_and_epochs(scale, n_datasets, n_models, epochs):
    params = parse(ModelBiasParams, ["--scale", scale])
    assert (len(params.datasets), len(params.models), params.epochs) == (
        n_datasets,
        n_models,
        epochs,
    )
    assert params.seeds == 2


def test_the_paper_s_values_are_a_row_for_each_pair_and_class():
    frame = paper_values().set_index(["model_a", "model_b", "class"])["paper"]
    for pair, values in PAPER_TABLE1.items():
        assert frame[(*pair, "overall")] == values[0]
        assert frame[(*pair, "truck")] == values[-1]
        assert frame[(*pair, "cat")] == values[4]


@pytest.mark.parametrize("score", ["aum", "final_loss"])
def test_the_paper_s_values_stand_beside_the_action_only(score):
    classes = tuple(paper_values()["class"].unique()[1:])
    comparison = SimpleNamespace(score=score, groups=pd.DataFrame())
    assert model_bias._beside_paper([record("cifar10", classes)], comparison) == []


def test_models_that_the_paper_does_not_have_stand_alone():
    classes = tuple(paper_values()["class"].unique()[1:])
    groups = pd.DataFrame(
        {
            "method": ["spearman"],
            "model_a": ["cnn3"],
            "model_b": ["vgg5"],
            "class": ["overall"],
            "mean": [0.5],
        }
    )
    comparison = SimpleNamespace(score="action", groups=groups)
    assert model_bias._beside_paper([record("cifar10", classes)], comparison) == []
