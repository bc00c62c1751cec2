# ruff: noqa: ARG002 - the libraries' own signatures
import copy
import io

import lightning.pytorch as pl
import mlflow
import numpy as np
import pytest
import torch
from helpers import message
from lightning.pytorch.loggers import MLFlowLogger
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.lightning import ActionTrackCallback
from actiontrack.recorder.torch import IndexedDataset

# Advice about the settings of a trainer: workers, logging intervals, loaders that are missing.
pytestmark = pytest.mark.filterwarnings(
    "ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"
)
N_TEST = 50
LOSS_CHECK_TAG = "actiontrack.test-probe.loss_check"


class Net(pl.LightningModule):
    """A user's module, that knows nothing of actiontrack."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(64), nn.Dropout(0.3), nn.Linear(64, 10))

    def forward(self, inputs):
        return self.layers(inputs)

    def training_step(self, batch, _):
        *_, inputs, labels = batch
        return nn.functional.cross_entropy(self(inputs), labels)

    def validation_step(self, batch, _):
        return {"logits": self(batch[-2])}

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


class Copies(pl.Callback):
    """Keeps the model as it is at the end of each epoch."""

    def __init__(self):
        self.models = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.models.append(copy.deepcopy(pl_module.layers).eval())


@pytest.fixture(scope="module")
def data():
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    inputs, labels = torch.tensor(inputs[:120] / 16).float(), torch.tensor(labels[:120])
    return TensorDataset(inputs[N_TEST:], labels[N_TEST:]), TensorDataset(
        inputs[:N_TEST], labels[:N_TEST]
    )


@pytest.fixture
def train(data, run_id):
    """Train for two epochs on shuffled batches, in the active run. Returns model and copies."""

    def fit(*callbacks, module=None, loader=None, val=None, ckpt_path=None, active=True, **options):
        pl.seed_everything(0, verbose=False)
        settings = {"max_epochs": 2, "accelerator": "cpu", "logger": False} | options
        quiet = ("enable_progress_bar", "enable_model_summary", "enable_checkpointing")
        copies = Copies()
        trainer = pl.Trainer(
            callbacks=[*callbacks, copies], **dict.fromkeys(quiet, False) | settings
        )
        module = module or Net()
        if active:
            mlflow.start_run(run_id=run_id)
        trainer.fit(
            module, loader or DataLoader(data[0], 16, shuffle=True), val, ckpt_path=ckpt_path
        )
        return module, copies.models

    return fit


def expected(models, dataset, cross_entropy):
    with torch.no_grad():
        logits = [each(dataset.tensors[0]).numpy() for each in models]
    return np.stack([cross_entropy(each, dataset.tensors[1]) for each in logits])


# ---------------------------------------------------------------- an evaluation pass


@pytest.mark.parametrize("kind", ["dataset", "loader", "indexed"])
def test_a_probe_records_the_losses_of_the_model_at_the_end_of_each_epoch(
    train, data, history, complete, run_id, cross_entropy, kind
):
    test = data[1]
    loader = DataLoader(test, 7, shuffle=True, drop_last=True)
    source = {"dataset": test, "loader": loader, "indexed": IndexedDataset(test)}[kind]
    _, models = train(ActionTrackCallback(source))
    found = history(run_id)
    assert found.sample_ids.tolist() == list(range(N_TEST))
    np.testing.assert_allclose(found.losses, expected(models, test, cross_entropy), atol=1e-5)
    np.testing.assert_array_equal(found.labels, test.tensors[1])
    assert complete(run_id)


def test_ids_of_an_indexed_dataset_are_kept(train, data, history, run_id):
    names = [f"digit {each:02d}" for each in range(N_TEST)]
    train(ActionTrackCallback(IndexedDataset(data[1], names)))
    assert history(run_id).sample_ids.tolist() == names


class Flat(Net):
    """Takes images."""

    def forward(self, inputs):
        return self.layers(inputs.flatten(1))


def test_images_of_the_probe_set_come_along(train, data, read):
    images = [TensorDataset(part.tensors[0].view(-1, 1, 8, 8), part.tensors[1]) for part in data]
    train(ActionTrackCallback(images[1]), module=Flat(), loader=DataLoader(images[0], 16))
    with Image.open(io.BytesIO(read().image_bytes(7))) as kept:
        np.testing.assert_allclose(np.asarray(kept) / 255, images[1].tensors[0][7, 0], atol=1 / 500)


def test_training_with_a_probe_is_the_same_bit_for_bit(train, data):
    plain, _ = train(active=False)
    tracked, _ = train(ActionTrackCallback(DataLoader(data[1], shuffle=True)))
    for name, weights in plain.state_dict().items():
        assert torch.equal(weights, tracked.state_dict()[name])


def test_modules_that_are_frozen_stay_so(train, data):
    seen = []

    class Frozen(Net):
        def on_train_epoch_start(self):
            self.layers[0].eval()

        def on_train_epoch_end(self):
            seen.append([each.training for each in self.layers])

    train(ActionTrackCallback(data[1]), module=Frozen())
    assert seen == [[False, True, True]] * 2


def test_a_module_of_another_kind_is_told_how_to_run_and_read(
    train, data, history, run_id, cross_entropy
):
    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return N_TEST

        def __getitem__(self, index):
            inputs, label = data[1][index]
            return {"x": inputs, "y": label, "name": index + 100}

    track = ActionTrackCallback(
        Pairs(),
        forward=lambda module, batch: module(batch["x"]),
        extract=lambda batch, outputs: {
            "ids": batch["name"],
            "losses": nn.functional.cross_entropy(outputs, batch["y"], reduction="none"),
        },
    )
    _, models = train(track)
    found = history(run_id)
    assert found.sample_ids.tolist() == list(range(100, 100 + N_TEST))
    np.testing.assert_allclose(found.losses, expected(models, data[1], cross_entropy), atol=1e-5)


def test_batches_that_are_no_pairs_need_a_forward_function(train):
    rows = [{"x": torch.zeros(64)}] * 3
    text = (
        "forward: must be given where batches are not (inputs, labels), got 'dict'. "
        "Pass a function of (module, batch)."
    )
    with pytest.raises(ParameterError, match=message(text)):
        train(ActionTrackCallback(rows))


def test_a_dataset_without_length_is_refused_before_training():
    class Stream(IterableDataset):
        def __iter__(self):
            yield torch.zeros(64), 0

    text = (
        "data: must be a map-style dataset or a DataLoader of one, got 'Stream'. "
        "An iterable has no stable ids: record batches that carry them instead."
    )
    with pytest.raises(ParameterError, match=message(text)):
        ActionTrackCallback(DataLoader(Stream()))


@pytest.mark.parametrize(("kind", "deltas"), [("epoch", [1, 1]), ("batch", [5, 5])])
def test_a_step_weighs_an_epoch_or_its_updates(train, data, history, run_id, kind, deltas):
    train(ActionTrackCallback(data[1], delta_kind=kind))
    assert history(run_id).deltas.tolist() == deltas


def test_a_step_weighs_the_seconds_that_it_took(train, data, history, run_id):
    train(ActionTrackCallback(data[1], delta_kind="wall_time"))
    deltas = history(run_id).deltas
    assert (deltas > 0).all()
    assert deltas.sum() < 60


# ---------------------------------------------------------------- the trainer's own passes


def test_the_validation_pass_is_recorded_without_a_pass_of_its_own(
    train, data, history, run_id, cross_entropy
):
    val = DataLoader(IndexedDataset(data[1]), 9, shuffle=True)
    _, models = train(ActionTrackCallback(split="validation"), val=val, num_sanity_val_steps=2)
    found = history(run_id, "validation-probe")
    assert found.sample_ids.tolist() == list(range(N_TEST))
    np.testing.assert_allclose(found.losses, expected(models, data[1], cross_entropy), atol=1e-5)


def test_of_several_validation_passes_in_an_epoch_the_last_counts(
    train, data, history, run_id, cross_entropy
):
    val = DataLoader(IndexedDataset(data[1]), 9)
    _, models = train(ActionTrackCallback(), val=val, val_check_interval=1)
    found = history(run_id)
    assert found.steps.tolist() == [1, 2]
    np.testing.assert_allclose(found.losses, expected(models, data[1], cross_entropy), atol=1e-5)


def test_a_pass_in_every_second_epoch_weighs_two(train, data, history, run_id):
    val = DataLoader(IndexedDataset(data[1]), 9)
    train(ActionTrackCallback(), val=val, check_val_every_n_epoch=2, max_epochs=5)
    found = history(run_id)
    assert found.steps.tolist() == [2, 4]
    assert found.deltas.tolist() == [2, 2]


def test_a_validation_pass_of_its_own_is_not_recorded(train, data, history, run_id):
    val = DataLoader(IndexedDataset(data[1]), 9)
    track = ActionTrackCallback()
    module, _ = train(track, val=val)
    trainer = pl.Trainer(
        callbacks=[track], logger=False, enable_progress_bar=False, accelerator="cpu"
    )
    trainer.validate(module, val, verbose=False)
    assert history(run_id).n_steps == 2


def test_without_a_validation_pass_there_is_nothing_to_record(train):
    text = "there is no validation pass to record. Give fit a validation loader, or pass data."
    with pytest.raises(RecordingError, match=message(text)):
        train(ActionTrackCallback())


def test_a_validation_step_that_returns_no_logits_is_named(train, data):
    class Silent(Net):
        def validation_step(self, batch, _):
            self(batch[1])

    val = DataLoader(IndexedDataset(data[1]), 9)
    text = r"^validation_step: no ids, or neither logits nor losses in what it was given"
    with pytest.raises(RecordingError, match=text):
        train(ActionTrackCallback(), val=val, module=Silent())


def test_inline_records_the_losses_of_the_training_batches(train, data, history, run_id):
    seen = []

    class Returning(Net):
        def training_step(self, batch, _):
            ids, inputs, labels = batch
            logits = self(inputs)
            losses = nn.functional.cross_entropy(logits, labels, reduction="none")
            seen.append((self.current_epoch, ids, losses.detach()))
            return {"loss": losses.mean(), "logits": logits}

    loader = DataLoader(IndexedDataset(data[0]), 16, shuffle=True)
    train(
        ActionTrackCallback(split="train", mode="inline"),
        module=Returning(),
        loader=loader,
        val=DataLoader(data[1], 9),
    )
    found = history(run_id, "train-inline")
    grid = np.zeros((2, len(data[0])))
    for epoch, ids, losses in seen:
        grid[epoch, ids] = losses
    np.testing.assert_allclose(found.losses, grid, rtol=1e-5)


def test_inline_takes_no_data():
    text = "data: must be None in mode inline, got 'list'. Leave it out."
    with pytest.raises(ParameterError, match=message(text)):
        ActionTrackCallback([], mode="inline")


# ---------------------------------------------------------------- runs, errors, resume


def test_the_run_of_the_loggers_is_followed_rather_than_the_active_one(
    train, data, store, experiment, tracking_uri, run_id
):
    logger = MLFlowLogger(experiment, tracking_uri=tracking_uri)
    mlflow.set_tracking_uri("sqlite:///elsewhere.db")
    train(ActionTrackCallback(data[1]), logger=logger, active=False)
    assert logger.run_id != run_id
    assert store.get_run(logger.run_id).records == ("test-probe",)


def test_without_a_run_training_does_not_begin(train, data):
    text = "there is no active MLflow run. Start one with mlflow.start_run(), or pass run_id."
    with pytest.raises(RecordingError, match=message(text)):
        train(ActionTrackCallback(data[1]), active=False)


def test_an_error_in_training_keeps_the_epochs_before(train, data, history, complete, run_id):
    class Failing(Net):
        def training_step(self, batch, index):
            if self.current_epoch == 1 and index == 2:
                raise ZeroDivisionError
            return super().training_step(batch, index)

    track = ActionTrackCallback(data[1])
    with pytest.raises(ZeroDivisionError):
        train(track, module=Failing())
    assert history(run_id).steps.tolist() == [1]
    assert not complete(run_id)
    assert track.recorder.synced


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_training_resumed_from_a_checkpoint_continues_the_record(
    train, data, history, run_id, tmp_path
):
    saved = pl.callbacks.ModelCheckpoint(tmp_path, filename="last", save_top_k=-1)
    train(ActionTrackCallback(data[1]), saved, enable_checkpointing=True)
    before = history(run_id).losses
    train(
        ActionTrackCallback(data[1], resume=True),
        saved,
        enable_checkpointing=True,
        ckpt_path=tmp_path / "last.ckpt",
        max_epochs=3,
        active=False,
    )
    found = history(run_id)
    assert found.steps.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found.losses[:2], before)


def test_the_trainer_of_the_older_package_is_served_too(data, history, run_id):
    import pytorch_lightning

    names = ("forward", "training_step", "configure_optimizers")
    methods = {each: getattr(Net, each) for each in names}
    module = type("Old", (pytorch_lightning.LightningModule,), methods)()
    module.layers = Net().layers
    trainer = pytorch_lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ActionTrackCallback(data[1], run_id=run_id)],
    )
    trainer.fit(module, DataLoader(data[0], 16))
    assert history(run_id).n_steps == 1


DISTRIBUTED = """
import sys
import warnings
warnings.simplefilter("ignore")  # those of Lightning, see pyproject.toml
import lightning.pytorch as pl
import mlflow
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset
from actiontrack.recorder.lightning import ActionTrackCallback

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

