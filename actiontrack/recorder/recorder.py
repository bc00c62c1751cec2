"""The recorder: batches in, one row per sample and epoch out, never waiting for the server."""

import contextlib
import json
import logging
import os
import platform
import secrets
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack._version import __version__
from actiontrack.errors import (
    ActionTrackError,
    NotFoundError,
    ParameterError,
    RecordingError,
    StoreError,
)
from actiontrack.history import DELTA_KINDS, MEASURES, MODES, check_choice
from actiontrack.record.digest import digest_ids, digest_inputs, digest_labels
from actiontrack.record.disk import FileEntry
from actiontrack.record.manifest import Manifest, StepEntry, check_fields
from actiontrack.record.paths import (
    BOXES,
    FEATURES,
    PROBABILITIES,
    SAMPLES,
    THUMBNAILS,
    check_name,
    picture_path,
)
from actiontrack.record.pictures import write_boxes, write_pictures, write_thumbnails
from actiontrack.record.samples import Samples, write_samples
from actiontrack.record.vectors import write_features, write_probabilities
from actiontrack.recorder.arrays import canonical_ids, shape_error, snapshot
from actiontrack.recorder.context import FinishOnExit
from actiontrack.recorder.epoch import EpochBuffer, EpochRows, Gather, scatter, shown
from actiontrack.recorder.maps import PixelMaps
from actiontrack.recorder.privacy import Privacy
from actiontrack.recorder.spool import Destination, Spool, StepMetrics, lock_spool, spool_root
from actiontrack.recorder.uploader import Uploader, diverged
from actiontrack.store import Store

__all__ = ["EpochSummary", "Recorder"]

logger = logging.getLogger("actiontrack")


@dataclass(frozen=True)
class EpochSummary:
    """What one recorded epoch held.

    Attributes:
        step: n of eq. 3.
        n_seen: samples seen.
        n_missing: samples of the record that were not seen.
        n_duplicates: repeated ids that were dropped.
        n_nonfinite: losses that are NaN or infinite; they are kept.
        mean_loss: mean of the finite losses.
        accuracy: fraction predicted right, or None without logits.
    """

    step: int
    n_seen: int
    n_missing: int
    n_duplicates: int
    n_nonfinite: int
    mean_loss: float
    accuracy: float | None

    def metrics(self, record: str) -> dict[str, float]:
        """Aggregates for the tracking server; never one value per sample."""
        values = {"mean_loss": self.mean_loss, "nonfinite_losses": float(self.n_nonfinite)}
        if self.accuracy is not None:
            values["accuracy"] = self.accuracy
        return {f"{record}/{name}": value for name, value in values.items()}


