"""Epochs that did not see every sample: kept apart, so that they cost no sample its score.

A sum over fewer steps would make a sample look easy, so that a sample which misses a recorded step
has no score. An epoch that training has begun or left in the middle would cost half of the samples
theirs. It is therefore counted in the manifest and summed for nobody. Where the next epoch lacks
the very same samples, these are gone for good: then both epochs are recorded.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from actiontrack.record.manifest import Manifest
from actiontrack.recorder.steps import Epoch

__all__ = ["PartialEpochs"]


@dataclass
class PartialEpochs:
    """The partial epochs of one record.

    Attributes:
        left_out: steps that were kept apart.
        pending: the latest one, until another epoch shows what it was.
    """

    left_out: set[int] = field(default_factory=set)
    pending: Epoch | None = None
    _shrunk: "npt.NDArray[np.generic] | None" = None

    @classmethod
    def of(cls, manifest: Manifest) -> "PartialEpochs":
        """Those that the manifest of a record tells of."""
        step = (manifest.partial or {}).get("step")
        return cls(set() if step is None else {int(step)})

    def is_partial(self, epoch: Epoch, *, is_first: bool, n_samples: int, allowed: bool) -> bool:
        """Whether an epoch is to be kept apart.

        Args:
            epoch: the epoch.
            is_first: whether the record has no step yet.
            n_samples: samples of the record.
            allowed: whether epochs need not see every sample.
        """
        if epoch.partial is not None:
            return epoch.partial
        return not (is_first or allowed or epoch.rows.ids.size == n_samples)

    def gone_for_good(self, epoch: Epoch) -> list[Epoch] | None:
        """The epochs to record after all, where this one lacks the samples that the last one did.

        Returns:
            They and this one in order, or None if this one is to be kept apart.
        """
        if epoch.partial:
            return None
        if self._shrunk is not None and np.array_equal(self._shrunk, epoch.rows.ids):
            return [epoch]
        before = self.pending
        if before is None or before.partial or not np.array_equal(before.rows.ids, epoch.rows.ids):
            return None
        if epoch.numbered and epoch.step <= before.step:
            return None  # the same epoch once more
        self._shrunk = epoch.rows.ids
        return [before, epoch.at_step(max(epoch.step, before.step + 1))]

    def keep_apart(self, epoch: Epoch, *, has_maps: bool) -> None:
        """Remember a partial epoch; its maps are not kept, so that it can't come back with them."""
        self.left_out.add(epoch.step)
        self.pending = None if has_maps else epoch

    def recorded(self, step: int) -> None:
        """A step was recorded: what was pending before it stays apart."""
        self.left_out.discard(step)
        self.pending = None
