"""The samples of a record: declared before the first epoch, or settled by it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.record.digest import digest_ids, digest_inputs, digest_labels
from actiontrack.record.manifest import Manifest
from actiontrack.record.paths import SAMPLES
from actiontrack.record.samples import Samples, write_samples
from actiontrack.recorder.arrays import canonical_ids
from actiontrack.recorder.epoch import EpochRows, first_ids
from actiontrack.recorder.spool import Spool

__all__ = ["Roster", "samples_of"]


class Roster:
    """Which samples a record has, and with which labels.

    Attributes:
        record: name of the record, for messages.
        ids: (n_samples,) ascending, or None before there are any.
        labels: (n_samples,) class indices, or None where unknown.
    """

    def __init__(self, record: str) -> None:
        self.record = record
        self.ids: npt.NDArray[Any] | None = None
        self.labels: npt.NDArray[Any] | None = None
        self._declared: Samples | None = None

    def restore(self, spool: Spool) -> None:
        """Take over the samples of a record that is continued."""
        self.ids, self.labels = spool.sample_ids(), spool.labels()

    def declare(self, samples: Samples, manifest: Manifest) -> None:
        """Fix the samples before the first epoch.

        Args:
            samples: all samples of the split.
            manifest: the record so far.

        Raises:
            RecordingError: if the record has other samples, labels or inputs already.
        """
        self._check_continued(samples, manifest)
        self._declared, self.ids = samples, samples.sample_ids
        if samples.labels is not None:
            self.labels = samples.labels

    def settle(self, rows: EpochRows, spool: Spool) -> None:
        """Write the samples at the first epoch: declared ones, or those that it saw."""
        if SAMPLES in spool.manifest.files:
            return
        labels = rows.columns.get("label")
        samples = self._declared or Samples(sample_ids=rows.ids, labels=_as_int(labels))
        saw_all = rows.ids.size == len(samples.sample_ids)
        if samples.labels is None and labels is not None and saw_all:
            samples = Samples(**{**vars(samples), "labels": _as_int(labels)})
        entry = write_samples(spool.folder, samples)
        spool.update(
            n_samples=len(samples.sample_ids),
            id_type="int64" if samples.sample_ids.dtype.kind == "i" else "string",
            digests=_digests(samples, spool.manifest.class_names),
        )
        self.ids, self.labels = samples.sample_ids, samples.labels
        spool.add_file(SAMPLES, entry)

    def settled_ids(self) -> npt.NDArray[Any]:
        """Ids of a record that has its samples."""
        assert self.ids is not None  # noqa: S101 - settled by the first epoch
        return self.ids

    def check_kind(self, ids: npt.NDArray[Any], step: int) -> None:
        """Refuse integers in a record of strings, and strings in one of integers.

        Raises:
            RecordingError: if the ids are of the other kind.
        """
        if self.ids is not None and self.ids.dtype.kind != ids.dtype.kind:
            raise RecordingError(
                f"ids: epoch {step} brings {_kind(ids)}, the record {self.record} has "
                f"{_kind(self.ids)}. Pass ids of the same type throughout."
            )

    def check_all_seen(self, ids: npt.NDArray[Any], step: int) -> None:
        """Refuse a first epoch that lacks declared samples.

        Raises:
            RecordingError: names the samples that are missing.
        """
        missing = self.missing(ids)
        if self.ids is not None and missing.size:
            raise RecordingError(
                f"ids: {missing.size} of {self.ids.size} samples are missing from epoch {step} "
                f"of record {self.record}: {first_ids(missing)}. Visit every sample "
                "(drop_last=False), or pass allow_missing=True."
            )

    def missing(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Samples of the record that are not among these ids."""
        if self.ids is None:
            return ids[:0]
        return np.setdiff1d(self.ids, ids, assume_unique=True)

    def check_labels(self, labels: npt.NDArray[Any] | None) -> None:
        """Refuse labels that are not those of the record.

        Args:
            labels: (n_samples,), masked where a sample was not seen, or None.

        Raises:
            RecordingError: names the first sample whose label has changed.
        """
        if labels is None or self.labels is None:
            return
        present = ~np.ma.getmaskarray(labels)
        wrong = np.flatnonzero(present & (np.ma.getdata(labels) != self.labels))
        if wrong.size:
            row = int(wrong[0])
            raise RecordingError(
                f"labels: {wrong.size} samples have another label than before, the first is "
                f"{self.settled_ids()[row]}: {int(self.labels[row])} became "
                f"{int(np.ma.getdata(labels)[row])}. "
                "Ids must travel with their samples, through shuffling too."
            )

    def order_of(self, ids: Any) -> npt.NDArray[np.intp]:
        """Rows of what belongs to these ids, by ascending id.

        Args:
            ids: (n_samples,) in any order.

        Raises:
            RecordingError: if they are not those of the record, each once.
        """
        given_ids = canonical_ids(ids)
        order = np.argsort(given_ids, kind="stable")
        if self.ids is None or not np.array_equal(given_ids[order], self.ids):
            raise RecordingError(
                f"ids: must be those of the record {self.record}, each once. Declare the samples "
                "or record an epoch first."
            )
        return order

    def _check_continued(self, samples: Samples, manifest: Manifest) -> None:
        recorded = manifest.digests
        if self.ids is None or not recorded:
            return
        digests = _digests(samples, manifest.class_names)
        if digests["ids"] != recorded.get("ids"):
            raise RecordingError(
                f"ids: the record {self.record} has {self.ids.size} samples, other ones than the "
                f"{len(samples.sample_ids)} declared now. Resume with the same data, or start a "
                "new run."
            )
        declared = {"labels": samples.labels, "inputs": samples.input_digests}
        for name in ("labels", "inputs"):
            if declared[name] is not None and recorded.get(name) not in {None, digests[name]}:
                raise RecordingError(
                    f"{name}: the record {self.record} was begun with other {name} of the same "
                    "samples. Resume with the same data, or start a new run."
                )


