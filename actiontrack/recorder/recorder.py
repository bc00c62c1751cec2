"""The recorder: batches in, one row per sample and epoch out, never waiting for the server."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actiontrack.errors import RecordingError
from actiontrack.recorder.arrays import PROBABILITIES_AS_LOGITS, canonical_ids, snapshot
from actiontrack.recorder.batches import (
    Batch,
    are_probabilities,
    batch_ids,
    batch_of,
    check_shapes,
    first_outputs,
)
from actiontrack.recorder.checks import check_n_classes, metric_values
from actiontrack.recorder.described import described_samples
from actiontrack.recorder.epoch import EpochRows, Gather
from actiontrack.recorder.extras import KeepsExtras
from actiontrack.recorder.images import source_of
from actiontrack.recorder.lifecycle import open_writer
from actiontrack.recorder.options import Options, empty_manifest
from actiontrack.recorder.privacy import Privacy
from actiontrack.recorder.result import Shows
from actiontrack.recorder.roster import samples_of
from actiontrack.recorder.spool import absolute, spool_root
from actiontrack.recorder.steps import (
    ZERO,
    Epoch,
    EpochSummary,
    check_gap,
    default_delta,
    positive_weight,
    recorded_step,
)
from actiontrack.store import Store

__all__ = ["EpochSummary", "Recorder"]

logger = logging.getLogger("actiontrack")


class Recorder(KeepsExtras):
    """Records the per-sample losses of one split of one MLflow run.

    Several threads may use it. It belongs to the process that opened it, see `OpenRecord`: SIGTERM
    closes it and marks the run KILLED, and the end of the program finishes it.

    Args:
        split: name of the recorded split, such as "test" or "train".
        mode: "probe" for an evaluation pass after each epoch (the paper, section 4.1), "inline"
            for the losses of the training batches. They are different scores and never compared.
        run_id: the MLflow run. Default: the active run.
        store: the tracking server. Default: MLflow's current one.
        model: name of the model; runs with the same name are compared as same-model runs.
            Default: the run's parameter "model".
        class_names: names of the class indices, each its own.
        loss_name: definition of the loss. Default: "cross_entropy" when logits are passed,
            "loss" when losses are passed.
        delta_kind: what Δn counts: "epoch" (1 each, the paper's), "batch" (optimiser updates
            since the last recorded state) or "wall_time" (seconds since then).
        pixel_loss_name: definition of the loss of each pixel, such as "focal", "cross_entropy" or
            "squared_error": with it every epoch brings maps, see `update_maps`.
        void: what the losses do with pixels that have no class: "ignored", or "counted" as a
            class of their own (section 4.3). Records that differ in it are not compared.
        map_factor: maps are stored as the mean of each block of so many pixels a side.
        map_dtype: of the stored maps, "float32" or "float16" (11 bits of precision, half the
            size); sums are float32 either way.
        precision: of losses and measures, "full" (float32), or "half" (11 significant bits): about
            half the size, and the action ranks samples alike.
        source: reference to the dataset, such as {"kind": "folder", "root": "/data"}: galleries
            read the images from there.
        duplicates: "error" refuses an epoch that repeats an id; "first" keeps the first one.
            Default: "first" with `gather`, where samplers pad, else "error".
        allow_missing: record epochs that don't see every sample. Samples that miss a step have
            no action, as a shorter sum would make them look easy. Default: such an epoch is kept
            apart, see `end_epoch`.
        allow_uniform: accept batches whose losses are all equal.
        first_epoch: number that `end_epoch` gets for the first trained epoch: 1, where 0 is the
            untrained model, or 0 for a loop over ``range(n)``, whose epochs are recorded as 1 to n.
            With 0 and `resume`, a record that was begun at 0 by mistake is counted from 1.
            Default: as 1, with a warning at an epoch 0.
        resume: continue the record that the run holds already; steps recorded again replace.
        gather: collects the columns of all processes on the one that writes, see
            `actiontrack.recorder.torch.gather`.
        id_salt: records salted hashes in place of ids, see `digest.hash_ids`, without paths and
            folder of the images. It is not stored. Default: ACTIONTRACK_ID_SALT, or ids as they
            are.
        images: where images of samples come from: a dataset such as an `IndexedDataset`, whose
            items hold them, a mapping or a function from an id to an image. The record gets
            thumbnails of its 50 hardest and 50 easiest samples when it is finished, see
            `actiontrack.recorder.images`; not where ids are hashed. False keeps thumbnails,
            pictures, paths and folder of the images out of the record. Default: allowed unless
            ACTIONTRACK_IMAGES is "never".
        spool: folder for the local copy. Default: ACTIONTRACK_SPOOL or a folder of this user.
        patience: seconds to wait at the end for a server that does not answer.
        durable: wait for the disk at every epoch: it outlasts a power cut, too.
        verbose: whether the five hardest samples, three classes and where to see more are printed
            when the record is finished. Default: where standard output is a terminal.
        report: whether hardest.png, classes.png and a page, report.html, are logged beside the
            finished record, which MLflow shows. Default: unless ACTIONTRACK_REPORT is "never".

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
        precision: str = "full",
        source: Mapping[str, Any] | None = None,
        duplicates: str | None = None,
        allow_missing: bool = False,
        allow_uniform: bool = False,
        first_epoch: int | None = None,
        resume: bool = False,
        gather: Gather | None = None,
        id_salt: str | None = None,
        images: Any = None,
        spool: str | Path | None = None,
        patience: float = 30.0,
        durable: bool = False,
        verbose: bool | None = None,
        report: bool | None = None,
    ) -> None:
        allowed = images if isinstance(images, bool) else None
        image_source = None if images is allowed else source_of(images)
        privacy, shows = Privacy.of(id_salt, allowed), Shows.of(verbose, report)
        self._options = Options(
            duplicates=duplicates,
            allow_missing=allow_missing,
            allow_uniform=allow_uniform,
            first_epoch=first_epoch,
            gather=gather,
            patience=patience,
            durable=durable,
        )
        manifest = empty_manifest(
            split=split,
            mode=mode,
            model=model,
            class_names=class_names,
            loss_name=loss_name,
            delta_kind=delta_kind,
            pixel_loss_name=pixel_loss_name,
            void=void,
            map_factor=map_factor,
            map_dtype=map_dtype,
            precision=precision,
            source=source,
            privacy=privacy,
            gathers=gather is not None,
        )
        root = absolute(spool) if spool else spool_root()
        writer = open_writer(
            manifest, self._options, store=store, run_id=run_id, root=root, resume=resume
        )
        super().__init__(manifest, writer, privacy, image_source, shows)

    def update(
        self,
        ids: Any,
        losses: Any = None,
        *,
        logits: Any = None,
        probabilities: Any = None,
        labels: Any = None,
        components: Mapping[str, Any] | None = None,
        images: Any = None,
    ) -> None:
        """Add one batch of the present epoch. Cheap: checks come at the end of the epoch.

        Arrays may be of NumPy, PyTorch or JAX, or lists of numbers.

        Args:
            ids: (batch,) integers or strings, the stable ids of the samples.
            losses: (batch,) one loss per sample. Default: the cross-entropy of the logits.
            logits: (batch, n_classes); with labels they also give the label's probability, the
                margin, correctness, EL2N, entropy, the prediction and the largest other class.
                (batch,) or (batch, 1) are those of class 1 of a binary classifier.
            probabilities: (batch, n_classes), or (batch,) of class 1, in place of logits, where
                the model ends with a softmax or sigmoid. Those below 2.2e-16 count as 2.2e-16.
            labels: (batch,) class indices.
            components: name -> (batch,), parts of the loss or further losses, each of which gets
                its own action.
            images: (batch, …) the images of the samples. Only those of samples that may be among
                the hardest or easiest are held, scaled down, until the record is finished.

        Raises:
            RecordingError: if the losses are not one per sample, or the recorder is closed.
            ParameterError: if neither losses nor outputs with labels are passed, or an argument
                is no array of numbers.
        """
        state = self._state
        ids = self._privacy.ids(batch_ids(ids))
        size = len(ids)
        batch = self._batch(
            size,
            losses=losses,
            logits=logits,
            probabilities=probabilities,
            labels=labels,
            components=components,
        )
        check_shapes(batch.columns, size)
        copied = snapshot(ids) if hasattr(ids, "shape") else list(ids)
        n_classes = batch.n_classes
        if n_classes is not None:
            check_n_classes(n_classes, self._manifest.class_names)
        with state.lock:
            state.check_open("update")
            state.buffer.add(copied, size, batch.columns, batch.outputs, batch.invalid)
            state.given_losses = losses is not None
            state.n_classes = n_classes
            if logits is not None and not state.looked_at_logits:
                state.first_outputs, state.looked_at_logits = first_outputs(batch), True
            if images is not None:
                self._take_images(ids, images)

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
        with self._state.lock:
            self._state.check_open("update_maps")
            if not self._manifest.pixel_loss_name:
                raise RecordingError(
                    f"maps: the record {self.name} was begun without maps. Pass pixel_loss_name "
                    "to the recorder, such as 'cross_entropy'."
                )
            self._writer.add_maps(self._privacy.ids(batch_ids(ids)), maps)

    def end_epoch(
        self,
        epoch: int | None = None,
        *,
        delta: float | None = None,
        metrics: Mapping[str, float] | None = None,
        partial: bool | None = None,
        n_samples: int | None = None,
    ) -> EpochSummary | None:
        """Check the epoch, write it to the spool and hand it to the upload.

        A later epoch that does not see every sample is kept apart, with a warning: counted, and
        summed for nobody. If the next one lacks the very same samples, both are recorded after all.

        Args:
            epoch: its number n ≥ 0, where 0 is the untrained model; see `first_epoch` for loops
                that count from 0. Default: one more than the last. A number that was recorded
                before replaces that epoch and all after it.
            delta: Δn. Default: 1 for "epoch", the number of batches for "batch" in mode inline,
                the seconds since the last epoch for "wall_time".
            metrics: further aggregates to log to the run with this epoch, in the background.
            partial: True keeps the epoch apart, as training began or ended inside it; False
                records it whatever it lacks. Default: the ids tell.
            n_samples: how many samples a whole epoch has, for the warning about a partial one.

        Returns:
            The summary, or None on a process that does not write.

        Raises:
            RecordingError: if ids are repeated or unknown, or missing from the first epoch; if
                labels changed or are no class indices; if the losses of a batch are all equal.
                Earlier epochs are safe; see `discard_epoch`.
            StoreError: if the disk is full; the epoch is held in memory, call again.
        """
        with self._state.lock:
            self._state.check_open("end_epoch")
            numbers = metric_values(metrics)
            step = self._step(epoch, delta)
            weight = self._weight(delta)
            rows = self._rows()
            if rows is None:
                self._writer.check_not_empty(step)
                self.discard_epoch()
                return None
            summary = self._writer.write_epoch(
                Epoch(
                    step=step,
                    numbered=epoch is not None,
                    delta=weight,
                    rows=rows,
                    metrics=numbers,
                    partial=partial,
                    n_samples=n_samples,
                    n_classes=self._state.n_classes,
                    loss_name=self._loss_name(),
                )
            )
            self.discard_epoch()
            self._images.rank(rows.ids, rows.columns["loss"])
            if summary is not None:
                self._after(summary, epoch)
        return summary

    def describe_samples(
        self,
        ids: Any,
        *,
        labels: Any = None,
        true_labels: Any = None,
        paths: Sequence[str] | None = None,
        input_digests: Sequence[str] | None = None,
        images: Any = None,
        metadata: Any = None,
        metadata_columns: Sequence[str] = (),
    ) -> None:
        """Declare all samples of the split before the first epoch. Optional, any order.

        Without it, the first epoch decides which samples there are.

        Args:
            ids: (n_samples,) integers or strings.
            labels: (n_samples,) class indices as trained on.
            true_labels: (n_samples,) the truth, where labels are noisy.
            paths: (n_samples,) image paths relative to the root of `source`.
            input_digests: (n_samples,) see `actiontrack.record.digest.digest_input`: with them
                runs on other pixels under the same ids are told apart.
            images: of the samples in the order of the ids, or a function of an id, see
                `Recorder`.
            metadata: attributes of samples, such as the camera, to slice by: a DataFrame or a
                mapping of columns, one of which is id or sample_id. Rows are joined by id, in any
                order; samples may lack one.
            metadata_columns: the attributes to keep. Default: all. A record with hashed ids has no
                default: name every column that may leave this machine.

        Raises:
            RecordingError: if ids repeat, or a resumed record has other samples, labels or inputs.
            ParameterError: if there is not one value per id, or `metadata` names none of them.
            DataError: if `metadata` names a sample twice, or holds what no attribute may be.
        """
        columns = {
            "labels": labels,
            "true_labels": true_labels,
            "paths": paths,
            "input_digests": input_digests,
        }
        with self._state.lock:
            self._state.check_open("describe_samples")
            if images is not None:
                self._images.source = source_of(images, ids)
            recorded = canonical_ids(self._privacy.ids(ids))
            samples = self._privacy.samples(samples_of(recorded, columns))
            attributes = None
            if metadata is not None:
                attributes = described_samples(metadata, metadata_columns, recorded, self._privacy)
            self._writer.declare(samples)
            if attributes is not None:
                self._writer.keep_attributes(attributes)

    def _batch(self, size: int, **arguments: Any) -> Batch:
        """The batch of a call of `update`; `actiontrack.testing` overrides it."""
        return batch_of(size, **arguments)

    def _rows(self) -> EpochRows | None:
        check_uniform = self._state.given_losses and not self._options.allow_uniform
        return self._state.buffer.rows(self._options.gather, check_uniform=check_uniform)

    def _step(self, epoch: int | None, delta: float | None) -> int:
        step, n_missing = recorded_step(
            epoch,
            last=self.last_step,
            first_epoch=self._options.first_epoch,
            left_out=self._writer.left_out,
        )
        if delta is None:
            check_gap(n_missing, step, self.last_step, self.name)
        return step

    def _weight(self, delta: float | None) -> float:
        if delta is None:
            kind = self._manifest.delta_kind if self._writer.writes else "epoch"
            n_batches, seconds = len(self._state.buffer), self._state.seconds
            delta = default_delta(kind, self._manifest.mode, n_batches, seconds)
        return positive_weight(delta)

    def _after(self, summary: EpochSummary, epoch: int | None) -> None:
        """What remains to be said once an epoch is safe."""
        state = self._state
        if are_probabilities(state.first_outputs):
            warnings.warn(PROBABILITIES_AS_LOGITS, stacklevel=3)
        state.first_outputs = None
        if not summary.partial:
            state.recorded()
        if epoch == 0 and self._options.first_epoch is None and not state.warned_of_zero:
            state.warned_of_zero = True
            logger.warning(ZERO, self.name)
        self._tell(stacklevel=4)
        if self._writer.refused:
            raise RecordingError(
                f"{self._writer.refused} The epochs of this one are in {self.folder}."
            )
