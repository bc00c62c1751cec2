"""The experiment of Fig. 6b, 6c and 7, on digits."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from actiontrack.store import RunQuery
from projects.experiments import ensemble
from projects.params import validate

SMALL = ["--subset", "200", "--test_subset", "100", "--epochs", "3", "--models", "2"]
SMALL += ["--parallel", "1", "--share", "0.05", "--images", "4"]


def test_models_trained_at_once_give_figures_tables_and_a_finding(
    experiment, tmp_path, monkeypatch, capsys, store
):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    ensemble.main([*SMALL, "--device", "cpu", "--stacked", "true"])
    printed = capsys.readouterr().out
    assert "== train cnn3 seed 0, train cnn3 seed 1, at once" in printed
    assert "Over an ensemble of 2 models, Spearman's ρ of action and entropy is " in printed
    (page,) = (tmp_path / "artifacts").glob("*/artifacts/ensemble")
    figures = {path.stem.partition("-")[2] for path in (page / "figures").glob("*.png")}
    assert figures == {
        "action-against-entropy",
        "accuracy-by-threshold",
        "high-action-low-entropy",
        "low-action-high-entropy",
    }
    (table,) = (page / "tables").glob("*every-sample.parquet")
    runs = store.find_runs(RunQuery(experiments=(experiment,)))
    actions = [store.open_record(run).scores()["action"] for run in runs]
    expected = np.sort(np.mean(actions, axis=0))[::-1]
    np.testing.assert_allclose(pd.read_parquet(table)["mean_action"], expected, rtol=1e-6)
    sources = json.loads((page / "report.json").read_text())["sources"]
    assert {source["run_id"] for source in sources} == {run.run_id for run in runs}
    assert len(sources) == 2


@pytest.mark.parametrize(
    ("stacked", "device", "expected"),
    [
        ("auto", "cpu", False),
        ("auto", "cuda", True),
        ("true", "cpu", True),
        ("false", "cuda", False),
    ],
)
def test_models_are_trained_at_once_on_cuda_or_on_request(monkeypatch, stacked, device, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cuda")
    params = validate(ensemble.EnsembleParams, {"stacked": stacked, "device": device})
    assert ensemble._is_stacked(params, ensemble._training(params, 0)) is expected


def test_the_models_differ_in_the_seed_only_and_keep_their_images_once():
    params = validate(ensemble.EnsembleParams, {"scale": "paper"})
    assert (params.model, params.models, params.epochs) == ("resnet_v2", 20, 85)
    first, second = (ensemble._training(params, seed) for seed in range(2))
    assert first.model_copy(update={"seed": 1, "thumbnails": "never"}) == second
    assert first.thumbnails == "auto"
