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
    make_optimizer,
    seed_everything,
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
