"""Per-sample losses against PyTorch's own reductions and against loops by hand."""

import functools
import re

import numpy as np
import pytest
import torch
from scipy import special, stats
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


# ---------------------------------------------------------------- functions as modules


SEQUENCES = torch.tensor([[1, 2, 3, 4, 0, 1], [1, 0, 0, 0, 0, 0]])
WEIGHTS = torch.tensor([1.0, 5.0, 1.0, 1.0])


def with_defaults(weight=None, ignore_index=-100, label_smoothing=0.0):
    """A user's function whose defaults say what it does."""

    def criterion(
        logits,
        labels,
        weight=weight,
        ignore_index=ignore_index,
        reduction="mean",
        label_smoothing=label_smoothing,
    ):
        return F.cross_entropy(
            logits,
            labels,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )

    return criterion


class Wrapper(nn.Module):
    """Hands its reduction to the criterion inside when it is made."""

    def __init__(self, reduction="mean", **options):
        super().__init__()
        self.reduction = reduction
        self.inner = nn.CrossEntropyLoss(reduction=reduction, **options)

    def forward(self, logits, labels):
        return self.inner(logits, labels)


FORMS = {
    "module": nn.CrossEntropyLoss,
    "partial": functools.partial(functools.partial, F.cross_entropy),
    "partial of a partial": functools.partial(
        functools.partial, functools.partial(F.cross_entropy, reduction="sum")
    ),
    "function of one's own": with_defaults,
    "wrapper": functools.partial(Wrapper, reduction="none"),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def plain_losses(logits, labels):
    p = special.log_softmax(logits.detach().double().numpy(), axis=1)
    return -p[np.arange(len(labels)), labels.numpy()]


def test_ignored_samples_are_refused_in_every_form(form, batch):
    labels = batch[1].clone()
    labels[2] = -100
    with pytest.raises(RecordingError, match=r"^targets: 1 of 6 samples have the ignored label -"):
        PerSampleLoss(form())(batch[0], labels)


def test_a_label_of_ones_own_is_ignored_in_every_form(form, batch):
    with pytest.raises(RecordingError, match=r"^targets: 2 of 6 samples have the ignored label 1"):
        PerSampleLoss(form(ignore_index=1))(*batch)


def test_padded_tokens_are_left_out_in_every_form(form):
    logits = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(3))
    losses = PerSampleLoss(form(ignore_index=0))(logits, SEQUENCES)["losses"]
    p = -special.log_softmax(logits.double().numpy(), axis=1)
    first = [p[0, SEQUENCES[0, token], token] for token in (0, 1, 2, 3, 5)]
    np.testing.assert_allclose(losses, [np.mean(first), p[1, 1, 0]], rtol=1e-6)


def test_weights_and_smoothing_are_a_component_in_every_form(form, batch):
    result = PerSampleLoss(form(weight=WEIGHTS, label_smoothing=0.2))(*batch)
    np.testing.assert_allclose(result["losses"], plain_losses(*batch), rtol=1e-5)
    expected = F.cross_entropy(*batch, weight=WEIGHTS, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(result["components"]["training_loss"], expected.detach())


def test_mixtures_are_refused_in_every_form(form, batch):
    mixed = torch.tensor([[0.5, 0.5, 0, 0]]).repeat(6, 1)
    with pytest.raises(RecordingError, match=r"^targets: class probabilities mix several samples"):
        PerSampleLoss(form())(batch[0], mixed)
    result = PerSampleLoss(form())(batch[0], mixed, labels=batch[1])
    np.testing.assert_allclose(result["losses"], plain_losses(*batch), rtol=1e-5)
    assert result["components"].keys() == {"training_loss"}


def test_targets_of_a_multi_label_function_that_smooths_are_no_mixtures():
    def smoothed_bce(logits, targets, reduction="mean", label_smoothing=0.2):
        targets = targets * (1 - label_smoothing) + label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, targets, reduction=reduction)

    logits, targets = torch.zeros(2, 3), torch.tensor([[1.0, 1, 0], [1, 0, 0]])
    result = PerSampleLoss(smoothed_bce)(logits, targets)
    np.testing.assert_allclose(result["losses"], np.log(2) * np.ones(2), rtol=1e-6)


def test_a_wrapper_that_fixes_its_reduction_is_refused_with_the_remedy(batch):
    message = (
        "criterion: Wrapper gives losses of shape () for 6 samples. It does not look at its "
        'reduction when it is called: construct it with reduction="none", or compute one loss per '
        "sample yourself."
    )
    with pytest.raises(RecordingError, match=re.escape(message)):
        PerSampleLoss(Wrapper())(*batch)


def test_losses_of_single_tokens_are_refused():
    def flat(logits, labels, reduction="mean"):
        return F.cross_entropy(
            logits.movedim(1, -1).flatten(0, -2), labels.flatten(), reduction=reduction
        )

    with pytest.raises(
        RecordingError, match=r"^criterion: flat gives losses of shape \(12,\) for 2"
    ):
        PerSampleLoss(flat)(torch.randn(2, 5, 6), SEQUENCES)


class Ignoring(nn.Module):
    """Ignores a label that it does not call ignore_index."""

    def __init__(self, label, reduction="mean"):
        super().__init__()
        self.reduction, self.label = reduction, label

    def forward(self, logits, labels):
        return F.cross_entropy(logits, labels, ignore_index=self.label, reduction=self.reduction)


