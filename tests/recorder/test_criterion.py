"""Per-sample losses against PyTorch's own reductions and against loops by hand."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.criterion import PerSampleLoss


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator, requires_grad=True)
    return logits, torch.tensor([0, 1, 2, 3, 0, 1])


def test_the_mean_of_the_losses_is_the_reduced_loss(batch):
    result = PerSampleLoss(nn.CrossEntropyLoss())(*batch)
    assert result.keys() == {"losses"}
    torch.testing.assert_close(result["losses"].mean(), nn.CrossEntropyLoss()(*batch).detach())


def test_the_criterion_given_keeps_its_reduction(batch):
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1, weight=torch.ones(4))
    PerSampleLoss(criterion)(*batch)
    assert (criterion.reduction, criterion.label_smoothing) == ("mean", 0.1)
    assert criterion.weight is not None


def test_the_losses_carry_no_graph(batch):
    assert not PerSampleLoss(nn.CrossEntropyLoss())(*batch)["losses"].requires_grad


@pytest.mark.parametrize(
    "options", [{"label_smoothing": 0.2}, {"weight": torch.tensor([1.0, 2.0, 3.0, 4.0])}]
)
def test_weights_and_smoothing_go_to_a_component_beside_the_plain_loss(batch, options):
    result = PerSampleLoss(nn.CrossEntropyLoss(**options))(*batch)
    logits, labels = batch[0].detach(), batch[1]
    torch.testing.assert_close(result["losses"], F.cross_entropy(logits, labels, reduction="none"))
    torch.testing.assert_close(
        result["components"]["training_loss"],
        F.cross_entropy(logits, labels, reduction="none", **options),
    )


def test_pos_weight_goes_to_a_component_too(batch):
    targets = (batch[0].detach() > 0.3).float()
    result = PerSampleLoss(nn.BCEWithLogitsLoss(pos_weight=torch.full((4,), 3.0)))(
        batch[0], targets
    )
    plain = F.binary_cross_entropy_with_logits(batch[0].detach(), targets, reduction="none")
    torch.testing.assert_close(result["losses"], plain.mean(dim=1))
    assert (result["components"]["training_loss"] >= result["losses"]).all()


def test_multi_label_losses_are_means_over_the_labels(batch):
    targets = torch.ones(6, 4)
    result = PerSampleLoss(nn.BCEWithLogitsLoss())(batch[0], targets)
    logits = batch[0].detach().numpy().astype(float)
    np.testing.assert_allclose(result["losses"], np.log1p(np.exp(-logits)).mean(axis=1), rtol=1e-5)


def test_regression_losses_are_means_over_the_outputs():
    result = PerSampleLoss(nn.MSELoss())(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.zeros(2, 2))
    assert result["losses"].tolist() == [5.0, 0.0]


def test_a_function_that_takes_a_reduction_will_do():
    result = PerSampleLoss(F.l1_loss)(torch.tensor([1.0, -2.0]), torch.zeros(2))
    assert result["losses"].tolist() == [1.0, 2.0]


def test_sequence_losses_are_means_over_the_tokens_that_count():
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[0, 1, -100], [4, -100, -100]])
    losses = PerSampleLoss(nn.CrossEntropyLoss())(logits, targets)["losses"]
    tokens = F.cross_entropy(logits, targets, reduction="none")
    expected = torch.stack([tokens[0, :2].mean(), tokens[1, 0]])
    torch.testing.assert_close(losses, expected)


def test_a_sequence_without_a_token_that_counts_has_loss_nan():
    targets = torch.full((1, 3), -100)
    assert PerSampleLoss(nn.CrossEntropyLoss())(torch.randn(1, 5, 3), targets)["losses"].isnan()


def test_ignored_samples_are_refused(batch):
    labels = batch[1].clone()
    labels[:2] = -100
    message = (
        "targets: 2 of 6 samples have the ignored label -100. They have no loss, and 0 would make "
        "them look easy: leave them out of the batch that you record."
    )
    with pytest.raises(RecordingError, match=re.escape(message)):
        PerSampleLoss(nn.CrossEntropyLoss())(batch[0], labels)


def test_mixtures_are_refused_without_labels(batch):
    mixed = torch.full((6, 4), 0.25)
    with pytest.raises(RecordingError, match=re.escape("Pass the samples' own labels=")):
        PerSampleLoss(nn.CrossEntropyLoss())(batch[0], mixed)


def test_mixtures_with_labels_record_the_plain_loss_and_the_training_loss(batch):
    mixed = torch.full((6, 4), 0.25)
    result = PerSampleLoss(nn.CrossEntropyLoss())(batch[0], mixed, labels=batch[1])
    logits = batch[0].detach()
    torch.testing.assert_close(
        result["losses"], F.cross_entropy(logits, batch[1], reduction="none")
    )
    torch.testing.assert_close(
        result["components"]["training_loss"], F.cross_entropy(logits, mixed, reduction="none")
    )


def test_a_criterion_without_a_reduction_is_refused():
    message = (
        "criterion: must be a torch.nn loss with a reduction, or a function that takes one, got "
        "'Linear'. Compute one loss per sample yourself and pass it to "
        "Recorder.update(ids, losses)."
    )
    with pytest.raises(ParameterError, match=re.escape(message)):
        PerSampleLoss(nn.Linear(1, 1))


def test_a_batch_of_one_has_one_loss(batch):
    losses = PerSampleLoss(nn.CrossEntropyLoss())(batch[0][:1], batch[1][:1])["losses"]
    assert losses.shape == (1,)