uri, run_id, processes, n = sys.argv[1:]
mlflow.set_tracking_uri(uri)
torch.manual_seed(0)
inputs, labels = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(inputs[:int(n)] / 16).float(), torch.tensor(labels[:int(n)]))
track = ActionTrackCallback(data, run_id=run_id, batch_size=8)
pl.Trainer(
    max_epochs=1, accelerator="cpu", devices=int(processes), logger=False, callbacks=[track],
    strategy="ddp" if processes == "2" else "auto",
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
).fit(Net(), DataLoader(data, 16, shuffle=True), DataLoader(data, 8))
"""


def test_two_processes_record_what_one_does(
    in_warm_process, in_two_processes, history, store, tracking_uri, new_run
):
    runs = {setting: new_run() for setting in ((1, 51), (2, 51), (2, 50))}
    for (processes, n), run_id in runs.items():
        start = in_warm_process if processes == 1 else in_two_processes
        start(DISTRIBUTED, tracking_uri, run_id, processes, n, preload=["lightning.pytorch"])
    one, two, _ = (history(each) for each in runs.values())
    np.testing.assert_allclose(two.losses, one.losses, rtol=1e-5)
    np.testing.assert_array_equal(two.sample_ids, one.sample_ids)
    # Of 51 samples the second process repeats one, whose loss the reported mean counts twice.
    marks = [store.get_run(each).tags.get(LOSS_CHECK_TAG) for each in runs.values()]
    assert marks == ["agrees", None, "agrees"]
