"""The training loop: one epoch of updates, one evaluation pass, nothing else."""

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from actiontrack.errors import ParameterError
from projects.distributed import ALONE, Group
from projects.loading import Augment, Normalisation, Split, batches
from projects.params.training import LoopParams, TrainParams

__all__ = [
    "Augmentation",
    "Compute",
    "Forward",
    "LossFunction",
    "Observe",
    "choose_compute",
    "evaluate",
    "learning_rate_factor",
    "look_ahead",
    "make_optimizer",
    "seed_everything",
    "set_learning_rate",
    "train_epoch",
]

#: Sees each batch: ids, outputs of the model, for a classifier logits (batch, n_classes) float32,
#: and the targets of the loss: labels (batch,) int64 or soft labels (batch, n_classes) float32.
Observe = Callable[[object, Tensor, Tensor], None]

#: Outputs of the model (batch, …) and targets (batch, …) to the mean loss of the batch.
LossFunction = Callable[[Tensor, Tensor], Tensor]

#: Outputs of a model on a batch, of (model, ids, images, targets).
Forward = Callable[[Any, Any, Any, Any], Any]

#: Changes images (batch, C, H, W) and targets (batch, …) of a training batch at random, together.
Augmentation = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]

PROBE_BATCH = 512
_STEP_DECAY = 0.1
_STEP_AT = (0.5, 0.75)
_PEAK_AT = 0.23  # of a triangular schedule: where it peaks, and its factors at start and end
_FIRST, _LAST = 0.2, 0.07
_FACTOR = "factor"  # of a group of weights, on the learning rate
_SLOW = "slow"  # of a weight: its mean, in the state of the optimiser
_RETAINED = 0.95  # of the mean, for each update, at the end of training


@dataclass(frozen=True)
class Compute:
    """Where and how precisely to compute."""

    device: torch.device
    autocast: bool

    def forward(self, model: nn.Module, images: Tensor) -> Tensor:
        """Logits (batch, n_classes) in float32, the pass itself in bfloat16 under autocast."""
        logits: Tensor = self.outputs(_of_images, model, None, images, None)
        return logits

    def outputs(self, forward: Forward, *batch: Any) -> Any:
        """What a function of a model and a batch gives, see `forward`; a tensor in float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            outputs = forward(*batch)
        return outputs.float() if isinstance(outputs, Tensor) else outputs


def _of_images(model: Any, ids: Any, images: Any, targets: Any) -> Any:
    del ids, targets
    return model(images)


def choose_compute(params: LoopParams) -> Compute:
    """The device and precision that the parameters ask for.

    Raises:
        ParameterError: if the device is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    name = params.device
    if name == "auto":
        name = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    elif not available.get(name, True):
        raise ParameterError(
            "device", "must be a device of this machine", name, "Pass --device auto."
        )
    autocast = params.precision == "bf16" or (params.precision == "auto" and name == "cuda")
    return Compute(torch.device(name), autocast)


def seed_everything(params: LoopParams) -> torch.Generator:
    """Seed PyTorch and choose repeatable algorithms; the generator orders and augments."""
    if params.threads:
        torch.set_num_threads(params.threads)
    if params.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(params.deterministic)
    # PyTorch would write over memory before each use. Nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(params.seed)
    return torch.Generator().manual_seed(params.seed)


def make_optimizer(model: nn.Module, params: LoopParams) -> Optimizer:
    """The optimiser that the parameters name."""
    weights, rate, decay = _weights(model, params), params.learning_rate, params.weight_decay
    if params.optimizer == "sgd":
        momentum = params.momentum
        return torch.optim.SGD(
            weights, lr=rate, weight_decay=decay, momentum=momentum, nesterov=momentum > 0
        )
    kind = torch.optim.Adam if params.optimizer == "adam" else torch.optim.AdamW
    return kind(weights, lr=rate, weight_decay=decay)


def _weights(model: nn.Module, params: LoopParams) -> Iterable[Any]:
    """What the optimiser updates: the biases by themselves where they learn faster.

    Their penalty is divided by the factor on their learning rate, so that all decay alike.
    """
    factor = params.bias_factor if isinstance(params, TrainParams) else 1.0
    if factor == 1:
        return model.parameters()
    named = list(model.named_parameters())
    biases = [weight for name, weight in named if name.endswith("bias")]
    others = [weight for name, weight in named if not name.endswith("bias")]
    decay = params.weight_decay / factor
    return [{"params": others}, {"params": biases, _FACTOR: factor, "weight_decay": decay}]


