"""Checkpoints: all that makes a resumed training repeat what an uninterrupted one does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from actiontrack.errors import DataError, StoreError

__all__ = ["Checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """A file that holds weights, optimiser, random states and the number of epochs done.

    Attributes:
        path: the file, replaced in one atomic step.
    """

    path: Path

    def save(
        self, epoch: int, model: nn.Module, optimizer: Optimizer, generator: torch.Generator
    ) -> None:
        """Save the state after `epoch` epochs.

        Raises:
            StoreError: if the file can't be written.
        """
        state = {
            "epoch": epoch,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(),
            "random": torch.get_rng_state(),
        }
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, temporary)
            temporary.replace(self.path)
        except (OSError, RuntimeError) as error:
            raise StoreError(f"cannot write the checkpoint {self.path}: {error}") from error

    def load(self, model: nn.Module, optimizer: Optimizer, generator: torch.Generator) -> int:
        """Restore the state, if there is one.

        Returns:
            Epochs done, 0 without a checkpoint.

        Raises:
            DataError: if the file is damaged or belongs to another model.
        """
        if not self.path.exists():
            return 0
        try:
            state: dict[str, Any] = torch.load(self.path, weights_only=True, map_location="cpu")
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            generator.set_state(state["generator"])
            torch.set_rng_state(state["random"])
            return int(state["epoch"])
        except Exception as error:
            raise DataError(
                f"the checkpoint {self.path} is damaged or belongs to another model: "
                f"{(str(error) or type(error).__name__).splitlines()[0]} Delete it to start again."
            ) from error
