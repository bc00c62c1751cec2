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


def blocks_digest(record):
    """Digest of the files of losses."""
    digest = hashlib.sha256()
    for step in record.manifest.steps:
        if step.step:
            digest.update(record.manifest.files[f"blocks/{step.step:06d}.parquet"].sha256.encode())
    return digest.hexdigest()
