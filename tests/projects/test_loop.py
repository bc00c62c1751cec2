"""The training loop against PyTorch used by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from actiontrack.errors import ParameterError
from projects.datasets import load_dataset
from projects.loading import Normalisation
from projects.loop import (
    Compute,
    choose_compute,
    evaluate,
    learning_rate_factor,
    look_ahead,
    make_optimizer,
    seed_everything,
    set_learning_rate,
    train_epoch,
)
from projects.models import build_model
from projects.params import TrainParams, validate

CPU = Compute(torch.device("cpu"), autocast=False)


def params(**values):
    return validate(TrainParams, values)


def test_a_constant_schedule_keeps_the_rate():
    assert [learning_rate_factor(params(epochs=3), epoch) for epoch in range(3)] == [1.0, 1.0, 1.0]


def test_a_cosine_schedule_starts_at_one_and_passes_one_half():
    cosine = params(epochs=4, schedule="cosine")
    assert learning_rate_factor(cosine, 0) == 1.0
    assert learning_rate_factor(cosine, 2) == pytest.approx(0.5)


def test_a_step_schedule_falls_to_a_tenth_twice():
    steps = params(epochs=8, schedule="step")
    factors = [learning_rate_factor(steps, epoch) for epoch in range(8)]
    assert factors == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warm_up_rises_linearly_to_the_full_rate():
    warm = params(epochs=6, warmup_epochs=3)
    assert [learning_rate_factor(warm, epoch) for epoch in range(4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_optimiser_is_the_one_named(name, kind):
    optimizer = make_optimizer(nn.Linear(1, 1), params(optimizer=name, weight_decay=0.5))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["weight_decay"] == 0.5


def test_sgd_has_the_momentum_asked_for():
    optimizer = make_optimizer(nn.Linear(1, 1), params(optimizer="sgd", momentum=0.8))
    assert optimizer.param_groups[0]["momentum"] == 0.8


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ParameterError, match=r"^device: must be a device of this machine, got"):
        choose_compute(params(device="cuda"))


def test_bf16_can_be_asked_for_on_the_cpu():
    assert choose_compute(params(device="cpu", precision="bf16")).autocast
    assert not choose_compute(params(device="cpu")).autocast


def test_evaluation_sees_every_sample_once_in_eval_mode_with_the_models_own_logits():
    chosen = params(dataset="digits", model="cnn3", test_subset=100)
    seed_everything(chosen)
    train, test = load_dataset(chosen)
    normalisation = Normalisation.of(train)
    model = build_model("cnn3", in_channels=1, image_size=8, n_classes=10)
    seen = []
    evaluate(
        model, test, compute=CPU, normalisation=normalisation,
        observe=lambda ids, logits, labels: seen.append((ids, logits, labels)),
    )  # fmt: skip
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in seen]), test.ids)
    with torch.inference_mode():
        expected = model.eval()(normalisation.apply(test.images))
    torch.testing.assert_close(torch.cat([batch[1] for batch in seen]), expected)


def test_autocast_computes_in_bfloat16_and_gives_float32():
    model = nn.Linear(64, 3)
    inputs = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    exact = CPU.forward(model, inputs)
    rough = Compute(torch.device("cpu"), autocast=True).forward(model, inputs)
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).abs().max() < 0.05


# ---------------------------------------------------------------- one epoch of updates


@pytest.fixture(scope="module")
def digits():
    return load_dataset(params(model="cnn3", subset=50, test_subset=10))[0]


def epoch_of(split, *, batch_size, **options):
    """The state of a linear model after one epoch, and what was observed."""
    chosen = params(batch_size=batch_size, optimizer="sgd", momentum=0.0, learning_rate=0.1)
    torch.manual_seed(0)
    model, seen = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), []
    optimizer = make_optimizer(model, chosen)
    seconds = train_epoch(
        model, optimizer, split, params=chosen, compute=CPU, normalisation=Normalisation.of(split),
        generator=torch.Generator().manual_seed(1), observe=lambda *batch: seen.append(batch),
        **options,
    )  # fmt: skip
    assert seconds > 0
    return model[1], seen


def test_an_epoch_shows_every_sample_once_in_an_order_of_the_generator(digits):
    _, seen = epoch_of(digits, batch_size=20)
    ids = np.concatenate([batch[0] for batch in seen])
    assert [len(batch[0]) for batch in seen] == [20, 20, 10]
    assert sorted(ids) == sorted(digits.ids)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1)).numpy()
    np.testing.assert_array_equal(ids, digits.ids[order])


def test_an_epoch_of_one_batch_is_one_step_down_the_gradient_of_the_mean_loss(digits):
    trained, _ = epoch_of(digits, batch_size=50)
    torch.manual_seed(0)
    fresh = nn.Linear(64, 10)
    images = Normalisation.of(digits).apply(digits.images).flatten(1)
    loss = nn.functional.cross_entropy(fresh(images), digits.labels)
    gradient, _ = torch.autograd.grad(loss, [fresh.weight, fresh.bias])
    torch.testing.assert_close(trained.weight, fresh.weight - 0.1 * gradient, rtol=1e-4, atol=1e-6)


def test_the_observed_outputs_are_those_before_the_update(digits):
    _, ((ids, logits, labels),) = epoch_of(digits, batch_size=50)
    torch.manual_seed(0)
    fresh = nn.Linear(64, 10)
    rows = np.argsort(digits.ids)[np.searchsorted(np.sort(digits.ids), ids)]
    images = Normalisation.of(digits).apply(digits.images[rows]).flatten(1)
    torch.testing.assert_close(logits, fresh(images), rtol=1e-4, atol=1e-5)
    assert torch.equal(labels, digits.labels[rows])


def test_an_augmentation_changes_images_and_targets_before_the_model_sees_them(digits):
    def zeros(images, targets, _):
        return torch.zeros_like(images), torch.zeros_like(targets)

    _, ((_, logits, labels),) = epoch_of(digits, batch_size=50, augment=zeros)
    assert not labels.any()
    assert torch.equal(logits, logits[:1].expand_as(logits))


def test_another_loss_may_be_minimised(digits):
    def first_logit(outputs, _):
        return outputs[:, 0].mean()

    trained, _ = epoch_of(digits, batch_size=50, loss_function=first_logit)
    torch.manual_seed(0)
    fresh = nn.Linear(64, 10)
    changed = (trained.bias - fresh.bias).detach().abs() > 1e-6
    assert changed.tolist() == [True] + [False] * 9


# ---------------------------------------------------------------- seeds and rates


def test_the_same_seed_gives_the_same_weights_and_the_same_order():
    def drawn(seed):
        generator = seed_everything(params(seed=seed))
        return torch.rand(3), torch.rand(3, generator=generator)

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))


def test_deterministic_algorithms_are_used_unless_told_otherwise():
    seed_everything(params())
    assert torch.are_deterministic_algorithms_enabled()
    seed_everything(params(deterministic=False))
    assert not torch.are_deterministic_algorithms_enabled()
    seed_everything(params())


def test_memory_is_not_written_over_before_its_use():
    torch.utils.deterministic.fill_uninitialized_memory = True
    seed_everything(params())
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.are_deterministic_algorithms_enabled()


def test_the_rate_of_an_epoch_is_set_on_every_group_of_weights():
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD([{"params": [model.weight]}, {"params": [model.bias]}], lr=1.0)
    rate = set_learning_rate(optimizer, params(learning_rate=0.5, schedule="cosine", epochs=4), 2)
    assert rate == pytest.approx(0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [rate, rate]


def test_a_cosine_schedule_ends_near_zero_and_never_rises():
    cosine = params(epochs=10, schedule="cosine", warmup_epochs=2)
    factors = [learning_rate_factor(cosine, epoch) for epoch in range(2, 10)]
    assert factors == sorted(factors, reverse=True)
    assert 0 < factors[-1] < 0.05


def test_a_triangular_schedule_rises_to_its_peak_and_falls_with_every_update():
    triangle = params(epochs=10, schedule="triangular")
    factors = [learning_rate_factor(triangle, epoch) for epoch in (0, 1.15, 2.3, 6.15, 10)]
    assert factors == pytest.approx([0.2, 0.6, 1, 0.535, 0.07])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_the_other_schedules_change_between_epochs_only(schedule):
    chosen = params(epochs=8, schedule=schedule, warmup_epochs=2)
    for epoch in range(8):
        whole = learning_rate_factor(chosen, epoch)
        assert learning_rate_factor(chosen, epoch + 0.999) == whole


def test_every_update_of_an_epoch_has_the_rate_of_the_schedule(digits):
    rates = []
    chosen = params(batch_size=20, optimizer="sgd", schedule="triangular", epochs=4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimizer = make_optimizer(model, chosen)
    train_epoch(
        model, optimizer, digits, params=chosen, compute=CPU, epoch=2,
        normalisation=Normalisation.of(digits), generator=torch.Generator().manual_seed(1),
        observe=lambda *_: rates.append(optimizer.param_groups[0]["lr"]),
    )  # fmt: skip
    factors = [learning_rate_factor(chosen, 2 + share) for share in (0, 1 / 3, 2 / 3)]
    assert rates == pytest.approx([1e-3 * factor for factor in factors])


def test_biases_learn_faster_and_decay_as_fast_as_the_weights():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    chosen = params(optimizer="sgd", learning_rate=0.5, weight_decay=0.08, bias_factor=4)
    optimizer = make_optimizer(model, chosen)
    set_learning_rate(optimizer, chosen, 0)
    rates = {
        id(weight): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    for name, weight in model.named_parameters():
        assert rates[id(weight)] == ((2.0, 0.02) if name.endswith("bias") else (0.5, 0.08))


def test_without_a_factor_all_weights_are_one_group():
    assert len(make_optimizer(nn.Linear(1, 1), params()).param_groups) == 1


def test_the_running_mean_of_the_weights_takes_their_place_every_few_updates():
    chosen = params(optimizer="sgd", lookahead=2, epochs=2)
    weight = nn.Parameter(torch.tensor([0.0]))
    optimizer, mean, values = torch.optim.SGD([weight], lr=1.0), None, []
    for done in range(1, 7):  # of 2 epochs of 3 updates
        weight.data += 1.0
        look_ahead(optimizer, chosen, done=done, per_epoch=3)
        values.append(weight.item())
    expected, value = [], 0.0
    for done in range(1, 7):
        value += 1.0
        if done % 2 == 0:
            retained = 1.0 if done == 6 else 0.95**2 * (done / 6) ** 3
            mean = value if mean is None else retained * mean + (1 - retained) * value
            value = mean
        expected.append(value)
    assert values == pytest.approx(expected)


def test_without_lookahead_the_weights_are_left_alone():
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    look_ahead(optimizer, params(), done=12, per_epoch=1)
    assert weight.item() == 3.0
    assert not optimizer.state[weight]


def test_an_epoch_looks_ahead_after_its_updates(digits):
    chosen = params(batch_size=20, optimizer="sgd", lookahead=2, epochs=1, learning_rate=0.1)

    def weights(change=None):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        optimizer = make_optimizer(model, chosen)
        step, updates = optimizer.step, []
        if change:

            def counted(*args):
                step(*args)
                updates.append(1)
                change(optimizer, len(updates))

            optimizer.step = counted
        train_epoch(
            model, optimizer, digits, params=chosen if not change else params(
                batch_size=20, optimizer="sgd", epochs=1, learning_rate=0.1
            ), compute=CPU, epoch=0, normalisation=Normalisation.of(digits),
            generator=torch.Generator().manual_seed(1), observe=lambda *_: None,
        )  # fmt: skip
        return model[1].weight.detach().clone()

    by_hand = weights(lambda o, done: look_ahead(o, chosen, done=done, per_epoch=3))
    torch.testing.assert_close(weights(), by_hand, rtol=0, atol=0)
