"""The training loop: one epoch of updates, one evaluation pass, nothing else."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from actiontrack.errors import ParameterError
from projects.datasets import ImageSplit
from projects.distributed import ALONE, Group
from projects.loading import Normalisation, batches
from projects.params import TrainParams

__all__ = [
    "Compute",
    "Observe",
    "choose_compute",
    "evaluate",
    "learning_rate_factor",
    "make_optimizer",
    "seed_everything",
    "train_epoch",
]

#: Sees each batch: ids, logits (batch, n_classes) float32 and labels (batch,).
Observe = Callable[[object, Tensor, Tensor], None]

PROBE_BATCH = 512
_STEP_DECAY = 0.1
_STEP_AT = (0.5, 0.75)


@dataclass(frozen=True)
class Compute:
    """Where and how precisely to compute."""

    device: torch.device
    autocast: bool

    def forward(self, model: nn.Module, images: Tensor) -> Tensor:
        """Logits (batch, n_classes) in float32, the pass itself in bfloat16 under autocast."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            logits: Tensor = model(images)
        return logits.float()


def choose_compute(params: TrainParams) -> Compute:
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


def seed_everything(params: TrainParams) -> torch.Generator:
    """Seed PyTorch and choose repeatable algorithms; the generator orders and augments."""
    if params.threads:
        torch.set_num_threads(params.threads)
    if params.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(params.deterministic)
    torch.manual_seed(params.seed)
    return torch.Generator().manual_seed(params.seed)


def make_optimizer(model: nn.Module, params: TrainParams) -> Optimizer:
    """The optimiser that the parameters name."""
    weights, rate, decay = model.parameters(), params.learning_rate, params.weight_decay
    if params.optimizer == "sgd":
        momentum = params.momentum
        return torch.optim.SGD(
            weights, lr=rate, weight_decay=decay, momentum=momentum, nesterov=momentum > 0
        )
    kind = torch.optim.Adam if params.optimizer == "adam" else torch.optim.AdamW
    return kind(weights, lr=rate, weight_decay=decay)


def learning_rate_factor(params: TrainParams, epoch: int) -> float:
    """Factor on the learning rate in `epoch`, counted from 0.

    Linear warm-up, then constant, cosine to 0, or a tenth after 50 % and again after 75 %.
    """
    if epoch < params.warmup_epochs:
        return (epoch + 1) / (params.warmup_epochs + 1)
    done = (epoch - params.warmup_epochs) / (params.epochs - params.warmup_epochs)
    if params.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if params.schedule == "step":
        return float(_STEP_DECAY ** sum(done >= each for each in _STEP_AT))
    return 1.0


def train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    split: ImageSplit,
    *,
    params: TrainParams,
    compute: Compute,
    normalisation: Normalisation,
    generator: torch.Generator,
    observe: Observe,
    group: Group = ALONE,
) -> float:
    """Update the model on every training image once, each batch shared by the group.

    Returns:
        Seconds that it took.
    """
    model.train()
    start = time.monotonic()
    for ids, images, labels in batches(
        split,
        batch_size=params.batch_size,
        normalisation=normalisation,
        shuffle=True,
        generator=generator,
        device=compute.device,
        augment=params.augment,
        group=group,
    ):
        logits = compute.forward(model, images)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        observe(ids, logits, labels)
    return time.monotonic() - start


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    split: ImageSplit,
    *,
    compute: Compute,
    normalisation: Normalisation,
    observe: Observe,
    group: Group = ALONE,
) -> None:
    """Evaluation pass (section 4.1): eval mode, no augmentation, the split's own order."""
    model.eval()
    for ids, images, labels in batches(
        split,
        batch_size=PROBE_BATCH,
        normalisation=normalisation,
        device=compute.device,
        group=group,
    ):
        observe(ids, compute.forward(model, images), labels)
