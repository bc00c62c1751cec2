"""What becomes of an epoch: checked, written to the spool, handed to the upload."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import BaseFileLock

from actiontrack.errors import RecordingError, StoreError
from actiontrack.history import MEASURES
from actiontrack.record.paths import check_name
from actiontrack.record.samples import Samples
from actiontrack.record.steps import StepEntry
from actiontrack.recorder.attachments import Attachment
from actiontrack.recorder.checks import check_class_indices
from actiontrack.recorder.described import spool_attributes
from actiontrack.recorder.epoch import EpochRows, first_ids, scatter
from actiontrack.recorder.maps import PixelMaps
from actiontrack.recorder.null_writer import NullWriter
from actiontrack.recorder.options import Options
from actiontrack.recorder.packer import pack
from actiontrack.recorder.partial import PartialEpochs
from actiontrack.recorder.precision import at_precision
from actiontrack.recorder.roster import Roster
from actiontrack.recorder.spool import Spool, StepMetrics
from actiontrack.recorder.steps import Epoch, EpochSummary, seen_values, summarise
from actiontrack.recorder.uploader import Uploader
from actiontrack.store import Store

__all__ = ["SpoolWriter"]

logger = logging.getLogger("actiontrack")


class SpoolWriter(NullWriter):
    """Writes one record to its spool, from where a thread uploads it.

    Args:
        spool: the record on local disk.
        uploader: carries it to the run.
        lock: held while the record is written.
        options: how the recorder takes what it is given.
        maps: sums of the losses of pixels, where they are recorded.
        partial: epochs that were kept apart before.
        release: called at the end where the record has no epoch: another process may begin it.
    """

    writes = True

    def __init__(
        self,
        spool: Spool,
        uploader: Uploader,
        lock: BaseFileLock,
        options: Options,
        *,
        maps: PixelMaps | None,
        partial: PartialEpochs,
        release: Callable[[], None],
    ) -> None:
        self.spool, self.uploader, self.maps = spool, uploader, maps
        self.name, self.folder = spool.manifest.name, spool.folder
        self.run_id = uploader.destination.run_id
        self.tracking_uri = uploader.destination.tracking_uri
        self.roster = Roster(self.name)
        self.roster.restore(spool)
        self._partial, self._lock, self._options = partial, lock, options
        self._release = release
        self._notes: dict[str, str] = {}
        self._notices: list[str] = []
        self._n_classes: int | None = None
        self._told_missing = False

    @property
    def left_out(self) -> set[int]:  # type: ignore[override]
        """Steps that were kept apart, which are no gap in the record."""
        return self._partial.left_out

    @property
    def error(self) -> str:  # type: ignore[override]
        """Why the last attempt to upload failed, or empty."""
        return self.uploader.error

    @property
    def refused(self) -> str:  # type: ignore[override]
        """Why nothing is uploaded any more, or empty."""
        return self.uploader.refused

    @property
    def synced(self) -> bool:
        """Whether everything recorded so far is in the artifact store."""
        return self.uploader.drain(0)

    @property
    def last_step(self) -> int | None:
        """Number of the last recorded step, or None."""
        return self.spool.last_step

    @property
    def notes(self) -> Mapping[str, str]:
        """Remarks on the record, see `note`."""
        return {**(self.spool.manifest.notes or {}), **self._notes}

    def write_epoch(self, epoch: Epoch) -> EpochSummary | None:
        """Write one epoch, or keep it apart if it is partial.

        Raises:
            RecordingError: if ids are repeated, missing or unknown, or labels are not those of
                before; the record is as it was.
            StoreError: if the disk is full.
        """
        epoch = self._checked(epoch)
        if epoch.partial and not self.spool.steps:
            return self._keep_apart(epoch, dict(epoch.rows.columns))
        self.roster.settle(epoch.rows, self.spool)
        columns = self._columns(epoch)
        is_partial = self._partial.is_partial(
            epoch,
            is_first=not self.spool.steps,
            n_samples=self.roster.settled_ids().size,
            allowed=self._options.allow_missing,
        )
        if not is_partial:
            return self._record(epoch, columns)
        epochs = self._partial.gone_for_good(epoch)
        if epochs is None:
            return self._keep_apart(epoch, columns)
        self._tell_missing(epochs[0])
        return [self._record(part, self._columns(part)) for part in epochs][-1]

    def check_not_empty(self, step: int) -> None:
        """Refuse an epoch without a sample.

        Raises:
            RecordingError: always.
        """
        raise RecordingError(
            f"epoch {step} of record {self.name} is empty. Call update for every batch first."
        )

    def declare(self, samples: Samples) -> None:
        """Fix the samples before the first epoch, see `Roster.declare`."""
        self.roster.declare(samples, self.spool.manifest)

    def keep_attributes(self, attributes: pd.DataFrame) -> None:
        """Keep attributes of the samples beside the record; they are uploaded with its next change.

        Raises:
            StoreError: if the disk is full.
        """
        spool_attributes(self.spool.folder, attributes)

    def note(self, name: str, text: str) -> None:
        """Keep a remark in the manifest; before the first epoch it is written with that one."""
        if self.notes.get(check_name("note", name)) == text:
            return
        self._notes[name] = text
        if self.spool.steps:
            self.spool.update(notes=dict(self.notes))
            self.uploader.submit()

    def holds(self, path: str) -> bool:
        """Whether the record has an optional file."""
        return path in self.spool.manifest.files

    def attach(self, attachment: Attachment) -> None:
        """Write an optional file of the record.

        Raises:
            RecordingError: if it is of other samples.
            ParameterError: if it is not what it must be.
            StoreError: if the disk is full.
        """
        n_classes = len(self.spool.manifest.class_names) or self._n_classes
        entry = attachment.write(self.spool.folder, self.roster, n_classes)
        self.spool.add_file(attachment.path, entry)
        self.uploader.submit()

    def add_maps(self, ids: Any, maps: Any) -> None:
        """Keep the maps of a batch, for the present epoch, see `PixelMaps.add`."""
        if self.maps is not None:
            self.maps.add(ids, maps, duplicates=str(self._options.duplicates))

    def discard_maps(self) -> None:
        """Drop the maps since the last epoch."""
        if self.maps is not None:
            self.maps.discard()

    def count_interrupted(self, rows: EpochRows) -> None:
        """Count the samples of an epoch that will not be ended."""
        if self.spool.manifest.n_samples:
            step = 1 if self.last_step is None else self.last_step + 1
            self.spool.update(partial={"step": step, "n_seen": int(rows.ids.size)})
            self.uploader.submit()

    def notices(self) -> list[str]:
        """What the user is to be warned about since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def finish(self, attach: Callable[[pd.DataFrame], None] | None = None) -> None:
        """Write the scores and mark the record complete.

        A record whose only epoch is partial holds that one after all.

        Args:
            attach: see `Spool.complete`.

        Raises:
            StoreError: if the disk is full.
        """
        pending = self._partial.pending
        if pending is not None and not self.spool.steps:
            self._record_only(pending)
        if not self.spool.steps:
            logger.warning(
                "record %s of run %s got no epoch: nothing is recorded. Call update for every "
                "batch and end_epoch after each epoch.",
                *(self.name, self.run_id),
            )
            return
        self._write_maps(complete=True)
        pack(self.spool, all_small=True)
        self.spool.complete(attach)
        self.uploader.submit()

    def close(
        self, *, complete: bool, uploaded: Callable[[Path, Store, str], None] | None = None
    ) -> bool:
        """Wait for the upload and end it.

        Args:
            complete: whether the record is finished.
            uploaded: called with the folder, the tracking server and the id of the run once all
                of a finished record is uploaded, before the folder is deleted.

        Returns:
            Whether everything is uploaded.
        """
        if not complete:
            try:
                self._write_maps(complete=False)
                if self.spool.steps:
                    pack(self.spool, all_small=True)
                    self.uploader.submit()
            except StoreError as error:  # the losses are safe all the same
                logger.warning("record %s: its maps are not written: %s", self.name, error)
        patience = self._options.patience
        synced = self.uploader.close(patience)
        if not self.spool.steps:
            self._release()
        if synced and complete and uploaded is not None and self.spool.steps:
            uploaded(self.spool.folder, self.uploader.store, self.uploader.destination.run_id)
        if synced:
            self.spool.remove()
        self.spool.close()
        self._lock.release()
        if not synced:
            reason = self.error or (
                f"the upload took longer than {patience:g} seconds, the patience of the recorder."
            )
            logger.warning(
                "record %s is not uploaded: %s It is safe in %s: upload it with "
                "'actiontrack sync %s'.",
                *(self.name, reason, self.folder, self.folder),
            )
        return synced

    # How

    def _checked(self, epoch: Epoch) -> Epoch:
        """The epoch, with labels as class indices, if it may be recorded at all."""
        rows, manifest = epoch.rows, self.spool.manifest
        if rows.n_duplicates and self._options.duplicates == "error":
            raise RecordingError(
                f"ids: {rows.repeated.size} are repeated in epoch {epoch.step} of record "
                f"{self.name}: {first_ids(rows.repeated)}. Visit each sample once per epoch, or "
                "pass duplicates='first'."
            )
        self.roster.check_kind(rows.ids, epoch.step)
        if not (self.spool.steps or self._options.allow_missing or epoch.partial):
            self.roster.check_all_seen(rows.ids, epoch.step)
        labels = check_class_indices(rows, epoch.n_classes, manifest.class_names)
        self._n_classes = epoch.n_classes
        if labels is None:
            return epoch
        columns = {**rows.columns, "label": labels}
        return replace(epoch, rows=replace(rows, columns=columns))

    def _columns(self, epoch: Epoch) -> dict[str, Any]:
        """Columns in canonical order, masked where a sample was not seen, without the labels."""
        columns, _ = scatter(epoch.rows, self.roster.settled_ids())
        self.roster.check_labels(columns.pop("label", None))
        return at_precision(columns, self.spool.manifest.precision)

    def _record(self, epoch: Epoch, columns: dict[str, Any]) -> EpochSummary:
        step, before = epoch.step, self._step_before(epoch.step)
        self._check_columns(step, columns)
        if self.maps is not None:
            self.maps.check(epoch.rows.ids, step, before)
        if self.spool.truncate(step):
            self.uploader.submit()
        if self.maps is not None:
            self.maps.commit(step, epoch.delta, before)
        entry = _entry(epoch, columns)
        changes = {} if self.spool.steps else self._of_first_epoch(epoch, columns)
        self.spool.add_step(entry, columns, partial=None, **changes)
        self._partial.recorded(step)
        summary = summarise(entry, self.roster.settled_ids().size, columns)
        self._log(step, {**epoch.metrics, **summary.metrics(self.name)})
        return summary

    def _check_columns(self, step: int, columns: Mapping[str, Any]) -> None:
        manifest = self.spool.manifest
        missing = {*manifest.measures, *manifest.components} - columns.keys()
        if self.spool.steps and missing:
            raise RecordingError(
                f"update: epoch {step} of record {self.name} lacks {', '.join(sorted(missing))}, "
                "which earlier epochs brought. Pass the same arguments in every epoch."
            )

    def _keep_apart(self, epoch: Epoch, columns: dict[str, Any]) -> EpochSummary:
        """Count a partial epoch; a whole one of its number is more than it, and stays."""
        entry = _entry(epoch, columns)
        if self.spool.truncate(epoch.step + 1):
            self.uploader.submit()
        self._partial.keep_apart(epoch, has_maps=self.maps is not None)
        if self.spool.steps:
            self.spool.update(partial={"step": epoch.step, "n_seen": entry.n_seen})
            self._log(epoch.step, epoch.metrics)
        n_samples = epoch.n_samples or self.spool.manifest.n_samples or entry.n_seen
        self._notices.append(self._kept_apart(epoch, entry.n_seen, n_samples))
        return summarise(entry, n_samples, columns, partial=True)

    def _kept_apart(self, epoch: Epoch, n_seen: int, n_samples: int) -> str:
        held = f"{n_seen} of {n_samples} samples" if n_samples > n_seen else f"{n_seen} samples"
        text = (
            f"epoch {epoch.step} of record {self.name} is partial, it holds {held}: it is kept "
            "apart, and no score includes it, as it would cost the others theirs."
        )
        missing = self.roster.missing(epoch.rows.ids)
        if epoch.partial or not missing.size:
            return text
        return (
            f"{text} Missing are {first_ids(missing)}. To record such epochs all the same, pass "
            "allow_missing=True: these samples have no action then."
        )

    def _record_only(self, epoch: Epoch) -> None:
        n_seen = int(epoch.rows.ids.size)
        whole = f"{n_seen} of {epoch.n_samples}" if epoch.n_samples else f"the {n_seen}"
        self.roster.settle(epoch.rows, self.spool)
        self._record(epoch, self._columns(epoch))
        self._notices.append(
            f"record {self.name} holds {whole} samples that training came to before it ended "
            "inside its first epoch. The others are not in it."
        )

    def _tell_missing(self, epoch: Epoch) -> None:
        if self._told_missing:
            return
        self._told_missing = True
        missing = self.roster.missing(epoch.rows.ids)
        self._notices.append(
            f"{missing.size} samples are missing from record {self.name} from epoch {epoch.step} "
            f"on: {first_ids(missing)}. They have no action, as a shorter sum would make them "
            "look easy."
        )

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        aggregates = None
        if values:
            aggregates = StepMetrics(step, int(time.time() * 1000), dict(values))
            self.spool.add_metrics(aggregates)
        self.uploader.submit(metrics=aggregates)

    def _of_first_epoch(self, epoch: Epoch, columns: Mapping[str, Any]) -> dict[str, Any]:
        measures = tuple(name for name in MEASURES if name in columns)
        return {
            "measures": measures,
            "components": tuple(sorted(columns.keys() - {*measures, "loss"})),
            "loss_name": epoch.loss_name,
            "notes": dict(self.notes) or None,
        }

    def _step_before(self, step: int) -> int | None:
        """The recorded step that an epoch follows; those from its number on are replaced."""
        return next((entry.step for entry in reversed(self.spool.steps) if entry.step < step), None)

    def _write_maps(self, *, complete: bool) -> None:
        if self.maps is None or not self.spool.steps:
            return
        self.maps.write(self.spool, complete=complete)
        if complete:
            self.maps.remove()
        self.uploader.submit()


def _entry(epoch: Epoch, columns: Mapping[str, Any]) -> StepEntry:
    loss = seen_values(columns["loss"])
    n_nonfinite = int((~np.isfinite(loss)).sum())
    rows = epoch.rows
    return StepEntry(epoch.step, epoch.delta, int(rows.ids.size), n_nonfinite, rows.n_duplicates)