@pytest.mark.parametrize("label", [255, -1])
def test_an_ignored_label_that_is_no_class_is_recognised(batch, label):
    labels = batch[1].clone()
    labels[0] = label
    with pytest.raises(
        RecordingError, match=rf"^targets: 1 of 6 samples have the ignored label {label}"
    ):
        PerSampleLoss(Ignoring(label))(batch[0], labels)
    tokens = torch.where(SEQUENCES == 0, label, SEQUENCES)
    logits = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(3))
    expected = PerSampleLoss(nn.CrossEntropyLoss(ignore_index=0))(logits, SEQUENCES)["losses"]
    torch.testing.assert_close(PerSampleLoss(Ignoring(label))(logits, tokens)["losses"], expected)


def test_classes_beyond_the_features_are_classes():
    class Head(nn.Module):
        """Has more classes than its inputs have columns, and some losses of exactly 0."""

        reduction = "mean"

        def forward(self, _, labels):
            return labels.float() % 2

    losses = PerSampleLoss(Head())(torch.zeros(3, 2), torch.tensor([4, 5, 6]))["losses"]
    assert losses.tolist() == [0, 1, 0]


def test_integer_targets_of_a_regression_are_no_labels():
    result = PerSampleLoss(nn.MSELoss())(torch.tensor([-1.0, 3.0]), torch.tensor([-1, 5]))
    assert result["losses"].tolist() == [0, 4]


def test_a_divergence_by_batch_is_summed_over_the_classes():
    p = torch.tensor([[0.2, 0.8], [0.5, 0.5]])
    logits = torch.log_softmax(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), dim=1)
    losses = PerSampleLoss(nn.KLDivLoss(reduction="batchmean"))(logits, p)["losses"]
    expected = [
        stats.entropy(row, q) for row, q in zip(p.double(), logits.double().exp(), strict=True)
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


# ---------------------------------------------------------------- parameters, types, autocast


def test_a_head_in_the_criterion_is_seen_to_train(batch):
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.reduction, self.weight = "mean", nn.Parameter(torch.eye(4))

        def forward(self, features, labels):
            return F.cross_entropy(features @ self.weight, labels, reduction=self.reduction)

    criterion = Head()
    per_sample = PerSampleLoss(criterion)
    for _ in range(3):
        loss = criterion(*batch)
        torch.testing.assert_close(per_sample(*batch)["losses"].mean(), loss.detach())
        (gradient,) = torch.autograd.grad(loss, criterion.weight)
        criterion.weight.data -= gradient


@pytest.mark.skipif(not hasattr(nn, "LinearCrossEntropyLoss"), reason="PyTorch is older")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_head_of_linear_cross_entropy_is_shared(batch, dtype):
    torch.manual_seed(0)
    criterion = nn.LinearCrossEntropyLoss(4, 10, weight=torch.ones(10), dtype=dtype)
    per_sample = PerSampleLoss(criterion)
    with torch.no_grad():
        criterion.linear.weight.mul_(3)
    result = per_sample(batch[0].to(dtype), batch[1])
    head = criterion.linear.weight.detach().float()
    logits = batch[0].detach().to(dtype).float() @ head.T
    np.testing.assert_allclose(result["losses"], plain_losses(logits, batch[1]), rtol=1e-4)
    assert result["losses"].dtype == torch.float32
    assert criterion.linear.weight.dtype == dtype
    assert criterion.weight is not None


@pytest.mark.skipif(not hasattr(nn, "LinearCrossEntropyLoss"), reason="PyTorch is older")
def test_linear_cross_entropy_ignores_minus_100_without_saying_so(batch):
    labels = batch[1].clone()
    labels[0] = -100
    with pytest.raises(RecordingError, match=r"^targets: 1 of 6 samples have the ignored label -"):
        PerSampleLoss(nn.LinearCrossEntropyLoss(4, 10))(batch[0], labels)
    easy = nn.LinearCrossEntropyLoss(4, 10)
    with torch.no_grad():
        easy.linear.weight.zero_()[9] = 100.0
    losses = PerSampleLoss(easy)(torch.ones(2, 4), torch.tensor([9, 9]))["losses"]
    assert losses.tolist() == [0, 0]  # a class beyond the four features


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_losses_of_half_precision_outputs_are_those_of_float32(dtype, autocast):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 10, generator=generator) * 3
    labels = torch.randint(10, (2000,), generator=generator)
    logits[torch.arange(2000), labels] += 5
    logits = logits.to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses = PerSampleLoss(nn.CrossEntropyLoss())(logits, labels)["losses"]
    assert losses.dtype == torch.float32
    np.testing.assert_allclose(losses, plain_losses(logits, labels), rtol=1e-4, atol=1e-6)


def test_log_softmax_inside_a_criterion_is_out_of_reach_of_autocast():
    def soft(logits, labels, reduction="mean"):
        p = (logits @ torch.eye(10)).log_softmax(dim=1)
        return F.nll_loss(p, labels, reduction=reduction)

    logits, labels = (
        torch.randn(50, 10, generator=torch.Generator().manual_seed(0)),
        torch.arange(50) % 10,
    )
    with torch.autocast("cpu", torch.bfloat16):
        losses = PerSampleLoss(soft)(logits, labels)["losses"]
    np.testing.assert_allclose(losses, plain_losses(logits, labels), rtol=1e-5)


def test_losses_of_double_precision_stay_so(batch):
    losses = PerSampleLoss(nn.CrossEntropyLoss())(batch[0].double(), batch[1])["losses"]
    assert losses.dtype == torch.float64


def test_what_is_set_later_counts(batch):
    criterion = nn.CrossEntropyLoss()
    per_sample = PerSampleLoss(criterion)
    assert per_sample(*batch).keys() == {"losses"}
    criterion.label_smoothing = 0.3
    assert per_sample(*batch)["components"].keys() == {"training_loss"}


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
