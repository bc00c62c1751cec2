"""The experiment of section 4.6, on digits."""

import numpy as np
import pandas as pd
import pytest

from projects.experiments import model_bias
from projects.experiments.model_bias import PAPER_TABLE1, paper_values

SMALL = ["--subset", "200", "--test_subset", "60", "--epochs", "2", "--bootstrap", "20"]


@pytest.fixture
def page(store, experiment, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    model_bias.main(SMALL)
    client = store._client
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(runs) == 5
    return store.local_root(store.get_run(parent.info.run_id)) / "model_bias"


def test_two_models_with_two_seeds_each_give_tables_figures_and_a_page(page):
    lines = (page / "report.md").read_text().splitlines()
    headings = [line.lstrip("# ") for line in lines if line.startswith(("## ", "### "))]
    assert headings[0] == "Finding"
    assert "Hard for cnn3, easy for vgg5" in headings
    assert "Correlation between models without the noise of training" in headings
    names = {path.stem.partition("-")[2] for path in (page / "tables").glob("*.parquet")}
    assert {"every-pair-of-models", "hardest-samples-in-common", "steps"} <= names
    assert len(list((page / "figures").glob("*.png"))) == len(
        list((page / "figures").glob("*.svg"))
    )
    assert "4 runs are compared by the action of 60 samples" in (page / "report.md").read_text()


def test_the_paper_s_table_has_a_value_for_every_pair_and_class():
    frame = paper_values()
    assert len(frame) == 6 * 11
    assert frame["paper"].between(0.5, 0.9).all()


def test_in_the_paper_too_every_same_model_value_lies_above_those_of_its_models_with_others():
    frame = paper_values()
    same = frame.loc[frame["model_a"] == frame["model_b"]]
    cross = frame.loc[frame["model_a"] != frame["model_b"]]
    worst = same.groupby("class")["paper"].min() - cross.groupby("class")["paper"].max()
    assert (worst > -0.02).all()


def test_the_paper_s_values_stand_beside_ours_for_cifar_10_s_classes():
    from types import SimpleNamespace

    animals = ("bird", "cat", "deer", "dog", "frog", "horse")
    names = ("airplane", "automobile", *animals, "ship", "truck")
    record = SimpleNamespace(manifest=SimpleNamespace(class_names=names))
    groups = pd.DataFrame(
        {
            "method": ["spearman", "pearson"] * 2,
            "model_a": "cnn_keras",
            "model_b": "resnet_v2",
            "class": ["overall", "overall", "frog", "frog"],
            "mean": [0.6, 0.5, 0.7, 0.8],
        }
    )
    (section,) = model_bias._beside_paper([record], SimpleNamespace(groups=groups, score="action"))
    frame = section.frame.set_index("class")
    assert frame.loc["overall", ["spearman", "pearson", "paper"]].tolist() == [0.6, 0.5, 0.645]
    assert frame.loc["frog", ["spearman", "pearson", "paper"]].tolist() == [0.7, 0.8, 0.730]


def test_the_paper_s_values_are_not_shown_for_other_classes():
    from types import SimpleNamespace

    record = SimpleNamespace(manifest=SimpleNamespace(class_names=("a", "b")))
    assert model_bias._beside_paper([record], SimpleNamespace(score="action")) == []


def test_the_overall_values_of_the_paper_are_those_printed():
    overall = [values[0] for values in PAPER_TABLE1.values()]
    np.testing.assert_array_equal(overall, [0.645, 0.607, 0.711, 0.870, 0.830, 0.796])
