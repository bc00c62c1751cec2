"""The writer of a process whose columns go to another one: its methods do nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from actiontrack.record.samples import Samples
from actiontrack.recorder.attachments import Attachment
from actiontrack.recorder.epoch import EpochRows
from actiontrack.recorder.steps import Epoch, EpochSummary
from actiontrack.store import Store

__all__ = ["NullWriter"]


class NullWriter:
    """The writer of a process that does not write.

    Attributes:
        writes: whether anything is written.
        run_id: the MLflow run, or None.
        tracking_uri: its tracking server, or None.
        folder: the record in the spool, or None.
        left_out: steps that were kept apart.
        error: why the last attempt to upload failed, or empty.
        refused: why nothing is uploaded any more, or empty.
    """

    writes = False
    run_id: str | None = None
    tracking_uri: str | None = None
    folder: Path | None = None
    left_out: frozenset[int] | set[int] = frozenset()
    error = ""
    refused = ""

    @property
    def synced(self) -> bool:
        """Whether everything recorded so far is in the artifact store."""
        return True

    @property
    def last_step(self) -> int | None:
        """Number of the last recorded step, or None."""
        return None

    @property
    def notes(self) -> Mapping[str, str]:
        """Remarks on the record, see `note`."""
        return {}

    def write_epoch(self, epoch: Epoch) -> EpochSummary | None:
        """Write one epoch, or keep it apart if it is partial."""
        del epoch
        return None

    def check_not_empty(self, step: int) -> None:
        """Refuse an epoch without a sample, where it would be written."""

    def declare(self, samples: Samples) -> None:
        """Fix the samples before the first epoch."""

    def keep_attributes(self, attributes: pd.DataFrame) -> None:
        """Keep attributes of the samples beside the record."""

    def note(self, name: str, text: str) -> None:
        """Keep a remark in the manifest."""

    def holds(self, path: str) -> bool:
        """Whether the record has an optional file."""
        del path
        return True

    def attach(self, attachment: Attachment) -> None:
        """Write an optional file of the record."""

    def add_maps(self, ids: Any, maps: Any) -> None:
        """Keep the maps of a batch, for the present epoch."""

    def discard_maps(self) -> None:
        """Drop the maps since the last epoch."""

    def count_interrupted(self, rows: EpochRows) -> None:
        """Count the samples of an epoch that will not be ended."""

    def notices(self) -> list[str]:
        """What the user is to be warned about since the last call."""
        return []

    def finish(self, attach: Callable[[pd.DataFrame], None] | None = None) -> None:
        """Write the scores and mark the record complete."""

    def close(
        self, *, complete: bool, uploaded: Callable[[Path, Store, str], None] | None = None
    ) -> bool:
        """Wait for the upload and end it. Returns whether everything is uploaded."""
        del complete, uploaded
        return True
