"""The loss that a LightningModule reports of the samples that are recorded."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from actiontrack.recorder.lightning_pass import state_of
from actiontrack.recorder.loss_check import LossCheck
from actiontrack.recorder.recorder import EpochSummary, Recorder
from actiontrack.recorder.torch import gather

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

__all__ = ["ReportedLoss"]

#: Under which names `validation_step` logs its loss.
_LOGGED = frozenset(
    f"{stage}{separator}loss" for stage in ("val", "valid", "validation") for separator in "_/"
) | {"loss/val", "loss/valid", "loss/validation"}

_REMEDY = (
    "The recorded losses come from other inputs, weights or outputs than that step's: pass forward "
    "and extract that do what it does, or record its own pass. If it adds smoothing, class weights "
    "or other terms to the plain loss, pass loss_check=False."
)


class ReportedLoss:
    """Mean loss of one pass as the module's own step returns or logs it.

    Nothing is copied from the device before `compare`.

    Args:
        step_name: "validation_step" or "training_step".
    """

    def __init__(self, step_name: str) -> None:
        self.step_name = step_name
        self.forget()

    def forget(self) -> None:
        """Begin a pass anew."""
        self._losses: list[Any] = []
        self._sizes: list[int] = []
        self._usable = True
        self._logged: float | None = None
        self._state: tuple[Any, ...] = ()

    def add(self, outputs: Any, batch: Any, scale: float = 1.0) -> None:
        """Keep what a step returned of one batch.

        Args:
            outputs: of the step: its mean loss, or a mapping with "loss", else nothing is kept.
            batch: as the step got it.
            scale: by which Lightning has divided the loss.
        """
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        size = _n_samples(batch)
        self._sizes.append(size or 0)
        if size is None or not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            self._usable = False
        else:
            self._losses.append(loss.detach().reshape(()) * scale)

    def ends(self, trainer: "Trainer", dataloader_idx: int | None = None) -> None:
        """Remember the state in which the pass ended, and what was logged.

        Args:
            trainer: the trainer.
            dataloader_idx: of the loader, where there are several; Lightning adds it to the name.
        """
        suffix = "" if dataloader_idx is None else f"/dataloader_idx_{dataloader_idx}"
        names = [f"{name}{suffix}" for name in _LOGGED]
        values = [
            trainer.callback_metrics[name] for name in names if name in trainer.callback_metrics
        ]
        # One process logs the mean of its own samples, unless the user asks for that of all.
        self._logged = float(values[0]) if len(values) == 1 and trainer.world_size == 1 else None
        self._state = state_of(trainer)

    def compare(self, trainer: "Trainer", recorder: Recorder, summary: EpochSummary | None) -> None:
        """Compare with a step that was recorded, if it is of the same samples and weights.

        Every process has to call it, as it gathers.
        """
        reported, n_samples = self._mean(trainer)
        if summary is None or reported is None or self._state != state_of(trainer):
            return
        if n_samples == summary.n_seen:
            check = LossCheck(recorder, source=self.step_name, remedy=_REMEDY)
            check.compare_summary(summary, reported, precision=_precision(trainer))

    def _mean(self, trainer: "Trainer") -> tuple[float | None, int]:
        n_samples = sum(self._sizes)
        total = np.nan
        if self._usable and self._losses:
            losses = torch.stack(self._losses).double().cpu()
            total = float(losses @ torch.tensor(self._sizes, dtype=torch.float64))
        known = self._usable and bool(self._losses)
        if trainer.world_size > 1:
            share = {
                "total": np.array([total]),
                "n": np.array([n_samples]),
                "known": np.array([known]),
            }
            parts = gather(share) or []
            known = bool(parts) and all(part["known"][0] for part in parts)
            total = sum(float(part["total"][0]) for part in parts)
            n_samples = sum(int(part["n"][0]) for part in parts)
        if known and n_samples:
            return total / n_samples, n_samples
        return self._logged, n_samples


def _n_samples(batch: Any) -> int | None:
    """Number of samples of a batch: the length of its first tensor."""
    if isinstance(batch, torch.Tensor):
        return len(batch) if batch.ndim else None
    parts = list(batch.values()) if isinstance(batch, Mapping) else batch
    if not isinstance(parts, list | tuple):
        return None
    return next((size for size in map(_n_samples, parts) if size is not None), None)


def _precision(trainer: "Trainer") -> str:
    """The type in which the model computes, see `loss_check.differs`."""
    name = str(trainer.precision)
    if "bf16" in name or "transformer-engine" in name:
        return "bfloat16"
    fast = (
        torch.get_float32_matmul_precision() != "highest" or torch.backends.cuda.matmul.allow_tf32
    )
    on_gpu = trainer.strategy.root_device.type != "cpu"
    if name.startswith("16") or (fast and on_gpu):  # TensorFloat32 has float16's mantissa
        return "float16"
    return "float32"
