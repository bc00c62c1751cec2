# ruff: noqa: ARG002 - the library's own signatures
"""The evaluation pass against the losses that the module's own validation step computes."""

import random

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from helpers import message
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from lightning_training import N_TEST, N_TRAIN, Net, digits, fit
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.lightning import ActionTrackCallback
from actiontrack.recorder.torch import IndexedDataset

# Advice about the settings of a trainer: workers, logging intervals, loaders that are missing.
pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:You have overridden `on_after_batch_transfer`"),
]


def scaled(batch):
    return [batch[0] / 16, batch[1]]


class After(Net):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return scaled(batch)


class Before(Net):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        return scaled(batch)


class Transfer(Net):
    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return super().transfer_batch_to_device(scaled(batch), device, dataloader_idx)


class Augmenting(Net):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return scaled(batch) if self.trainer.validating else [-batch[0], batch[1]]


class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(digits()[0], 16)

    def val_dataloader(self):
        return DataLoader(digits()[1], 8)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] / 8, batch[1]]


def assert_as_validated(history, module, rtol=1e-5):
    np.testing.assert_allclose(history.losses, module.passes, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("kind", [After, Before, Transfer, Augmenting])
def test_the_batch_transfer_hooks_of_the_module_are_applied(run_id, history, kind):
    module = kind()
    trainer = fit(run_id, module, ActionTrackCallback(digits()[1]))
    assert_as_validated(history(run_id), module)
    assert trainer.state.stage is None


@pytest.mark.parametrize("kind", [Net, After])
def test_the_hooks_of_a_data_module_are_applied_and_go_before(run_id, history, kind):
    module = kind()
    fit(run_id, module, ActionTrackCallback(digits()[1]), datamodule=Data())
    assert_as_validated(history(run_id), module)


def test_hooks_get_the_index_of_the_validation_loader_of_the_same_samples(run_id, history):
    class Second(Net):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return [batch[0] / (16 if dataloader_idx == 1 else 1), batch[1]]

    module, (train, test) = Second(), digits()
    val = [DataLoader(train, 40), DataLoader(test, 20)]
    fit(run_id, module, ActionTrackCallback(test), val=val)
    np.testing.assert_allclose(
        history(run_id).losses, np.array(module.passes)[:, N_TRAIN:], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("precision", "rtol"),
    [("64-true", 1e-6), ("bf16-true", 2e-2), ("16-true", 5e-3), ("bf16-mixed", 2e-2)],
)
def test_every_precision_records(run_id, history, complete, precision, rtol):
    class Small(After):
        def validation_step(self, batch, _):
            losses = nn.functional.cross_entropy(self(batch[0]), batch[1], reduction="none")
            if not self.trainer.sanity_checking:
                self.passes[-1] += losses.double().tolist()

    module = Small()
    fit(run_id, module, ActionTrackCallback(digits()[1], batch_size=8), precision=precision)
    assert_as_validated(history(run_id), module, rtol)
    assert complete(run_id)


# ---------------------------------------------------------------- samples of a loader


def test_a_loader_with_a_sampler_is_recorded_as_far_as_it_visits(run_id, history):
    whole, module = TensorDataset(*digits()[0].tensors), Net()
    val = DataLoader(whole, 8, sampler=SubsetRandomSampler(range(25, 35)))
    fit(run_id, module, ActionTrackCallback(val), val=val)
    found = history(run_id)
    assert found.sample_ids.tolist() == list(range(25, 35))
    np.testing.assert_allclose(
        np.sort(found.losses, axis=1), np.sort(module.passes, axis=1), rtol=1e-5, atol=1e-6
    )


def test_a_subset_of_an_indexed_dataset_keeps_ids_and_inputs(run_id, history):
    class Tokens(Net):
        """A network over integers, for which an id looks like an input."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Embedding(1000, 10)

    tokens = TensorDataset(torch.arange(100, 160), torch.arange(60) % 10)
    part = Subset(IndexedDataset(tokens, range(500, 560)), range(40, 60))
    module = Tokens()
    fit(
        run_id,
        module,
        ActionTrackCallback(part),
        data=DataLoader(tokens, 16),
        val=DataLoader(part, 8),
    )
    found = history(run_id)
    assert found.sample_ids.tolist() == list(range(540, 560))
    assert_as_validated(found, module)


# ---------------------------------------------------------------- several validation loaders


def two_loaders():
    train, test = digits()
    return [DataLoader(IndexedDataset(part), 8) for part in (train, test)]


class Returning(Net):
    def validation_step(self, batch, index, dataloader_idx=0):
        super().validation_step(batch, index, dataloader_idx)
        return {"logits": self(batch[1])}


def test_two_validation_loaders_are_refused(run_id):
    text = (
        "fit was given 2 validation loaders, and a record holds the samples of one. Add an "
        "ActionTrackCallback for each, with a split of its own and dataloader_idx=0, 1, …, or pass "
        "data."
    )
    module = Returning()
    with pytest.raises(RecordingError, match=message(text)):
        fit(run_id, module, ActionTrackCallback(), val=two_loaders())
    assert module.trainer.global_step == 0


def test_two_validation_loaders_are_two_records(run_id, history):
    module = Returning()
    tracks = [ActionTrackCallback(split=f"val{index}", dataloader_idx=index) for index in (0, 1)]
    fit(run_id, module, *tracks, val=two_loaders())
    losses = [history(run_id, f"val{index}-probe").losses for index in (0, 1)]
    assert [part.shape for part in losses] == [(2, N_TRAIN), (2, N_TEST)]
    np.testing.assert_allclose(np.concatenate(losses, axis=1), module.passes, rtol=1e-5, atol=1e-6)


def test_a_validation_loader_that_does_not_exist_is_refused(run_id):
    text = (
        "dataloader_idx: must be less than the number of validation loaders, 2, got 2. "
        "Count loaders from 0."
    )
    with pytest.raises(ParameterError, match=message(text)):
        fit(run_id, Returning(), ActionTrackCallback(dataloader_idx=2), val=two_loaders())


def test_a_list_of_loaders_is_no_data():
    text = (
        "data: must be one DataLoader: a record holds the samples of one, got '2 loaders'. "
        "Pass one callback per loader, each with a split of its own."
    )
    with pytest.raises(ParameterError, match=message(text)):
        ActionTrackCallback(two_loaders())


# ---------------------------------------------------------------- averaged weights


def final_losses(module):
    inputs, labels = digits()[1].tensors
    with torch.no_grad():
        return nn.functional.cross_entropy(module(inputs), labels, reduction="none")


@pytest.mark.parametrize("data", [True, False], ids=["data", "validation"])
def test_under_averaged_weights_the_record_is_of_those_that_fit_leaves(
    run_id, history, store, data
):
    module, test = Returning(), digits()[1]
    track = ActionTrackCallback(test) if data else ActionTrackCallback()
    val = DataLoader(IndexedDataset(test), 8)
    fit(run_id, module, EMAWeightAveraging(decay=0.9), track, val=val)
    np.testing.assert_allclose(
        history(run_id).losses[-1], final_losses(module), rtol=1e-5, atol=1e-6
    )
    expected = "averaged by EMAWeightAveraging, as in validation"
    run = store.get_run(run_id)
    assert run.tags["actiontrack.test-probe.weights"] == expected
    assert store.open_record(run, "test-probe").manifest.notes["weights"] == expected


def test_without_averaging_nothing_is_said_of_the_weights(run_id, store):
    fit(run_id, Net(), ActionTrackCallback(digits()[1]), epochs=1)
    assert "actiontrack.test-probe.weights" not in store.get_run(run_id).tags


class Normed(Net):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 10))


@pytest.mark.filterwarnings("ignore:Detected call of")  # Lightning's own order of schedulers
def test_an_average_taken_after_training_is_said_and_adds_no_epoch(run_id, history, store):
    module = Normed()
    averaging = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)
    fit(run_id, module, averaging, ActionTrackCallback(digits()[1]))
    found = history(run_id)
    assert found.steps.tolist() == [1, 2]
    np.testing.assert_allclose(found.losses, module.passes[:2], rtol=1e-5, atol=1e-6)
    assert store.get_run(run_id).tags["actiontrack.test-probe.weights"] == (
        "raw; StochasticWeightAveraging puts the average in their place after training"
    )


# ---------------------------------------------------------------- refused before training


def test_what_cannot_be_evaluated_is_refused_before_training_begins(run_id, store):
    module = Net()
    rows = [(torch.zeros(7), 0)] * 3
    text = (
        r"^data: the model can't be evaluated on the first batch, and training has not begun\. "
        r"RuntimeError: "
    )
    with pytest.raises(RecordingError, match=text):
        fit(run_id, module, ActionTrackCallback(rows))
    assert module.trainer.global_step == 0
    assert store.get_run(run_id).records == ()


def test_a_validation_step_without_logits_is_refused_before_training_begins(run_id):
    module = Net()
    val = DataLoader(IndexedDataset(digits()[1]), 8)
    with pytest.raises(RecordingError, match=r"^validation_step: no ids, or neither logits"):
        fit(run_id, module, ActionTrackCallback(), val=val)
    assert module.trainer.global_step == 0


def test_a_single_logit_is_a_binary_classifier(run_id, history):
    class Binary(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(64, 1)

        def forward(self, inputs):
            return self.layer(inputs / 16)

        def training_step(self, batch, _):
            return nn.functional.binary_cross_entropy_with_logits(self(batch[0]), batch[1])

        def validation_step(self, batch, _):
            self(batch[0])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    inputs, labels = digits()[1].tensors
    targets = (labels > 4).float()[:, None]
    data, module = TensorDataset(inputs, targets), Binary()
    fit(run_id, module, ActionTrackCallback(data), data=DataLoader(data, 8), epochs=1)
    found = history(run_id)
    with torch.no_grad():
        expected = nn.functional.binary_cross_entropy_with_logits(
            module(inputs), targets, reduction="none"
        )
    np.testing.assert_allclose(found.losses[0], expected[:, 0], rtol=1e-5, atol=1e-6)
    assert found.labels.tolist() == targets[:, 0].tolist()


# ---------------------------------------------------------------- training stays the same


class Noisy(Dataset):
    """Items that draw random numbers of every kind, as augmentations do."""

    def __len__(self):
        return N_TEST

    def __getitem__(self, index):
        inputs, label = digits()[1][index]
        return inputs + random.random() + np.random.rand() + torch.rand(()), label  # noqa: NPY002


def generators():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


def recorded_and_plain(run_id, track, *callbacks, sampler=None):
    """Weights, random states and the generator of a sampler, with recording and without."""
    outcomes = []
    for more in ([track], []):
        own = torch.Generator().manual_seed(7)
        data = digits()[0]
        draws = sampler(own) if sampler else None
        loader = DataLoader(data, 16, sampler=draws, shuffle=draws is None, generator=own)
        module = Normed()
        fit(run_id if more else None, module, *[make() for make in callbacks], *more, data=loader)
        weights = [values.tolist() for values in module.state_dict().values()]
        outcomes.append((weights, generators(), own.get_state().tolist()))
    return outcomes


@pytest.mark.parametrize("averaging", [[], [lambda: EMAWeightAveraging(decay=0.9)]])
def test_recording_changes_neither_weights_nor_random_states(run_id, averaging):
    track = ActionTrackCallback(DataLoader(Noisy(), 8, shuffle=True))
    recorded, plain = recorded_and_plain(run_id, track, *averaging)
    assert recorded == plain


def test_recording_a_loader_that_trains_too_leaves_its_sampler_as_it_was(run_id):
    class Drawing(WeightedRandomSampler):
        """Of a class that is not known, and with a generator of its own."""

    track = ActionTrackCallback(digits()[1])
    outcomes = recorded_and_plain(
        run_id,
        track,
        sampler=lambda own: Drawing(torch.ones(N_TRAIN), N_TRAIN, replacement=False, generator=own),
    )
    assert outcomes[0] == outcomes[1]
