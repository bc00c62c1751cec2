"""Trainings of several processes under autologging: all of them record, or none."""

import pickle

import pytest
from autologging import warnings_of

from actiontrack.errors import RecordingError
from actiontrack.recorder.autolog.training import Settings, Training

DISTRIBUTED = """
import logging
import sys
import warnings
warnings.simplefilter("ignore")  # those of Lightning, see pyproject.toml
import lightning.pytorch as pl
import mlflow
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset
import actiontrack

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
    def forward(self, inputs):
        return self.layer(inputs)
    def training_step(self, batch, _):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
    validation_step = training_step
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)

uri, experiment = sys.argv[1:]
mlflow.set_tracking_uri(uri)
if uri.startswith("sqlite"):
    mlflow.set_experiment(experiment)
inputs, labels = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(inputs[:30] / 16).float(), torch.tensor(labels[:30]))
actiontrack.autolog("lightning")
trainer = pl.Trainer(
    max_epochs=2, accelerator="cpu", devices=2, logger=False, strategy="ddp",
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)
trainer.fit(Net(), DataLoader(data, 10, shuffle=True), DataLoader(data, 10))
print(trainer.current_epoch)
"""


def test_two_processes_make_one_record(
    in_two_processes, mlflow_client, store, tracking_uri, new_experiment
):
    name, experiment_id = new_experiment
    outputs = in_two_processes(DISTRIBUTED, tracking_uri, name, preload=["lightning.pytorch"])
    assert [text.split()[-1] for text in outputs] == ["2", "2"]
    (run,) = mlflow_client.search_runs([experiment_id])
    record = store.open_record(run.info.run_id)
    assert (run.info.status, record.manifest.complete) == ("FINISHED", True)
    assert record.history().losses.shape == (2, 30)


def test_where_the_writer_can_not_record_nobody_waits_for_it(in_two_processes):
    address = "http://127.0.0.1:9"
    outputs = in_two_processes(DISTRIBUTED, address, "none", preload=["lightning.pytorch"])
    assert [text.split()[-1] for text in outputs] == ["2", "2"]


def test_a_process_that_is_started_by_the_training_starts_no_run(caplog):
    training = pickle.loads(pickle.dumps(Training("keras", Settings({}), print)))  # noqa: S301
    with pytest.raises(RecordingError, match="no active MLflow run in the processes"):
        training.open_run()
    training.tell("not recorded: %s", "why")
    assert warnings_of(caplog) == ["not recorded: why"]
