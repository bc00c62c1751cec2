"""Models trained at once against the same models trained one after the other, on digits."""

from dataclasses import replace

import mlflow
import numpy as np
import pytest
import torch
from helpers import message, steps_of
from torch import nn

from actiontrack.errors import ParameterError
from projects import stacked
from projects import train as training
from projects.datasets import load_dataset
from projects.loop import make_optimizer
from projects.models import build_model
from projects.params import TrainParams, to_strings, validate
from projects.stacked import StackedModels, train_stacked
from projects.tasks import classification

SMALL = {"model": "cnn3", "epochs": 2, "subset": 80, "test_subset": 40, "batch_size": 32}
SMALL |= {"device": "cpu", "threads": 1, "thumbnails": "never", "report": False}
SEEDS = (3, 4)


def trainings(**values):
    return [validate(TrainParams, SMALL | values | {"seed": seed}) for seed in SEEDS]


@pytest.fixture
def in_experiment(experiment):
    """Runs go to the test's experiment."""
    mlflow.set_experiment(experiment)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"augment": "flip_crop", "schedule": "cosine", "warmup_epochs": 1}, 1e-4),
        # In float32, batch norm amplifies the rounding of gradients that are zero in theory.
        ({"model": "resnet_v2", "optimizer": "sgd", "learning_rate": 0.01}, 1e-2),
        ({"record": "train", "mode": "both", "record_initial": True}, 1e-4),
        ({"model": "speednet", "width": 4, "batch_size": 20, "learning_rate": 0.05}, 1e-2),
    ],
)
def test_losses_are_those_of_one_training_after_the_other(
    in_experiment, store, train_once, options, tolerance
):
    chosen = trainings(**options)
    at_once = train_stacked(chosen, store)
    for run, params in zip(at_once, chosen, strict=True):
        alone = train_once(params).run
        for record in run.records:
            ours, theirs = (store.open_record(run_of.run_id, record) for run_of in (run, alone))
            assert ours.manifest.digests == theirs.manifest.digests
            assert steps_of(ours) == steps_of(theirs)
            np.testing.assert_allclose(
                ours.history().losses, theirs.history().losses, rtol=tolerance, atol=tolerance
            )


def test_soft_labels_are_trained_on_and_recorded_as_one_after_the_other(
    in_experiment, store, monkeypatch
):
    def load_soft(params):
        splits = load_dataset(params)
        hot = [nn.functional.one_hot(split.labels, split.n_classes) for split in splits]
        return tuple(
            replace(split, soft_labels=0.75 * shares + 0.25 / split.n_classes)
            for split, shares in zip(splits, hot, strict=True)
        )

    for module in (classification, stacked):
        monkeypatch.setattr(module, "load_dataset", load_soft)
    chosen = trainings(mode="both", record="train")
    for run, params in zip(train_stacked(chosen, store), chosen, strict=True):
        alone, _ = training.train(params, store)
        for record in run.records:
            ours, theirs = (store.open_record(run_of.run_id, record) for run_of in (run, alone))
            assert ours.manifest.loss_name == "soft_cross_entropy"
            np.testing.assert_allclose(
                ours.history().losses, theirs.history().losses, rtol=1e-3, atol=1e-3
            )


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("cnn3", "adam"),
        ("cnn3", "adamw"),
        ("resnet_v2", "adam"),
        ("resnet_v2", "sgd"),
        ("xception_mini", "sgd"),
        ("speednet", "sgd"),
    ],
)
def test_updates_in_double_precision_are_those_of_each_model_alone(name, optimizer):
    settings = {"optimizer": optimizer, "weight_decay": 0.01, "bias_factor": 2}
    params = validate(TrainParams, settings)
    models = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        models.append(build_model(name, in_channels=1, image_size=8, n_classes=5).double())
    at_once = StackedModels(models).train()
    images, labels = torch.randn(2, 3, 16, 1, 8, 8).double(), torch.randint(5, (2, 3, 16))
    ours = make_optimizer(at_once, params)
    for step in range(3):
        logits = at_once(images[:, step])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, step].flatten())
        ours.zero_grad()
        (loss * len(SEEDS)).backward()
        ours.step()
    seen = at_once.eval()(images[0, 0])
    for row, model in enumerate(models):
        optimizer_of_one = make_optimizer(model.train(), params)
        for step in range(3):
            optimizer_of_one.zero_grad()
            nn.functional.cross_entropy(model(images[row, step]), labels[row, step]).backward()
            optimizer_of_one.step()
        expected = model.eval()(images[0, 0])
        torch.testing.assert_close(seen[row], expected, rtol=1e-6, atol=1e-6)
        model.load_state_dict(at_once.unstacked()[row])
        torch.testing.assert_close(model(images[0, 0]), expected, rtol=1e-6, atol=1e-6)


def test_dropout_draws_another_mask_for_each_model():
    torch.manual_seed(0)
    model = build_model("cnn_keras", in_channels=1, image_size=8, n_classes=5)
    twins, images = StackedModels([model, model]), torch.randn(4, 1, 8, 8)
    first, second = twins.train()(images)
    assert not torch.allclose(first, second)
    first, second = twins.eval()(images)
    assert torch.equal(first, second)


def test_each_model_has_a_run_of_its_own_below_the_active_one(in_experiment, store):
    chosen = trainings(epochs=1, save_probabilities=True)
    with store.run(name="parent") as parent:
        runs = train_stacked(chosen, store, tags=[{"place": "first"}, {"place": "second"}])
    assert [run.status for run in runs] == ["FINISHED", "FINISHED"]
    assert [run.tags["mlflow.parentRunId"] for run in runs] == [parent.run_id] * 2
    assert [run.tags["place"] for run in runs] == ["first", "second"]
    for run, params in zip(runs, chosen, strict=True):
        expected = to_strings(params)
        assert {name: run.params[name] for name in ("seed", "model", "epochs")} == {
            name: expected[name] for name in ("seed", "model", "epochs")
        }
        record = store.open_record(run)
        np.testing.assert_array_equal(
            record.probabilities().argmax(axis=1), record.history().measures["predicted"][-1]
        )


def test_all_runs_are_marked_failed_if_training_fails(
    in_experiment, store, monkeypatch, experiment
):
    def fail(*_, **__):
        raise RuntimeError("the power went")

    monkeypatch.setattr(stacked, "evaluate", fail)
    with pytest.raises(RuntimeError, match="the power went"):
        train_stacked(trainings(), store)
    runs = store._client.search_runs(
        [store._client.get_experiment_by_name(experiment).experiment_id]
    )
    assert [each.info.status for each in runs] == ["FAILED", "FAILED"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"checkpoint": "last.pt"}, "checkpoint: must be empty{when}, got 'last.pt'."),
        ({"run_id": "abc"}, "run_id: must be empty{when}, got 'abc'."),
        ({"delta_n": "wall_time"}, "delta_n: must be epoch or batch{when}, got 'wall_time'."),
        (
            {"label_noise": 0.1},
            "trainings: must agree in all but the seed to be trained at once, got 'noise_seed'.",
        ),
    ],
)
def test_what_belongs_to_a_training_of_its_own_is_refused(store, options, problem):
    text = problem.format(when=" to train several models at once")
    remedy = " Train them one after the other with projects.train."
    with pytest.raises(ParameterError, match=message(text + remedy)):
        train_stacked(trainings(**options), store)
