"""Losses of other tasks than plain classification, from a real training to scores.

Each expectation sums PyTorch's own unreduced losses, taken by hand after each epoch.
"""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit

from actiontrack.recorder import Recorder
from actiontrack.recorder.criterion import PerSampleLoss

N, EPOCHS = 40, 3


@pytest.fixture
def record(store, run_id):
    """Train on everything, record everything; returns the record and the losses by hand."""

    def go(model, inputs, targets, criterion, by_hand, **options):
        torch.manual_seed(0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        per_sample, expected = PerSampleLoss(criterion), []
        with Recorder(store=store, run_id=run_id, **options) as recorder:
            for _ in range(EPOCHS):
                optimizer.zero_grad()
                criterion(model(inputs), targets).backward()
                optimizer.step()
                order = torch.randperm(N)
                for batch in order.split(16):
                    recorder.update(batch, **per_sample(model(inputs[batch]), targets[batch]))
                recorder.end_epoch()
                with torch.no_grad():
                    expected.append(by_hand(model(inputs), targets).double().numpy())
        return store.open_record(run_id), np.stack(expected)

    return go


def digits():
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:N] / 16, dtype=torch.float32), torch.tensor(labels[:N])


def test_regression(record):
    inputs, targets = (
        torch.tensor(each[:N], dtype=torch.float32) for each in load_diabetes(return_X_y=True)
    )
    targets = (targets / 100)[:, None]
    stored, expected = record(
        nn.Linear(10, 1), inputs, targets, nn.MSELoss(),
        lambda outputs, wanted: ((outputs - wanted) ** 2)[:, 0], loss_name="squared_error",
    )  # fmt: skip
    assert stored.manifest.loss_name == "squared_error"
    np.testing.assert_allclose(stored.scores()["action"], expected.sum(axis=0), rtol=1e-5)


def test_multi_label(record):
    inputs, labels = digits()
    # Three labels of one digit: odd, above four, has a loop.
    targets = torch.stack([labels % 2, labels > 4, torch.isin(labels, torch.tensor([0, 6, 8, 9]))])
    stored, expected = record(
        nn.Linear(64, 3), inputs, targets.T.float(), nn.BCEWithLogitsLoss(),
        lambda logits, wanted: F.binary_cross_entropy_with_logits(
            logits, wanted, reduction="none"
        ).mean(dim=1),
    )  # fmt: skip
    np.testing.assert_allclose(stored.scores()["action"], expected.sum(axis=0), rtol=1e-5)


class Rows(nn.Module):
    """Predicts of each row of a digit whether its brightest pixel lies left, middle or right."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, images):
        return self.layer(images.reshape(-1, 8, 8)).transpose(1, 2)  # (batch, classes, rows)


def test_sequences_with_ignored_tokens(record):
    inputs, _ = digits()
    rows = inputs.reshape(-1, 8, 8)
    targets = (rows.argmax(dim=2) // 3).clone()
    targets[rows.sum(dim=2) == 0] = -100
    stored, expected = record(
        Rows(), inputs, targets, nn.CrossEntropyLoss(),
        lambda logits, wanted: torch.stack(
            [F.cross_entropy(one.T, row) for one, row in zip(logits, wanted, strict=True)]
        ),
    )  # fmt: skip
    np.testing.assert_allclose(stored.scores()["action"], expected.sum(axis=0), rtol=1e-5)


def test_weighted_and_smoothed_training_records_the_plain_loss_and_an_action_of_each(record):
    inputs, labels = digits()
    options = {"weight": torch.linspace(0.5, 1.5, 10), "label_smoothing": 0.1}
    stored, expected = record(
        nn.Linear(64, 10), inputs, labels, nn.CrossEntropyLoss(**options),
        lambda logits, wanted: torch.stack([
            F.cross_entropy(logits, wanted, reduction="none"),
            F.cross_entropy(logits, wanted, reduction="none", **options),
        ]),
    )  # fmt: skip
    scores = stored.scores()
    np.testing.assert_allclose(scores["action"], expected[:, 0].sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        scores["action_training_loss"], expected[:, 1].sum(axis=0), rtol=1e-5
    )


def test_several_losses_of_one_model_have_an_action_each(store, run_id):
    inputs, labels = digits()
    ids = torch.arange(N)
    with Recorder(store=store, run_id=run_id) as recorder:
        logits = torch.randn(N, 10, generator=torch.Generator().manual_seed(1))
        reconstruction = inputs.square().mean(dim=1)
        for _ in range(2):
            recorder.update(
                ids, logits=logits, labels=labels, components={"reconstruction": reconstruction}
            )
            recorder.end_epoch()
    scores = store.open_record(run_id).scores()
    np.testing.assert_allclose(
        scores["action"], 2 * F.cross_entropy(logits, labels, reduction="none"), rtol=1e-5
    )
    np.testing.assert_allclose(scores["action_reconstruction"], 2 * reconstruction, rtol=1e-5)


def test_two_splits_of_one_run_are_two_records(store, run_id):
    with (
        Recorder("test", store=store, run_id=run_id) as test,
        Recorder("train", mode="inline", store=store, run_id=run_id) as train,
    ):
        for epoch in (1, 2):
            train.update(np.arange(6), np.arange(6) + float(epoch))
            train.end_epoch()
            test.update(["a", "b"], np.array([1.0, 2.0]) * epoch)
            test.end_epoch()
    assert store.get_run(run_id).records == ("test-probe", "train-inline")
    assert store.open_record(run_id, "test-probe").scores()["action"].tolist() == [3.0, 6.0]
    train_scores = store.open_record(run_id, "train-inline").scores()
    assert train_scores["action"].tolist() == [3.0, 5.0, 7.0, 9.0, 11.0, 13.0]