class Recorder(FinishOnExit):
    """Records the per-sample losses of one split of one MLflow run.

    Args:
        split: name of the recorded split, such as "test" or "train".
        mode: "probe" for an evaluation pass after each epoch (the paper, section 4.1), "inline"
            for the losses of the training batches. They are different scores and never compared.
        run_id: the MLflow run. Default: the active run.
        store: the tracking server. Default: MLflow's current one.
        model: name of the model; runs with the same name are compared as same-model runs.
            Default: the run's parameter "model".
        class_names: names of the class indices.
        loss_name: definition of the loss. Default: "cross_entropy" when logits are given,
            "loss" when losses are given.
        delta_kind: what Δn counts: "epoch" (1 each, the paper's), "batch" (optimiser updates
            since the last recorded state) or "wall_time" (seconds since then).
        pixel_loss_name: definition of the loss of each pixel, such as "focal", "cross_entropy" or
            "squared_error": with it every epoch brings maps, see `update_maps`.
        void: what the losses do with pixels that have no class: "ignored", or "counted" as a
            class of their own (section 4.3). Records that differ in it are not compared.
        map_factor: maps are kept as the mean of each block of so many pixels a side.
        map_dtype: of the stored maps, "float32" or "float16" (11 bits of precision, half the
            size); sums are float32 either way.
        source: reference to the dataset, such as {"kind": "folder", "root": "/data"}: galleries
            read the images from there.
        duplicates: "error" refuses an epoch that repeats an id; "first" keeps the first one.
            Default: "first" with `gather`, where samplers pad, else "error".
        allow_missing: accept epochs that don't see every sample. Samples that miss a step have
            no action, as a shorter sum would make them look easy.
        allow_uniform: accept batches whose given losses are all equal.
        resume: continue the record that the run holds already; steps recorded again replace.
        gather: collects the columns of all processes on the one that writes, see
            `actiontrack.recorder.torch.gather`.
        id_salt: records salted hashes in place of ids, see `digest.hash_ids`, without paths and
            folder of the images. It is not stored. Default: ACTIONTRACK_ID_SALT, or ids as they
            are.
        images: False keeps thumbnails, pictures, paths and folder of the images out of the
            record. Default: unless ACTIONTRACK_IMAGES is "never".
        spool: folder for the local copy. Default: ACTIONTRACK_SPOOL or a folder of this user.
        patience: seconds to wait at the end for a server that does not answer.

    Raises:
        ParameterError: if an argument breaks its rule.
        RecordingError: if there is no run, or it holds such a record and `resume` is False.
        StoreError: if the spool can't be written.
    """

    def __init__(
        self,
        split: str = "test",
        *,
        mode: str = "probe",
        run_id: str | None = None,
        store: Store | None = None,
        model: str = "",
        class_names: Sequence[str] = (),
        loss_name: str | None = None,
        delta_kind: str = "epoch",
        pixel_loss_name: str = "",
        void: str = "",
        map_factor: int = 1,
        map_dtype: str = "float32",
        source: Mapping[str, Any] | None = None,
        duplicates: str | None = None,
        allow_missing: bool = False,
        allow_uniform: bool = False,
        resume: bool = False,
        gather: Gather | None = None,
        id_salt: str | None = None,
        images: bool | None = None,
        spool: str | Path | None = None,
        patience: float = 30.0,
    ) -> None:
        check_name("split", split)
        _check_source(source)
        check_choice("mode", mode, MODES)
        check_choice("delta_kind", delta_kind, tuple(DELTA_KINDS))
        duplicates = duplicates or ("first" if gather else "error")
        check_choice("duplicates", duplicates, ("error", "first"))
        if void:
            check_choice("void", void, ("ignored", "counted"))
        _check_maps(pixel_loss_name, map_factor, map_dtype, gathers=gather is not None)
        self._loss_name, self._duplicates = loss_name, duplicates
        self._allow_missing, self._allow_uniform = allow_missing, allow_uniform
        self._gather, self._patience = gather, patience
        self._privacy = Privacy.of(id_salt, images)
        self._buffer = EpochBuffer()
        self._maps: PixelMaps | None = None
        self._declared: Samples | None = None
        self._ids: npt.NDArray[Any] | None = None
        self._labels: npt.NDArray[Any] | None = None
        self._notes: dict[str, str] = {}
        self._closed = self._given_losses = False
        self._n_classes: int | None = None
        self._warned_partial = False
        self._last_end = time.monotonic()
        manifest = Manifest(
            split=split,
            mode=mode,
            loss_name=loss_name or "",
            delta_kind=delta_kind,
            n_samples=0,
            id_type="",
            digests={},
            class_names=tuple(str(each) for each in class_names),
            model=model,
            source=None if self._privacy.hides_places else source,
            privacy=self._privacy.entry,
            pixel_loss_name=pixel_loss_name,
            void=void,
            maps={"factor": map_factor, "dtype": map_dtype} if pixel_loss_name else None,
            writer=f"actiontrack {__version__}",
        )
        check_fields(manifest)
        self._open(manifest, store, run_id, Path(spool) if spool else spool_root(), resume=resume)

    # The three lines

    def update(
        self,
        ids: Any,
        losses: Any = None,
        *,
        logits: Any = None,
        labels: Any = None,
        components: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one batch of the present epoch. Cheap: checks come at the end of the epoch.

        Args:
            ids: (batch,) integers or strings, the stable ids of the samples.
            losses: (batch,) one loss per sample. Default: the cross-entropy of the logits.
            logits: (batch, n_classes); with labels they also give the label's probability, the
                margin, correctness, EL2N, entropy and the prediction.
            labels: (batch,) class indices.
            components: name -> (batch,), parts of the loss or further losses, each of which gets
                its own action.

        Raises:
            RecordingError: if the losses are not one per sample.
            ParameterError: if neither losses nor logits with labels are given.
        """
        ids, size = self._privacy.ids(ids), len(ids)
        columns = self._columns(losses, logits, labels)
        outputs = self._outputs(logits, columns.get("label"), size)
        for name, values in (components or {}).items():
            columns[_component_name(name)] = snapshot(values)
        for name, values in columns.items():
            if tuple(values.shape) != (size,):
                raise shape_error(name, tuple(values.shape), size)
        kept = snapshot(ids) if hasattr(ids, "shape") else list(ids)
        self._buffer.add(kept, size, columns, outputs)

    def update_maps(self, ids: Any, maps: Any) -> None:
        """Add the loss of each pixel of one batch of the present epoch (section 4.3, eq. 7).

        They are added up on disk, times Δn, when the epoch ends; `StoredRecord.pixel_action` reads
        the sum of one sample once the record is finished.

        Args:
            ids: (batch,) integers or strings, the ids that `update` gets too.
            maps: (batch, H, W) loss of each pixel, or a sequence of (H, W) whose sizes differ
                from sample to sample. NaN for pixels without a loss, such as ignored void.

        Raises:
            RecordingError: if the recorder was made without `pixel_loss_name`, an id is repeated,
                or a map has another size than in earlier epochs.
            ParameterError: if there is not one map per id.
            StoreError: if the disk is full.
        """
        if self._maps is None:
            raise RecordingError(
                f"maps: the record {self.name} was begun without maps. Pass pixel_loss_name to the "
                "recorder, such as 'cross_entropy'."
            )
        self._maps.add(self._privacy.ids(ids), maps, duplicates=self._duplicates)

    def end_epoch(
        self,
        epoch: int | None = None,
        *,
        delta: float | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> EpochSummary | None:
        """Check the epoch, write it to the spool and hand it to the upload.

        Args:
            epoch: its number n ≥ 0, where 0 is the untrained model. Default: one more than the
                last. A number that was recorded before replaces that epoch and all after it.
            delta: Δn. Default: 1 for "epoch", the number of batches for "batch" in mode inline,
                the seconds since the last epoch for "wall_time".
            metrics: further aggregates to log to the run with this epoch, in the background.

        Returns:
            The summary, or None on a process that does not write.

        Raises:
            RecordingError: if ids are repeated, missing or unknown, if labels changed or are no
                class indices, or if the losses of a batch are all equal. Earlier epochs are safe;
                see `discard_epoch`.
            StoreError: if the disk is full; the epoch is kept in memory, call again.
        """
        step = self._next_step(epoch, delta)
        weight = self._delta(delta)
        check_uniform = self._given_losses and not self._allow_uniform
        rows = self._buffer.rows(self._gather, check_uniform=check_uniform)
        if self._spool is None:
            self.discard_epoch()
            return None
        if rows is None:
            raise RecordingError(
                f"epoch {step} of record {self.name} is empty. Call update for every batch first."
            )
        summary = self._write_epoch(rows, step, weight, metrics or {})
        self.discard_epoch()
        self._last_end = time.monotonic()
        self._warn(summary)
        if self._uploader is not None and self._uploader.refused:
            raise RecordingError(
                f"{self._uploader.refused} The epochs of this one are in {self._spool.folder}."
            )
        return summary

    def finish(self) -> bool:
        """Write the scores, mark the record complete and wait for the upload.

        Returns:
            Whether everything is in the artifact store. If not, a warning says where the spool
            is, and `actiontrack sync` uploads it later.

        Raises:
            RecordingError: if an epoch was begun and not ended.
        """
        if self._closed:
            return self.synced
        if len(self._buffer):
            raise RecordingError(
                f"record {self.name} has {len(self._buffer)} batches after its last epoch. "
                "Call end_epoch to keep them or discard_epoch to drop them."
            )
        if self._spool is not None and self._spool.manifest.steps:
            self._write_maps(complete=True)
            self._spool.complete()
            self._submit()
        return self._close()

    # The rest

    @property
    def name(self) -> str:
        """Name of the record, such as "test-probe"."""
        return self._name

    @property
    def synced(self) -> bool:
        """Whether everything recorded so far is in the artifact store."""
        return self._synced if self._closed or self._uploader is None else self._uploader.drain(0)

    @property
    def last_step(self) -> int | None:
        """Number of the last recorded epoch, or None."""
        steps = self._spool.manifest.steps if self._spool else ()
        return steps[-1].step if steps else None

    @property
    def notes(self) -> Mapping[str, str]:
        """What `note` says of this record; empty on a process that does not write."""
        held = self._spool.manifest.notes if self._spool else None
        return {**(held or {}), **self._notes}

    def note(self, name: str, text: str) -> None:
        """Keep a remark on how the record came about, in its manifest and as a tag of the run.

        The tag is ``actiontrack.<record>.<name>``. A remark of the same name is replaced.

        Args:
            name: letters, digits, dots and underscores.
            text: the remark.
        """
        if self._spool is None or self.notes.get(check_name("note", name)) == text:
            return
        self._notes[name] = text
        if self._spool.manifest.steps:  # else it is written with the first epoch
            self._spool.update(notes=dict(self.notes))
            self._submit()

    def describe_samples(
        self,
        ids: Any,
        *,
        labels: Any = None,
        true_labels: Any = None,
        paths: Sequence[str] | None = None,
        input_digests: Sequence[str] | None = None,
    ) -> None:
        """Declare all samples of the split before the first epoch. Optional, any order.

        With it, samples that are missing from the first epoch are found; without it, the first
        epoch decides which samples there are.

        Args:
            ids: (n_samples,) integers or strings.
            labels: (n_samples,) class indices as trained on.
            true_labels: (n_samples,) the truth, where labels are noisy.
            paths: (n_samples,) image paths relative to the root of `source`.
            input_digests: (n_samples,) see `actiontrack.record.digest.digest_input`: with them
                runs on other pixels under the same ids are told apart.

        Raises:
            RecordingError: if ids repeat, or a resumed record has other samples, labels or inputs.
        """
        if self._spool is None:
            return
        found = canonical_ids(self._privacy.ids(ids))
        order = np.argsort(found, kind="stable")
        found = found[order]
        repeated = np.unique(found[1:][found[1:] == found[:-1]])
        if repeated.size:
            raise RecordingError(
                f"ids: {repeated.size} are repeated in the samples declared: {shown(repeated)}. "
                "Give each sample its own id."
            )
        declared = Samples(
            sample_ids=found,
            labels=_ordered(labels, order),
            true_labels=_ordered(true_labels, order),
            paths=None if paths is None else [str(paths[each]) for each in order],
            input_digests=None if input_digests is None else [input_digests[i] for i in order],
        )
        self._declared = self._privacy.samples(declared)
        self._check_resumed_samples(self._declared)
        self._ids = found
        if self._declared.labels is not None:
            self._labels = self._declared.labels

    def log_features(self, ids: Any, features: Any) -> None:
        """Keep last-layer features, (n_samples, n_features), with ids in any order."""
        if self._spool is not None:
            rows = self._in_order(ids)
            values = np.asarray(features, dtype=np.float32)[rows]
            entry = write_features(self._spool.folder, values)
            self._spool.add_file(FEATURES, entry)
            self._submit()

    def log_probabilities(self, ids: Any, probabilities: Any) -> None:
        """Keep what the final model says of each sample, with ids in any order (section 4.1).

        Args:
            ids: (n_samples,) integers or strings.
            probabilities: (n_samples, n_classes), each row a distribution over the classes.

        Raises:
            RecordingError: if the ids are not those of the record.
            ParameterError: if there is not one distribution per id over all classes.
        """
        if self._spool is not None:
            rows = self._in_order(ids)
            values = np.asarray(probabilities, dtype=np.float32)
            n_classes = len(self._spool.manifest.class_names) or self._n_classes
            if values.ndim != 2 or values.shape != (rows.size, n_classes or values.shape[1]):
                rule = f"must have shape ({rows.size}, {n_classes or 'n_classes'})"
                remedy = "Pass one distribution over all classes per id."
                raise ParameterError("probabilities", rule, values.shape, remedy)
            entry = write_probabilities(self._spool.folder, values[rows])
            self._spool.add_file(PROBABILITIES, entry)
            self._submit()

    def log_thumbnails(self, ids: Any, images: Sequence[bytes]) -> None:
        """Keep one PNG per sample with the run, with ids in any order."""
        if self._spool is not None and self._privacy.keeps(images):
            ordered = [images[each] for each in self._in_order(ids)]
            entry = write_thumbnails(self._spool.folder, ordered)
            self._spool.add_file(THUMBNAILS, entry)
            self._submit()

    def log_pictures(self, name: str, ids: Any, images: Sequence[bytes]) -> None:
        """Keep one PNG per sample under a name, such as "label" or "prediction".

        Pixel values of label images are class indices. Pictures of an earlier epoch are dropped
        when the next one is recorded.

        Args:
            name: letters, digits, dots and underscores.
            ids: (n_samples,) in any order.
            images: one PNG per id.
        """
        if self._spool is not None and self._privacy.keeps(images):
            ordered = [images[each] for each in self._in_order(ids)]
            entry = write_pictures(self._spool.folder, name, ordered)
            self._spool.add_file(picture_path(name), entry)
            self._submit()

    def log_boxes(self, boxes: pd.DataFrame) -> None:
        """Keep annotated and predicted boxes with the run: galleries and reports draw them.

        Boxes of an earlier epoch are dropped when the next one is recorded.

        Args:
            boxes: one row per box: sample_id; kind, "truth" or "predicted"; class, its name;
                score, NaN for the truth; left, top, right, bottom in pixels of the image, from
                0 and without the last; width and height of the image. Samples without a box
                have no row.

        Raises:
            ParameterError: a missing column, an unknown kind, or a side that is not finite.
            RecordingError: the id of a sample that the record does not have.
        """
        if self._spool is not None:
            if "sample_id" not in boxes.columns:
                rule = "must have the column sample_id"
                raise ParameterError("boxes", rule, list(boxes.columns), "Add the column.")
            found = canonical_ids(self._privacy.ids(boxes["sample_id"].to_numpy()))
            known = self._ids if self._ids is not None else found[:0]
            rows = pd.Index(known).get_indexer(pd.Index(found))
            if (rows < 0).any():
                raise RecordingError(
                    f"boxes: sample_id {found[rows < 0][0]!s} is none of the record {self.name}. "
                    "Declare the samples or record an epoch first."
                )
            entry = write_boxes(self._spool.folder, boxes.assign(sample=rows))
            self._spool.add_file(BOXES, entry)
            self._submit()

    def discard_epoch(self) -> None:
        """Drop the batches since the last epoch."""
        self._buffer = EpochBuffer()
        if self._maps is not None:
            self._maps.discard()

    def close(self) -> bool:
        """Stop without finishing: the record stays marked as unfinished, and readable.

        The samples of an interrupted epoch are counted in the manifest; no score includes them.

        Returns:
            Whether everything is in the artifact store.
        """
        if self._closed:
            return self.synced
        self._count_partial()
        try:
            self._write_maps(complete=False)
        except StoreError as error:  # the losses are safe all the same
            logger.warning("record %s: its maps are not written: %s", self.name, error)
        return self._close()

    # How

    def _open(
        self,
        manifest: Manifest,
        store: Store | None,
        run_id: str | None,
        root: Path,
        *,
        resume: bool,
    ) -> None:
        self._name = manifest.name
        self._synced = False
        self._spool: Spool | None = None
        self._uploader: Uploader | None = None
        if self._gather is not None and self._gather({}) is None:
            self._synced = True
            return  # this process sends its columns to the one that writes
        store = self._store = store or Store()
        run_id = run_id or store.active_run_id()
        if run_id is None:
            raise RecordingError(
                "there is no active MLflow run. Start one with mlflow.start_run(), or pass run_id."
            )
        destination = Destination(store.tracking_uri, run_id, manifest.model, (_this_process(),))
        folder = root / run_id / manifest.name
        self._lock = lock_spool(folder)
        try:
            found = _existing(store, run_id, manifest.name, folder)
            before = found.writers if resume else ()
            destination = replace(destination, writers=(*before, *destination.writers))
            if found.spool is None:
                claimed = self._claim(store, destination, asked=found.asked)
                self._spool = Spool.create(folder, manifest, destination)
            else:
                self._spool = _continued(found.spool, manifest, destination, resume=resume)
                claimed = self._claim(store, destination, asked=found.asked)
                self._ids, self._labels = self._spool.sample_ids(), self._spool.labels()
            self._maps = PixelMaps.open(self._spool) if manifest.pixel_loss_name else None
        except BaseException:
            if self._spool is None or not self._spool.manifest.steps:
                self._release(destination)
            self._lock.release()
            raise
        self._uploader = Uploader(
            self._spool, destination, store=store, uploaded=found.uploaded, claimed=claimed
        )

    def _claim(self, store: Store, destination: Destination, *, asked: bool) -> bool:
        """Be the one process that writes this record. Where it can't ask, the uploader does."""
        if not asked:
            return False
        try:
            store.claim_record(destination.run_id, self._name, destination.writers)
        except StoreError as error:
            logger.warning("cannot ask the server who writes the record: %s", error)
            return False
        return True

    def _release(self, destination: Destination) -> None:
        """Let another process begin the record that this one has not."""
        with contextlib.suppress(ActionTrackError):
            self._store.ping()
            self._store.release_record(destination.run_id, self._name, destination.writers[-1])

    def _columns(self, losses: Any, logits: Any, labels: Any) -> dict[str, Any]:
        """What was given for each sample."""
        columns: dict[str, Any] = {}
        if losses is None and logits is None:
            raise ParameterError(
                "losses", "must be given, or logits with labels", None, "Pass one of the two."
            )
        if losses is not None:
            columns["loss"] = snapshot(losses)
        if labels is not None:
            columns["label"] = snapshot(labels)
        self._given_losses = losses is not None
        return columns

    def _outputs(self, logits: Any, labels: Any, size: int) -> tuple[Any, Any] | None:
        """A copy of the logits with the labels kept, to be measured with many batches at once."""
        if logits is None:
            return None
        if labels is None:
            raise ParameterError("labels", "must be given with logits", None, "Pass labels.")
        if len(logits.shape) != 2 or logits.shape[0] != size:
            raise ParameterError(
                "logits",
                f"must have shape ({size}, n_classes), one row per id",
                tuple(logits.shape),
                "Pass the outputs of the same batch as the ids.",
            )
        self._n_classes = int(logits.shape[1])
        return snapshot(logits), labels

    def _next_step(self, epoch: int | None, delta: float | None) -> int:
        last = self.last_step
        step = (1 if last is None else last + 1) if epoch is None else int(epoch)
        if step < 0:
            raise ParameterError("epoch", "must be 0 or more", step, "Count epochs from 1.")
        if last is not None and step > last + 1 and delta is None:
            raise RecordingError(
                f"epoch {step} follows {last}: {step - last - 1} epochs are missing from record "
                f"{self.name}. Record every epoch, or pass delta to say what the step weighs."
            )
        return step

    def _delta(self, delta: float | None) -> float:
        if delta is None:
            delta = self._default_delta()
        if not (np.isfinite(delta) and delta > 0):
            raise ParameterError(
                "delta", "must be a positive number", delta, "Pass Δn of this epoch."
            )
        return float(delta)

    def _default_delta(self) -> float:
        kind = self._manifest_kind
        if kind == "epoch":
            return 1.0
        if kind == "wall_time":
            return max(time.monotonic() - self._last_end, 1e-9)
        if self._manifest_mode == "probe":
            raise ParameterError(
                "delta",
                "must be given with delta_kind='batch' in mode probe",
                None,
                "Pass the number of optimiser updates since the last epoch.",
            )
        return float(len(self._buffer))

    @property
    def _manifest_kind(self) -> str:
        return self._spool.manifest.delta_kind if self._spool else "epoch"

    @property
    def _manifest_mode(self) -> str:
        return self._spool.manifest.mode if self._spool else "probe"

    def _write_epoch(
        self, rows: EpochRows, step: int, delta: float, metrics: Mapping[str, float]
    ) -> EpochSummary:
        assert self._spool is not None  # noqa: S101 - callers write on this process only
        self._check_rows(rows, step)
        _check_class_indices(rows, self._n_classes)
        self._settle_samples(rows)
        columns, n_seen = scatter(rows, self._known_ids())
        self._check_labels(columns.pop("label", None))
        before = self._step_before(step)
        if self._maps is not None:
            self._maps.check(rows.ids, step, before)
        if self._spool.truncate(step):
            self._submit()
        if self._maps is not None:
            self._maps.commit(step, delta, before)
        loss = columns["loss"]
        n_nonfinite = int((~np.isfinite(np.ma.compressed(loss))).sum())
        entry = StepEntry(step, delta, n_seen, n_nonfinite, rows.n_duplicates)
        changes = self._first_epoch_changes(columns) if not self._spool.manifest.steps else {}
        self._spool.add_block(entry, columns, partial=None, **changes)
        summary = _summary(entry, self._known_ids().size, columns)
        aggregates = StepMetrics(
            step, int(time.time() * 1000), {**metrics, **summary.metrics(self.name)}
        )
        self._spool.add_metrics(aggregates)
        self._submit(aggregates)
        return summary

    def _step_before(self, step: int) -> int | None:
        """The recorded step that an epoch follows; those from its number on are replaced."""
        assert self._spool is not None  # noqa: S101
        kept = [each.step for each in self._spool.manifest.steps if each.step < step]
        return kept[-1] if kept else None

    def _write_maps(self, *, complete: bool) -> None:
        if self._maps is None or self._spool is None or not self._spool.manifest.steps:
            return
        self._maps.write(self._spool, complete=complete)
        if complete:
            self._maps.remove()
        self._submit()

    def _check_rows(self, rows: EpochRows, step: int) -> None:
        if rows.n_duplicates and self._duplicates == "error":
            raise RecordingError(
                f"ids: {rows.repeated.size} are repeated in epoch {step} of record {self.name}: "
                f"{shown(rows.repeated)}. Visit each sample once per epoch, or pass "
                "duplicates='first'."
            )
        known = self._ids
        if known is None or known.dtype.kind == rows.ids.dtype.kind:
            self._check_missing(rows, step)
            return
        raise RecordingError(
            f"ids: epoch {step} brings {_kind(rows.ids)}, the record {self.name} has "
            f"{_kind(known)}. Pass ids of the same type throughout."
        )

    def _check_missing(self, rows: EpochRows, step: int) -> None:
        assert self._spool is not None  # noqa: S101
        first = not self._spool.manifest.steps
        if self._ids is None or self._allow_missing or not first:
            return
        missing = np.setdiff1d(self._ids, rows.ids, assume_unique=True)
        if missing.size:
            raise RecordingError(
                f"ids: {missing.size} of {self._ids.size} samples are missing from epoch {step} "
                f"of record {self.name}: {shown(missing)}. Visit every sample (drop_last=False), "
                "or pass allow_missing=True."
            )

    def _known_ids(self) -> npt.NDArray[Any]:
        assert self._ids is not None  # noqa: S101 - settled by the first epoch
        return self._ids

    def _settle_samples(self, rows: EpochRows) -> None:
        """Fix the samples at the first epoch: declared ones, or those that it saw."""
        assert self._spool is not None  # noqa: S101
        if SAMPLES in self._spool.manifest.files:
            return
        seen_labels = rows.columns.get("label")
        samples = self._declared or Samples(sample_ids=rows.ids, labels=_as_int(seen_labels))
        if (
            samples.labels is None
            and seen_labels is not None
            and rows.ids.size == len(samples.sample_ids)
        ):
            samples = Samples(**{**vars(samples), "labels": _as_int(seen_labels)})
        entry = write_samples(self._spool.folder, samples)
        self._spool.update(
            n_samples=len(samples.sample_ids),
            id_type="int64" if samples.sample_ids.dtype.kind == "i" else "string",
            digests=_digests(samples, self._spool.manifest.class_names),
        )
        self._ids, self._labels = samples.sample_ids, samples.labels
        self._spool.add_file(SAMPLES, entry)

    def _check_labels(self, labels: npt.NDArray[Any] | None) -> None:
        if labels is None or self._labels is None:
            return
        seen = ~np.ma.getmaskarray(labels)
        wrong = np.flatnonzero(seen & (np.ma.getdata(labels) != self._labels))
        if wrong.size:
            known, row = self._known_ids(), int(wrong[0])
            raise RecordingError(
                f"labels: {wrong.size} samples have another label than before, the first is "
                f"{known[row]}: {int(self._labels[row])} became "
                f"{int(np.ma.getdata(labels)[row])}. "
                "Ids must travel with their samples, through shuffling too."
            )

    def _first_epoch_changes(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        measures = tuple(name for name in MEASURES if name in columns)
        rest = tuple(sorted(columns.keys() - {*measures, "loss"}))
        default = "loss" if self._given_losses else "cross_entropy"
        return {
            "measures": measures,
            "components": rest,
            "loss_name": self._loss_name or default,
            "notes": dict(self.notes) or None,
        }

    def _check_resumed_samples(self, declared: Samples) -> None:
        assert self._spool is not None  # noqa: S101
        recorded = self._spool.manifest.digests
        if self._ids is None or not recorded:
            return
        digests = _digests(declared, self._spool.manifest.class_names)
        if digests["ids"] != recorded.get("ids"):
            raise RecordingError(
                f"ids: the record {self.name} has {self._ids.size} samples, other ones than the "
                f"{len(declared.sample_ids)} declared now. Resume with the same data, or start a "
                "new run."
            )
        given = {"labels": declared.labels, "inputs": declared.input_digests}
        for name in ("labels", "inputs"):
            if given[name] is not None and recorded.get(name) not in {None, digests[name]}:
                raise RecordingError(
                    f"{name}: the record {self.name} was begun with other {name} of the same "
                    "samples. Resume with the same data, or start a new run."
                )

    def _in_order(self, ids: Any) -> npt.NDArray[np.intp]:
        found = canonical_ids(self._privacy.ids(ids))
        order = np.argsort(found, kind="stable")
        if self._ids is None or not np.array_equal(found[order], self._ids):
            raise RecordingError(
                f"ids: must be those of the record {self.name}, each once. Declare the samples or "
                "record an epoch first."
            )
        return order

    def _count_partial(self) -> None:
        if self._spool is None or not len(self._buffer):
            return
        # Called after an error, which may be about these very batches: it must not be hidden. A
        # signal may have come in the middle of a batch: then there is nothing sound to count.
        with contextlib.suppress(Exception):
            rows = self._buffer.rows(None)
            if rows is not None and self._spool.manifest.n_samples:
                step = self._next_step(None, None)
                self._spool.update(partial={"step": step, "n_seen": int(rows.ids.size)})
                self._submit()

    def _warn(self, summary: EpochSummary) -> None:
        if summary.n_missing and not self._allow_missing and not self._warned_partial:
            self._warned_partial = True
            warnings.warn(
                f"epoch {summary.step} of record {self.name} missed {summary.n_missing} samples. "
                "They have no action, as a shorter sum would make them look easy.",
                stacklevel=3,
            )

    def _submit(self, metrics: StepMetrics | None = None) -> None:
        if self._uploader is not None:
            self._uploader.submit(metrics=metrics)

    def _close(self) -> bool:
        if self._uploader is None or self._spool is None:
            self._closed = True
            return True
        self._synced = self._uploader.close(self._patience)
        self._closed = True
        if not self._spool.manifest.steps:
            self._release(self._spool.destination())
        if self._synced:
            self._spool.remove()
        self._lock.release()
        if not self._synced:
            logger.warning(
                "record %s is not uploaded: %s It is safe in %s: upload it with "
                "'actiontrack sync %s'.",
                self.name,
                self._uploader.error,
                self._spool.folder,
                self._spool.folder,
            )
        return self._synced


@dataclass(frozen=True)
class _Existing:
    """The record of a name that is there already.

    Attributes:
        spool: the record, if there is one.
        uploaded: files that the run holds of it.
        writers: the processes that have written it.
        asked: whether the server could be asked.
    """

    spool: Spool | None
    uploaded: Mapping[str, FileEntry]
    writers: tuple[str, ...]
    asked: bool = True


def _existing(store: Store, run_id: str, name: str, folder: Path) -> _Existing:
    """The record of this name that is there already: in the spool, else in the run."""
    local = _local_record(folder)
    known = local.writers() if local else ()
    try:
        store.ping()
        run = store.get_run(run_id)
        remote = store.open_record(run, name) if name in run.records else None
    except StoreError as error:
        logger.warning("cannot ask the server for earlier records: %s", error)
        return _Existing(local, {}, known, asked=False)
    writer = run.writer(name)
    writers = tuple(dict.fromkeys(each for each in (*known, writer) if each))
    if remote is None:
        return _Existing(local, {}, writers)
    uploaded = remote.manifest.files
    if local is None or local.manifest.revision < remote.manifest.revision:
        return _Existing(Spool.copy(folder, remote.manifest, remote.fetch), uploaded, writers)
    if diverged(local, writer, remote.manifest):
        raise RecordingError(
            f"run {run_id} and {folder} hold record {name} with other epochs: {writer} has "
            "continued it elsewhere. Delete the folder to go on from what the run holds."
        )
    return _Existing(local, uploaded, writers)


def _this_process() -> str:
    """A name of this process that no other one has, in words for messages."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {platform.node()} since {now} ({secrets.token_hex(4)})"


def _local_record(folder: Path) -> Spool | None:
    try:
        return Spool.load(folder)
    except NotFoundError:
        return None


def _continued(
    existing: Spool, wanted: Manifest, destination: Destination, *, resume: bool
) -> Spool:
    found = existing.manifest
    if not resume:
        raise RecordingError(
            f"run {destination.run_id} holds a record {wanted.name} with {found.n_steps} epochs "
            "already. Pass resume=True to continue it, or start a new run."
        )
    if bool(found.pixel_loss_name) != bool(wanted.pixel_loss_name) and found.steps:
        with_or_without = "with" if found.pixel_loss_name else "without"
        raise RecordingError(
            f"pixel_loss_name: the record {wanted.name} was begun {with_or_without} maps, got "
            f"{wanted.pixel_loss_name!r}. Resume with the same settings, or start a new run."
        )
    _check_same_maps(found, wanted)
    if found.steps and (found.privacy or None) != (wanted.privacy or None):
        raise RecordingError(
            f"privacy: the record {wanted.name} was begun with {_kept_out(found)}, got "
            f"{_kept_out(wanted)}. Resume with the same id_salt and images, or start a new run."
        )
    for field in ("delta_kind", "class_names", "loss_name", "pixel_loss_name", "void"):
        before, now = getattr(found, field), getattr(wanted, field)
        if now and before and before != now:
            raise RecordingError(
                f"{field}: the record {wanted.name} was begun with {before!r}, got {now!r}. "
                "Resume with the same settings, or start a new run."
            )
    existing.write_destination(destination)
    existing.update(status="recording", partial=None, model=wanted.model or found.model)
    return existing


def _summary(entry: StepEntry, n_samples: int, columns: Mapping[str, Any]) -> EpochSummary:
    loss = np.ma.compressed(columns["loss"])
    finite = loss[np.isfinite(loss)]
    correct = columns.get("correct")
    return EpochSummary(
        step=entry.step,
        n_seen=entry.n_seen,
        n_missing=n_samples - entry.n_seen,
        n_duplicates=entry.n_duplicates,
        n_nonfinite=entry.n_nonfinite,
        mean_loss=float(finite.mean(dtype=np.float64)) if finite.size else float("nan"),
        accuracy=None if correct is None else float(np.ma.compressed(correct).mean()),
    )


def _digests(samples: Samples, class_names: Sequence[str]) -> dict[str, str | None]:
    inputs = samples.input_digests
    return {
        "ids": digest_ids(samples.sample_ids),
        "labels": digest_labels(samples.labels, class_names),
        "inputs": None if inputs is None else digest_inputs(inputs),
    }


def _ordered(values: Any, order: npt.NDArray[np.intp]) -> npt.NDArray[np.int64] | None:
    if values is None:
        return None
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.shape != order.shape:
        raise ParameterError(
            "labels", f"must have shape {order.shape}", array.shape, "Pass one per id."
        )
    return array[order].astype(np.int64)


def _component_name(name: str) -> str:
    if name in {*MEASURES, "loss", "label", "sample", "step", "batch", "ids"}:
        raise ParameterError(
            "components", "must not take a name of the record itself", name, "Rename it."
        )
    return check_name("components", name)


def _check_maps(pixel_loss_name: str, factor: int, dtype: str, *, gathers: bool) -> None:
    check_choice("map_dtype", dtype, ("float32", "float16"))
    if not isinstance(factor, int) or factor < 1:
        rule = "must be an integer of 1 or more"
        raise ParameterError("map_factor", rule, factor, "Pass 1 to keep every pixel.")
    if pixel_loss_name and gathers:
        raise ParameterError(
            "pixel_loss_name",
            "must be left out with gather: maps are recorded by one process",
            pixel_loss_name,
            "Train in one process, or record losses only.",
        )


def _kept_out(manifest: Manifest) -> str:
    told = manifest.privacy or {}
    ids = f"hashed ids (salt {told['salt_check']})" if manifest.has_hashed_ids else "plain ids"
    return f"{ids}, {'no images' if manifest.hides_images else 'images allowed'}"


def _check_same_maps(found: Manifest, wanted: Manifest) -> None:
    for option in ("factor", "dtype"):
        before, now = (each.maps.get(option) if each.maps else None for each in (found, wanted))
        if found.steps and before != now:
            raise RecordingError(
                f"map_{option}: the record {wanted.name} was begun with {before!r}, got {now!r}. "
                "Resume with the same settings, or start a new run."
            )


def _check_source(source: Mapping[str, Any] | None) -> None:
    try:
        json.dumps(source)
    except TypeError:
        raise ParameterError(
            "source", "must be plain text, numbers and lists", source, "Convert paths with str."
        ) from None


def _check_class_indices(rows: EpochRows, n_classes: int | None) -> None:
    labels = rows.columns.get("label")
    if labels is None:
        return
    if labels.dtype.kind not in "iub":
        raise RecordingError(
            f"labels: must be class indices, got {labels.dtype.name}. "
            "Pass the losses alone if the targets are not classes."
        )
    if n_classes is None:
        return
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if wrong.size:
        raise RecordingError(
            f"labels: {wrong.size} samples have a label outside 0 to {n_classes - 1}, the first is "
            f"{rows.ids[wrong[0]]}: {int(labels[wrong[0]])}. Leave out what the loss ignores."
        )


def _as_int(values: npt.NDArray[Any] | None) -> npt.NDArray[np.int64] | None:
    return None if values is None else values.astype(np.int64)


def _kind(ids: npt.NDArray[Any]) -> str:
    return "integers" if ids.dtype.kind == "i" else "strings"
