import logging

import lightning.pytorch as pl
import mlflow
import numpy as np
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.loggers import MLFlowLogger
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
)

import actiontrack
from actiontrack.recorder.lightning import ActionTrackCallback
from actiontrack.recorder.torch import IndexedDataset

# Advice about the settings of a trainer: workers, logging intervals, loaders that are missing.
pytestmark = pytest.mark.filterwarnings(
    "ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"
)


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, inputs):
        return self.layer(inputs)

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self(batch[-2]), batch[-1])

    def validation_step(self, batch, _, dataloader_idx=0):  # noqa: ARG002
        self(batch[-2])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture(scope="module")
def data():
    inputs, labels = load_digits(return_X_y=True)
    tensors = torch.tensor(inputs[:60] / 16).float(), torch.tensor(labels[:60])
    return [TensorDataset(*(each[rows] for each in tensors)) for rows in (slice(40), slice(40, 60))]


@pytest.fixture
def loaders(data):
    return DataLoader(data[0], 16, shuffle=True), DataLoader(data[1], 8)


@pytest.fixture
def autolog():
    """`actiontrack.autolog`, undone at the end."""
    original = pl.Trainer.fit
    yield actiontrack.autolog
    actiontrack.autolog(disable=True)
    pl.Trainer.fit = original