def learning_rate_factor(params: LoopParams, epoch: float) -> float:
    """Factor on the learning rate after `epoch` epochs, whole ones and a part of the next.

    Linear warm-up, then constant, cosine to 0, or a tenth after 50 % and again after 75 %: these
    change between epochs only. Triangular: with every update, up to the peak and down again.
    """
    if params.schedule == "triangular":
        return float(np.interp(epoch / params.epochs, (0, _PEAK_AT, 1), (_FIRST, 1, _LAST)))
    epoch = math.floor(epoch)
    if epoch < params.warmup_epochs:
        return (epoch + 1) / (params.warmup_epochs + 1)
    done = (epoch - params.warmup_epochs) / (params.epochs - params.warmup_epochs)
    if params.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if params.schedule == "step":
        return float(_STEP_DECAY ** sum(done >= share for share in _STEP_AT))
    return 1.0


def set_learning_rate(optimizer: Optimizer, params: LoopParams, epoch: float) -> float:
    """Set the learning rate after `epoch` epochs, see `learning_rate_factor`, and return it."""
    rate = params.learning_rate * learning_rate_factor(params, epoch)
    for weights in optimizer.param_groups:
        weights["lr"] = rate * weights.get(_FACTOR, 1.0)
    return rate


@torch.no_grad()
def look_ahead(optimizer: Optimizer, params: LoopParams, *, done: int, per_epoch: int) -> None:
    """Every few updates, put the running mean of the weights in their place.

    Lookahead (Zhang et al. 2019) as Jordan 2024 has it: the mean forgets all but the last updates
    at the start of training and goes back ever farther; after the last update it stays.

    Args:
        optimizer: holds the means in its state, so that a checkpoint has them.
        params: with ``lookahead``, the number of updates between; 0 for none.
        done: updates so far.
        per_epoch: updates of an epoch.
    """
    every = params.lookahead if isinstance(params, TrainParams) else 0
    total = params.epochs * per_epoch
    if not every or (done % every and done < total):
        return
    retained = _RETAINED**every * (done / total) ** 3 if done < total else 1.0
    for group in optimizer.param_groups:
        for weight in group["params"]:
            state = optimizer.state[weight]
            if _SLOW not in state:
                state[_SLOW] = weight.detach().clone()
            state[_SLOW].lerp_(weight, 1 - retained)
            weight.copy_(state[_SLOW])


def train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    split: Split,
    *,
    params: LoopParams,
    compute: Compute,
    normalisation: Normalisation,
    generator: torch.Generator,
    observe: Observe,
    group: Group = ALONE,
    loss_function: LossFunction = nn.functional.cross_entropy,
    augment: Augmentation | None = None,
    epoch: int | None = None,
    forward: Forward = _of_images,
) -> float:
    """Update the model on every training image once, each batch shared by the group.

    With the number of the `epoch`, from 0, every update has the learning rate of the schedule, and
    `look_ahead` follows it; without, the optimiser's own rate.

    The default loss is the cross-entropy with the labels or, where there are some, with the soft
    labels: eq. 6, the KL divergence of eq. 4 plus the soft label's entropy, which training doesn't
    change.

    Returns:
        Seconds that it took.
    """
    model.train()
    start = time.monotonic()
    n_batches = group.n_batches(len(split), params.batch_size)
    order = batches(
        split,
        batch_size=params.batch_size,
        normalisation=normalisation,
        shuffle=True,
        generator=generator,
        device=compute.device,
        augment=_augment(params),
        group=group,
    )
    for position, (ids, *batch) in enumerate(order):
        if epoch is not None:
            set_learning_rate(optimizer, params, epoch + position / n_batches)
        images, targets = augment(batch[0], batch[1], generator) if augment else batch
        logits = compute.outputs(forward, model, ids, images, targets)
        loss = loss_function(logits, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if epoch is not None:
            look_ahead(
                optimizer, params, done=epoch * n_batches + position + 1, per_epoch=n_batches
            )
        observe(ids, logits, targets)
    return time.monotonic() - start


def _augment(params: LoopParams) -> Augment:
    return params.augment if isinstance(params, TrainParams) else "none"


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    split: Split,
    *,
    compute: Compute,
    normalisation: Normalisation,
    observe: Observe,
    group: Group = ALONE,
    batch_size: int = PROBE_BATCH,
    forward: Forward = _of_images,
) -> None:
    """Evaluation pass (section 4.1): eval mode, no augmentation, the split's own order."""
    model.eval()
    for ids, images, targets in batches(
        split,
        batch_size=batch_size,
        normalisation=normalisation,
        device=compute.device,
        group=group,
    ):
        observe(ids, compute.outputs(forward, model, ids, images, targets), targets)
