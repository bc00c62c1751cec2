"""A training that was done once."""

import hashlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trained:
    """A finished run, where it is, and the task that it was of."""

    store: Any
    run: Any
    task: Any

    def record(self, name=None):
        return self.store.open_record(self.run, name)

    @property
    def folder(self):
        """Folder of the run's artifacts."""
        return self.store.local_root(self.run)

    @property
    def metrics(self):
        """The latest value of each metric, as the server has it."""
        return self.store._client.get_run(self.run.run_id).data.metrics


def losses_digest(record):
    """Digest of all that was recorded of the steps from 1 on, bit by bit."""
    history, digest = record.history(), hashlib.sha256()
    rows = history.steps > 0
    for name, grid in (
        *(("steps", history.steps), ("deltas", history.deltas)),
        *(("losses", history.losses), ("seen", history.seen)),
        *history.measures.items(),
        *history.components.items(),
    ):
        digest.update(name.encode() + grid[rows].tobytes())
    return digest.hexdigest()