def trainer(**options):
    settings = {"max_epochs": 2, "logger": False, "accelerator": "cpu"}
    quiet = ("enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    return pl.Trainer(**dict.fromkeys(quiet, False) | settings | options)


def runs(store, experiment):
    found = mlflow.search_runs(experiment_names=[experiment])
    return [store.get_run(each) for each in found["run_id"]] if len(found) else []


def test_one_line_records_the_validation_data_in_a_run_of_its_own(
    autolog, loaders, data, store, active_experiment, cross_entropy, history
):
    autolog()
    module = Net()
    trainer().fit(module, *loaders)
    (run,) = runs(store, active_experiment)
    assert run.status == "FINISHED"
    assert run.records == ("validation-probe",)
    found = history(run.run_id, "validation-probe")
    with torch.no_grad():
        expected = cross_entropy(module(data[1].tensors[0]), data[1].tensors[1])
    assert found.n_steps == 2
    np.testing.assert_allclose(found.losses[-1], expected, rtol=1e-4)
    assert mlflow.active_run() is None


def test_without_validation_data_the_training_data_are_recorded(
    autolog, loaders, history, run_id, store
):
    autolog()
    with mlflow.start_run(run_id=run_id):
        trainer().fit(Net(), loaders[0])
    assert store.get_run(run_id).records == ("train-probe",)
    assert history(run_id, "train-probe").sample_ids.tolist() == list(range(40))


def test_the_active_run_is_reused_and_stays_active(
    autolog, loaders, store, run_id, active_experiment
):
    autolog()
    with mlflow.start_run(run_id=run_id):
        trainer().fit(Net(), *loaders)
        assert mlflow.active_run().info.run_id == run_id
    assert [each.run_id for each in runs(store, active_experiment)] == [run_id]


def test_the_run_of_the_logger_is_reused(autolog, loaders, store, experiment, tracking_uri):
    autolog()
    logger = MLFlowLogger(experiment, tracking_uri=tracking_uri)
    trainer(logger=logger).fit(Net(), *loaders)
    (run,) = runs(store, experiment)
    assert (run.run_id, run.records) == (logger.run_id, ("validation-probe",))


def test_calling_it_again_changes_the_options_and_records_once(autolog, loaders, store, run_id):
    autolog()
    patched = pl.Trainer.fit
    autolog(split="mine")
    assert pl.Trainer.fit is patched
    with mlflow.start_run(run_id=run_id):
        trainer().fit(Net(), *loaders)
    assert store.get_run(run_id).records == ("mine-probe",)


def test_disabling_restores_the_trainers(loaders, store, run_id):
    originals = pl.Trainer.fit, pytorch_lightning.Trainer.fit
    actiontrack.autolog()
    assert pl.Trainer.fit is not originals[0]
    assert pytorch_lightning.Trainer.fit is not originals[1]
    actiontrack.autolog(disable=True)
    assert (pl.Trainer.fit, pytorch_lightning.Trainer.fit) == originals
    actiontrack.autolog(disable=True)
    with mlflow.start_run(run_id=run_id):
        trainer().fit(Net(), *loaders)
    assert store.get_run(run_id).records == ()


def test_a_patch_on_top_of_ours_survives(autolog, loaders, store, run_id, monkeypatch):
    import functools

    autolog()
    ours, calls = pl.Trainer.fit, []

    @functools.wraps(ours)
    def theirs(self, *args, **kwargs):
        calls.append("theirs")
        return ours(self, *args, **kwargs)

    pl.Trainer.fit = theirs
    autolog()
    assert pl.Trainer.fit is theirs
    autolog(disable=True)
    assert pl.Trainer.fit is theirs
    with mlflow.start_run(run_id=run_id):
        trainer().fit(Net(), *loaders)
    assert calls == ["theirs"]
    assert store.get_run(run_id).records == ()


def test_the_trainer_is_left_as_it_was(autolog, loaders, run_id):
    autolog()
    fitted = trainer()
    before = list(fitted.callbacks)
    with mlflow.start_run(run_id=run_id):
        fitted.fit(Net(), *loaders)
    assert fitted.callbacks == before


def test_a_trainer_with_a_callback_of_ours_is_left_alone(autolog, loaders, data, store, run_id):
    autolog()
    with mlflow.start_run(run_id=run_id):
        trainer(callbacks=[ActionTrackCallback(data[1])]).fit(Net(), *loaders)
    assert store.get_run(run_id).records == ("test-probe",)


def test_other_data_may_be_named(autolog, loaders, data, history, run_id):
    autolog(data=data[0])
    with mlflow.start_run(run_id=run_id):
        trainer().fit(Net(), *loaders)
    assert len(history(run_id, "test-probe").sample_ids) == 40


def test_ids_of_an_indexed_dataset_are_kept(autolog, data, history, run_id):
    autolog()
    val = DataLoader(IndexedDataset(data[1], range(100, 120)), 8)
    with mlflow.start_run(run_id=run_id):
        trainer().fit(Net(), DataLoader(data[0], 16), val)
    found = history(run_id, "validation-probe")
    assert found.sample_ids.tolist() == list(range(100, 120))


def test_of_several_validation_loaders_each_has_a_record(autolog, data, store, history, run_id):
    autolog()
    module, val = Net(), [DataLoader(data[1], 8), DataLoader(data[0], 8)]
    with mlflow.start_run(run_id=run_id):
        trainer().fit(module, DataLoader(data[0], 16), val)
    assert store.get_run(run_id).records == ("validation-probe", "validation_2-probe")
    sizes = [len(history(run_id, f"validation{n}-probe").sample_ids) for n in ("", "_2")]
    assert sizes == [20, 40]


def test_the_samples_of_a_sampler_are_those_that_are_recorded(autolog, data, history, run_id):
    autolog()
    whole = ConcatDataset(data)
    train, val = (
        DataLoader(whole, 8, sampler=SubsetRandomSampler(rows))
        for rows in (range(40), range(40, 60))
    )
    with mlflow.start_run(run_id=run_id):
        trainer().fit(Net(), train, val)
    assert history(run_id, "validation-probe").sample_ids.tolist() == list(range(40, 60))


def test_a_loss_that_differs_is_told(autolog, loaders, store, run_id, caplog):
    class Smoothed(Net):
        def validation_step(self, batch, _):
            return nn.functional.cross_entropy(self(batch[0]), batch[1], label_smoothing=0.1)

    autolog()
    with mlflow.start_run(run_id=run_id), caplog.at_level(logging.WARNING, "actiontrack"):
        trainer().fit(Smoothed(), *loaders)
    mark = store.get_run(run_id).tags["actiontrack.validation-probe.loss_check"]
    assert mark.startswith("differs at step 1: ")
    (text,) = [each.getMessage() for each in caplog.records if each.name == "actiontrack"]
    assert text.startswith("record validation-probe, step 1: the mean of the recorded losses is ")


# ---------------------------------------------------------------- never into the training


class Stream(IterableDataset):
    def __iter__(self):
        inputs, labels = load_digits(return_X_y=True)
        yield from TensorDataset(torch.tensor(inputs[:20]).float(), torch.tensor(labels[:20]))


def test_data_without_ids_are_a_warning(autolog, run_id, caplog):
    autolog()
    with mlflow.start_run(run_id=run_id), caplog.at_level(logging.WARNING, "actiontrack"):
        fitted = trainer()
        fitted.fit(Net(), DataLoader(Stream(), 8))
    assert fitted.current_epoch == 2
    text = (
        "this training is not recorded: data: must be a map-style dataset or a "
        "DataLoader of one, got 'Stream'. An iterable has no stable ids: record batches that "
        "carry them instead."
    )
    assert [each.getMessage() for each in caplog.records if each.name == "actiontrack"] == [text]


def test_a_failing_evaluation_is_one_warning(autolog, loaders, store, run_id, caplog):
    def broken(batch, outputs):
        raise ZeroDivisionError("broken")

    autolog(extract=broken)
    with mlflow.start_run(run_id=run_id):
        fitted = trainer()
        fitted.fit(Net(), *loaders)
    assert fitted.current_epoch == 2
    text = (
        "this training is not recorded: data: the model can't be evaluated on the "
        "first batch, and training has not begun. ZeroDivisionError: broken"
    )
    assert [each.getMessage() for each in caplog.records if each.name == "actiontrack"] == [text]


def test_an_unknown_option_is_a_warning(autolog, loaders, run_id, caplog):
    autolog(mode="inline")
    with mlflow.start_run(run_id=run_id):
        trainer().fit(Net(), *loaders)
    autolog(nonsense=1)
    with mlflow.start_run(run_id=run_id):
        trainer().fit(Net(), *loaders)
    assert len([each for each in caplog.records if each.name == "actiontrack"]) == 2


def test_a_server_that_is_away_is_a_warning(autolog, loaders, caplog):
    autolog()
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    fitted = trainer()
    fitted.fit(Net(), *loaders)
    assert fitted.current_epoch == 2
    (text,) = [each.getMessage() for each in caplog.records if each.name == "actiontrack"]
    assert text.startswith("this training is not recorded: the tracking server http://127.0.0.1:9")


def test_an_error_of_the_training_itself_is_the_users(
    autolog, loaders, store, active_experiment, history
):
    class Failing(Net):
        def on_train_epoch_start(self):
            if self.current_epoch == 1:
                raise ZeroDivisionError

    autolog()
    with pytest.raises(ZeroDivisionError):
        trainer().fit(Failing(), *loaders)
    (run,) = runs(store, active_experiment)
    assert run.status == "FAILED"
    assert history(run.run_id, "validation-probe").n_steps == 1


@pytest.mark.parametrize("first", ["ours", "mlflow"])
def test_mlflow_logs_the_same_run(loaders, store, active_experiment, first):
    function, options = pl.Trainer.fit, {"log_models": False, "log_datasets": False}
    try:
        if first == "mlflow":
            mlflow.pytorch.autolog(**options)
        actiontrack.autolog()
        if first == "ours":
            mlflow.pytorch.autolog(**options)
        trainer().fit(Net(), *loaders)
    finally:
        mlflow.pytorch.autolog(disable=True)
        actiontrack.autolog(disable=True)
    (run,) = runs(store, active_experiment)
    assert run.records == ("validation-probe",)
    assert run.tags["mlflow.autologging"] == "pytorch"
    assert pl.Trainer.fit is function


def test_the_ids_are_said_to_be_positions_where_they_are(autolog, data, store, run_id):
    autolog()
    with mlflow.start_run(run_id=run_id):
        named = DataLoader(IndexedDataset(data[1], range(100, 120)), 8)
        trainer().fit(Net(), DataLoader(data[0], 16), [named, DataLoader(data[1], 8)])
    tags = store.get_run(run_id).tags
    assert "actiontrack.validation-probe.ids" not in tags
    assert tags["actiontrack.validation_2-probe.ids"] == "positions in validation loader 2"
    assert tags["actiontrack.validation-probe.autolog"] == "lightning: the validation loader"