def samples_of(ids: npt.NDArray[Any], columns: Mapping[str, Any]) -> Samples:
    """Declared samples in canonical order.

    Args:
        ids: (n_samples,) as they are recorded, in any order.
        columns: "labels", "true_labels", "paths" and "input_digests", each (n_samples,) or None.

    Raises:
        RecordingError: if ids repeat.
        ParameterError: if there is not one value per id.
    """
    order = np.argsort(ids, kind="stable")
    ascending = ids[order]
    repeated = np.unique(ascending[1:][ascending[1:] == ascending[:-1]])
    if repeated.size:
        raise RecordingError(
            f"ids: {repeated.size} are repeated in the samples declared: {first_ids(repeated)}. "
            "Give each sample its own id."
        )
    return Samples(
        sample_ids=ascending,
        labels=_integers("labels", columns["labels"], order),
        true_labels=_integers("true_labels", columns["true_labels"], order),
        paths=_texts("paths", columns["paths"], order),
        input_digests=_texts("input_digests", columns["input_digests"], order),
    )


def _integers(name: str, values: Any, order: npt.NDArray[np.intp]) -> npt.NDArray[np.int64] | None:
    if values is None:
        return None
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.shape != order.shape:
        rule = f"must have shape {order.shape}"
        raise ParameterError(name, rule, array.shape, "Pass one per id.")
    if array.dtype.kind not in "iufb" or (array != np.round(array)).any():
        examples = array[:3].tolist()
        raise ParameterError(name, "must be class indices", examples, "Encode them as 0, 1, …")
    return array[order].astype(np.int64)


def _texts(
    name: str, values: Sequence[Any] | None, order: npt.NDArray[np.intp]
) -> list[str] | None:
    if values is None:
        return None
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise ParameterError(name, "must be a sequence of texts", values, "Pass one per id.")
    if len(values) != order.size:
        rule = f"must have length {order.size}"
        raise ParameterError(name, rule, len(values), "Pass one per id.")
    texts = list(values)
    return [str(texts[row]) for row in order]


def _digests(samples: Samples, class_names: Sequence[str]) -> dict[str, str | None]:
    inputs = samples.input_digests
    return {
        "ids": digest_ids(samples.sample_ids),
        "labels": digest_labels(samples.labels, class_names),
        "inputs": None if inputs is None else digest_inputs(inputs),
    }


def _as_int(values: npt.NDArray[Any] | None) -> npt.NDArray[np.int64] | None:
    return None if values is None else values.astype(np.int64)


def _kind(ids: npt.NDArray[Any]) -> str:
    return "integers" if ids.dtype.kind == "i" else "strings"
