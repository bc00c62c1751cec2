"""Each recipe records what its framework reports itself, and changes nothing of the training."""

import shutil

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from helpers import ROOT, steps_of
from recipe import FOLDER, HARNESS, RECIPES, answer_of

from actiontrack.errors import RecordingError
from actiontrack.recorder.criterion import PerSampleLoss
from actiontrack.store import Store

EPOCHS = 2
#: Recipes with tests of their own.
OTHERS = {"ray_train"}


@pytest.fixture
def run_twice(in_warm_process, tmp_path, empty_database):
    """A function that runs a recipe, recorded and not, and returns its record and the answer."""

    def run(recipe):
        shutil.copy(empty_database, tmp_path / "mlflow.db")
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
        plain = tmp_path / "plain.py"
        plain.write_text(recipe.without_record(), encoding="utf-8")
        words = [recipe.path, plain, str(EPOCHS), recipe.weights, recipe.means]
        done = in_warm_process(HARNESS, *words, *recipe.ignored, MLFLOW_TRACKING_URI=uri)
        answer = answer_of(done.stdout)
        assert "sample_id" in done.stdout  # the table of the hardest
        return Store(uri).open_record(answer["run_id"], recipe.record), answer

    return run


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_records_the_mean_of_its_framework_and_changes_nothing(recipe, run_twice):
    record, answer = run_twice(recipe)
    history = record.history()
    assert history.n_steps == len(answer["means"]) == EPOCHS
    assert record.manifest.complete
    assert np.isfinite(history.losses).all()
    assert history.n_samples == recipe.n_samples
    np.testing.assert_allclose(history.losses.mean(axis=1), answer["means"], rtol=1e-5)
    assert answer["same_weights"]
    assert answer["same_states"]


@pytest.mark.parametrize("kind", ["DiceLoss", "JaccardLoss", "TverskyLoss", "LovaszLoss"])
def test_a_loss_of_a_whole_batch_is_refused(kind):
    per_sample = PerSampleLoss(getattr(smp.losses, kind)("binary"))
    logits, truth = torch.randn(3, 1, 8, 8), torch.ones(3, 1, 8, 8)
    with pytest.raises(RecordingError, match=rf"^criterion: {kind} gives losses of shape \(\) for"):
        per_sample(logits, truth)


def test_every_recipe_is_on_the_page():
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    scripts = {path.stem for path in FOLDER.glob("*.py")}
    assert scripts == {recipe.name for recipe in RECIPES} | OTHERS
    for name in scripts:
        assert f'```python title="examples/recipes/{name}.py"\n```' in page


def test_accelerate_in_two_processes_drops_what_the_sampler_repeats(
    in_two_processes, tmp_path, empty_database, monkeypatch
):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    code = (FOLDER / "accelerate_loop.py").read_text(encoding="utf-8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    in_two_processes(code, str(EPOCHS), preload=["accelerate"])
    (run,) = Store(uri)._client.search_runs(["0"])
    record = Store(uri).open_record(run.info.run_id)
    assert [step.n_seen for step in steps_of(record)] == [1797, 1797]
    logged = Store(uri)._client.get_metric_history(run.info.run_id, "train_loss")
    means = record.history().losses.mean(axis=1)
    np.testing.assert_allclose(means, [entry.value for entry in logged], rtol=1e-5)
