"""Training in several processes: `torchrun … -m projects.train`, gloo on CPUs and NCCL on GPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from actiontrack.recorder.epoch import Gather
from actiontrack.recorder.torch import gather

__all__ = ["ALONE", "Group", "process_group"]


@dataclass(frozen=True)
class Group:
    """This process among those that train together."""

    rank: int
    size: int

    @property
    def is_main(self) -> bool:
        """Whether this process speaks to the tracking server."""
        return self.rank == 0

    @property
    def gather(self) -> Gather | None:
        """What a recorder needs to collect every process's losses; None alone."""
        return gather if self.size > 1 else None

    def n_batches(self, n_samples: int, batch_size: int) -> int:
        """Number of batches in which `n_samples` come."""
        return len(self.share(torch.arange(n_samples), batch_size))

    def share(self, order: Tensor, batch_size: int) -> list[Tensor]:
        """This process's part of each batch, the same number of samples for every process.

        Samples are dealt in turns; the last batch is filled up with the first samples, as
        samplers do, which recorders drop again by id.

        Args:
            order: (n,) positions, the same on every process.
            batch_size: samples of a batch over all processes.
        """
        if self.size == 1:
            return list(torch.split(order, batch_size))
        padding = -len(order) % self.size
        order = torch.cat([order, order.repeat(-(-padding // len(order)))[:padding]])
        dealt = -(-batch_size // self.size) * self.size
        return [batch[self.rank :: self.size] for batch in torch.split(order, dealt)]


ALONE = Group(rank=0, size=1)


@contextmanager
def process_group() -> Iterator[Group]:
    """The group that torchrun has set up, or this process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
