"""What pages and API show: records of a store as frames and bytes, with bounded caches.

Pages and API call `Data`; neither computes by itself, and this module computes nothing either: it
asks `actiontrack.analysis` and keeps what they answer. Caches are
keyed by the checksum of the record's manifest, so that a record that grows is read anew.

Frames that are handed out are shared between threads. Derive new ones, never change one in place.
"""

import copy
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack import analysis, compare, settings
from actiontrack.analysis import exploration, verdicts
from actiontrack.analysis.exploration import SampleFilter
from actiontrack.errors import CorruptRecordError, NotFoundError, ParameterError, StoreError
from actiontrack.history import LossHistory, check_choice
from actiontrack.record.manifest import Manifest
from actiontrack.record.paths import MANIFEST
from actiontrack.record.samples import Samples, read_samples
from actiontrack.record.vectors import check_scores
from actiontrack.reporting import describe_comparison
from actiontrack.scores import unranked
from actiontrack.store import ARTIFACT_ROOT, RunInfo, RunQuery, Store, StoredRecord, choose_record
from actiontrack.web import images
from actiontrack.web.cache import Cache
from actiontrack.web.images import ImageRoots
from actiontrack.web.permissions import EDIT, Everybody, Permissions

__all__ = ["MAX_ROWS", "METHODS", "STATES", "Data", "Page", "RunFilter", "RunView", "dataset_of"]

STATES = ("all", "complete", "incomplete")
#: Correlations, as in `compare`.
METHODS: tuple[compare.Method, ...] = get_args(compare.Method)
#: Rows of one page of a table at most.
MAX_ROWS = 100_000

_DISK_BYTES = 4 * 2**30
_LISTED_S = 3.0  # for how long a list of runs is shown again without asking the store
_ASKED_S = 1.0  # the same for a single run
_KNOWN_S = 10.0  # the same for the manifest of a record on another machine
_SIBLINGS = 12
_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Which runs a list shows. Several values of one field are alternatives.

    Attributes:
        experiments: names of experiments.
        datasets: values of the parameter "dataset".
        models: names of models.
        tags: (key, value) pairs, all of which a run must have.
        text: part of the name or of the id of a run, in any case.
        state: "all", "complete" or "incomplete": whether the record was finished.
    """

    experiments: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    text: str = ""
    state: str = "all"


class Page(NamedTuple):
    """Some rows of a table.

    Attributes:
        frame: the rows of this page.
        total: rows of the whole table.
        page: number of this page, from 1.
        per_page: rows of a page.
    """

    frame: pd.DataFrame
    total: int
    page: int
    per_page: int

    @classmethod
    def of(cls, frame: pd.DataFrame, *, page: int, per_page: int) -> "Page":
        """One page of a whole table.

        Raises:
            ParameterError: if page or per_page is out of range.
        """
        start, stop = _bounds(page, per_page)
        return cls(frame.iloc[start:stop].reset_index(drop=True), len(frame), page, per_page)

    @property
    def n_pages(self) -> int:
        """Number of pages, at least 1."""
        return max(1, -(-self.total // self.per_page))


@dataclass(frozen=True, kw_only=True)
class RunView:
    """What a record offers, for the head of its pages.

    Attributes:
        info: the run.
        record: name of the record.
        manifest: what was recorded.
        digest: checksum of the manifest.
        scores: names of the scores to sort by, "action" first.
        class_names: names of the classes.
        has_labels: whether samples have labels.
        has_correct: whether predictions were recorded.
        has_true_labels: whether the truth behind noisy labels is known.
        has_entropy: whether predictive entropy was recorded.
        has_features: whether neighbours can be asked for.
        has_probabilities: whether class probabilities of the final model were recorded.
        has_maps: whether actions of pixels were recorded.
        has_boxes: whether boxes were recorded.
        has_images: whether images can be shown by this server.
        pictures: names of further pictures, such as "label" and "prediction".
    """

    info: RunInfo
    record: str
    manifest: Manifest
    digest: str
    scores: tuple[str, ...]
    class_names: tuple[str, ...]
    has_labels: bool
    has_correct: bool
    has_true_labels: bool
    has_entropy: bool
    has_features: bool
    has_probabilities: bool
    has_maps: bool
    has_boxes: bool
    has_images: bool
    pictures: tuple[str, ...] = ()


class _Record(StoredRecord):
    """A record whose tables are kept in a cache that all records share."""

    def __init__(self, cache: Cache, **options: Any) -> None:
        super().__init__(**options)
        self._cache = cache
        self.origin: _Record | None = None  # the scratch folder lives as long as the first copy

    @property
    def key(self) -> tuple[str, ...]:
        """What cached tables depend on: they hold the run's name and model, too."""
        return (self.run.run_id, self.name, self.digest, self.run.name, self.run.model)

    def cached(self, what: Hashable, compute: Callable[[], _Value]) -> _Value:
        return self._cache.get((*self.key, what), compute)

    def scores(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        frame = self.cached("scores", super().scores)
        check_scores(columns or (), list(frame.columns))
        return frame if columns is None else frame[list(columns)]

    def history(self, columns: Sequence[str] | None = None) -> LossHistory:
        wanted = None if columns is None else tuple(columns)
        read = super().history
        return self.cached(("history", wanted), lambda: read(columns))

    def features(self) -> npt.NDArray[np.float32]:
        return self.cached("features", super().features)

    def probabilities(self) -> npt.NDArray[np.float32]:
        return self.cached("probabilities", super().probabilities)

    @property
    def samples(self) -> Samples:
        return self.cached("samples", lambda: read_samples(self.manifest, self.fetch))

    @property
    def boxes(self) -> pd.DataFrame | None:
        return self.cached("boxes", lambda: super(_Record, self).boxes)

    @property
    def map_index(self) -> pd.DataFrame:
        return self.cached("map index", lambda: super(_Record, self).map_index)


class Data:
    """What pages and API ask for.

    A run is named by its id, a record by its name or None for the run's usual one. Every method
    raises errors of `actiontrack.errors`: NotFoundError for an unknown run, record or sample,
    ParameterError for an option that makes no sense, NotComparableError, CorruptRecordError,
    StoreError.

    Args:
        store: where the runs are.
        image_roots: folders that images may be read from, beside the thumbnails of records.
        permissions: what the present user may do.
        cache_bytes: room for tables in memory. Default: ACTIONTRACK_CACHE_MB, or 512 MiB.
        disk_bytes: room for files that were downloaded from an artifact store.
    """

    def __init__(
        self,
        store: Store,
        *,
        image_roots: ImageRoots | None = None,
        permissions: Permissions | None = None,
        cache_bytes: int | None = None,
        disk_bytes: int = _DISK_BYTES,
    ) -> None:
        self.store = store
        self.image_roots = image_roots or ImageRoots()
        self.permissions: Permissions = permissions or Everybody()
        self._cache = Cache(_cache_bytes() if cache_bytes is None else cache_bytes)
        self._records = Cache(disk_bytes, _disk_bytes)
        self._known: dict[tuple[str, str], tuple[object, tuple[str, ...]]] = {}
        self._listed: tuple[float, list[RunInfo]] | None = None
        self._infos: dict[str, tuple[float, RunInfo]] = {}
        self._lock = threading.Lock()

    # Runs

    def runs(self, wanted: RunFilter | None = None, *, page: int = 1, per_page: int = 50) -> Page:
        """The records that the user may read, newest run first, one row per run and record.

        Returns:
            The columns of `analysis.runs_frame` and experiment_id, start_time (ms since the epoch
            of Unix), end_time. A record whose manifest can't be read has the reason in the
            column problem, and no numbers.
        """
        found = self._matching(wanted or RunFilter())
        start, stop = _bounds(page, per_page)
        rows = [self._run_row(info, record) for info, record in found[start:stop]]
        frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=_RUN_COLUMNS)
        return Page(frame.reindex(columns=_RUN_COLUMNS), len(found), page, per_page)

    def choices(self) -> dict[str, list[str]]:
        """What runs can be filtered by: experiments, datasets, models, tags ("key=value")."""
        infos = self._readable_runs()
        tags = {
            f"{key}={value}"
            for each in infos
            for key, value in each.tags.items()
            if not key.startswith(("mlflow.", "actiontrack."))
        }
        return {
            "experiments": sorted({each.experiment for each in infos}),
            "datasets": sorted({dataset_of(each) for each in infos} - {""}),
            "models": sorted({each.model for each in infos}),
            "tags": sorted(tags),
        }

    def run(self, run_id: str, record: str | None = None) -> RunView:
        """What a record offers."""
        found = self.record(run_id, record)
        manifest, frame = found.manifest, self._scores(found)
        return RunView(
            info=found.run,
            record=found.name,
            manifest=manifest,
            digest=found.digest,
            scores=_score_names(frame),
            class_names=tuple(str(each) for each in _classes_in_order(found, frame)),
            has_labels="label" in frame.columns,
            has_correct="correct" in frame.columns,
            has_true_labels="true_label" in frame.columns,
            has_entropy="final_entropy" in frame.columns,
            has_features=found.has_features,
            has_probabilities=found.has_probabilities,
            has_maps=found.has_maps,
            has_boxes=found.has_boxes,
            has_images=found.has_thumbnails or self.image_roots.allows(manifest.source),
            pictures=found.picture_names,
        )

    def siblings(self, run_id: str, record: str | None = None) -> pd.DataFrame:
        """Runs to compare a run with: other runs of the same record on the same samples.

        Returns:
            run_id, run_name, model, experiment; the newest twelve.
        """
        found = self.record(run_id, record)
        rows = []
        for info in self._readable_runs():
            if info.run_id == run_id or found.name not in info.records:
                continue
            try:
                other = self._open(info, found.name)
            except (NotFoundError, CorruptRecordError):
                continue
            digests = found.manifest.digests, other.manifest.digests
            if all(digests[0].get(each) == digests[1].get(each) for each in ("ids", "labels")):
                model = analysis.model_of(other)
                rows.append((info.run_id, info.name, model, info.experiment))
            if len(rows) == _SIBLINGS:
                break
        return pd.DataFrame(rows, columns=["run_id", "run_name", "model", "experiment"])

    def version(self, run_ids: Sequence[str], record: str | None = None) -> str:
        """What changes when any of these records does, for ETags."""
        return "-".join(self.record(each, record).digest[:16] for each in run_ids)

    # One run

    def scores(
        self,
        run_id: str,
        record: str | None = None,
        *,
        wanted: SampleFilter | None = None,
        score: str = "action",
        order: str | None = "hardest",
        page: int = 1,
        per_page: int = 50,
    ) -> Page:
        """Samples with every score, see `analysis.load_scores` and `exploration.choose_samples`."""
        frame = self._scores(self.record(run_id, record))
        chosen = exploration.choose_samples(frame, wanted, score=score, order=order)
        return Page.of(chosen, page=page, per_page=per_page)

    def sample(self, run_id: str, record: str | None, sample_id: object) -> "pd.Series[Any]":
        """The row of one sample with every score, and `path` and `true_class`.

        `predicted_class` is the name of the predicted class where predictions were recorded.
        """
        found, row = self._at(run_id, record, sample_id)
        frame = self._scores(found)
        values = frame.iloc[row].copy()
        for column, name in (("true_label", "true_class"), ("predicted", "predicted_class")):
            if column in frame.columns:
                values[name] = analysis.class_name(found, int(frame[column].iloc[row]))
        if found.samples.paths is not None:
            values["path"] = found.samples.paths[row]
        return values

    def classes_of(
        self, run_id: str, record: str | None, sample_ids: Sequence[object]
    ) -> list[str]:
        """Name of the class of each of some samples, "all" without labels."""
        found = self.record(run_id, record)
        rows = analysis.positions(found, sample_ids)
        return self._scores(found)["class"].iloc[rows].astype(str).tolist()

    def ranks(self, run_id: str, record: str | None, sample_id: object) -> pd.DataFrame:
        """Rank and percentile of a sample by every score, see `exploration.sample_ranks`."""
        found, row = self._at(run_id, record, sample_id)
        frame = self._scores(found)
        return exploration.sample_ranks(frame, _score_names(frame), row)

    def ordered_ids(
        self,
        run_id: str,
        record: str | None = None,
        *,
        wanted: SampleFilter | None = None,
        score: str = "action",
        order: str = "hardest",
    ) -> npt.NDArray[Any]:
        """Ids of the samples that a filter lets through, in order: the pages of `scores` in one."""
        found = self.record(run_id, record)

        def compute() -> npt.NDArray[Any]:
            frame = self._scores(found)
            chosen = exploration.choose_samples(frame, wanted, score=score, order=order)
            return chosen["sample_id"].to_numpy()

        return found.cached(("ordered ids", wanted, score, order), compute)

    def histogram(
        self,
        run_id: str,
        record: str | None = None,
        *,
        wanted: SampleFilter | None = None,
        score: str = "action",
        bins: int = 50,
        by_class: bool = False,
    ) -> pd.DataFrame:
        """See `exploration.score_histogram`."""
        found = self.record(run_id, record)

        def compute() -> pd.DataFrame:
            chosen = exploration.choose_samples(self._scores(found), wanted, score=score)
            return exploration.score_histogram(chosen, score=score, bins=bins, by_class=by_class)

        return found.cached(("histogram", wanted, score, bins, by_class), compute)

    def classes(
        self, run_id: str, record: str | None = None, *, score: str = "action"
    ) -> pd.DataFrame:
        """Distribution of a score per class, see `analysis.class_distributions`."""
        found = self.record(run_id, record)

        def compute() -> pd.DataFrame:
            return analysis.class_distributions(self._scores(found), score=score)

        return found.cached(("classes", score), compute)

    def curves(
        self,
        run_ids: Sequence[str],
        record: str | None = None,
        *,
        sample_ids: Sequence[object] | None = None,
        n: int = 10,
    ) -> pd.DataFrame:
        """Loss against step, see `analysis.loss_curves`; n hardest of each run without ids."""
        _check_count("n", n, 1000)
        return analysis.loss_curves(self._all(run_ids, record), sample_ids, n=n)

    def clusters(
        self, run_id: str, record: str | None = None, *, k: int = 3, n_closest: int = 3
    ) -> pd.DataFrame:
        """K-means of all loss curves, see `analysis.curve_clusters`."""
        _check_count("k", k, 20)
        _check_count("n", n_closest, 50)
        found = self.record(run_id, record)
        return found.cached(
            ("clusters", k, n_closest),
            lambda: analysis.curve_clusters(found, k, n_closest=n_closest),
        )

    def neighbours(
        self,
        run_id: str,
        record: str | None = None,
        *,
        sample_ids: Sequence[object] | None = None,
        n: int = 6,
        k: int = 8,
        score: str = "action",
    ) -> pd.DataFrame:
        """Nearest neighbours in feature space, see `analysis.neighbours`."""
        _check_count("n", n, 100)
        _check_count("k", k, 100)
        found = self.record(run_id, record)
        wanted = None if sample_ids is None else tuple(str(each) for each in sample_ids)
        return found.cached(
            ("neighbours", wanted, n, k, score),
            lambda: analysis.neighbours(found, wanted, n=n, k=k, score=score),
        )

    def entropy(self, run_ids: Sequence[str], record: str | None = None) -> pd.DataFrame:
        """Action against entropy of one run or of an ensemble, see `exploration`."""
        records = self._all(run_ids, record)
        return self._together(
            records, ("entropy",), lambda: exploration.action_and_entropy(records)
        )

    # Several runs

    def correlations(
        self,
        run_ids: Sequence[str],
        record: str | None = None,
        *,
        score: str = "action",
        method: str | None = None,
        bootstrap: int = 0,
        on_mismatch: str = "error",
    ) -> pd.DataFrame:
        """Correlation per pair of models and class, see `analysis.Comparison.groups`.

        Rows of the kind "same-model" are the ceiling of the others.

        Args:
            run_ids: two runs or more.
            record: name of the record.
            score: the score to compare.
            method: "spearman" or "pearson". Default: both.
            bootstrap: resamples for ci_low and ci_high, at most 1000; 0 leaves them NaN.
            on_mismatch: "error" or "inner".
        """
        _check_count("bootstrap", bootstrap, 1000, least=0)
        if method is not None:
            check_choice("method", method, METHODS)
        # Without intervals both methods are a moment's work; with them each costs its resamples.
        only = method if bootstrap else None
        groups = self._comparison(
            run_ids,
            record,
            score=score,
            on_mismatch=on_mismatch,
            bootstrap=bootstrap,
            method=only,
        ).groups
        return _of_method(groups, method)

    def finding(
        self,
        run_ids: Sequence[str],
        record: str | None = None,
        *,
        score: str = "action",
        on_mismatch: str = "error",
    ) -> str:
        """A comparison in plain sentences, see `reporting.describe_comparison`."""
        return describe_comparison(
            self._comparison(run_ids, record, score=score, on_mismatch=on_mismatch)
        )

    def run_correlations(
        self,
        run_ids: Sequence[str],
        record: str | None = None,
        *,
        score: str = "action",
        method: str | None = None,
        on_mismatch: str = "error",
    ) -> pd.DataFrame:
        """Correlation per pair of runs and class, see `analysis.Comparison.pairs`."""
        pairs = self._comparison(run_ids, record, score=score, on_mismatch=on_mismatch).pairs
        return _of_method(pairs, method)

    def quantiles(
        self,
        run_ids: Sequence[str],
        record: str | None = None,
        *,
        score: str = "action",
        method: str | None = None,
        on_mismatch: str = "error",
    ) -> pd.DataFrame:
        """Correlation among the hardest samples, see `compare.correlation_by_quantile`."""
        records = self._all(run_ids, record)

        def compute() -> pd.DataFrame:
            return analysis.correlation_by_quantile(records, score=score, on_mismatch=on_mismatch)

        frame = self._together(records, ("quantiles", score, on_mismatch), compute)
        return _of_method(frame, method)

    def pairs(
        self,
        run_a: str,
        run_b: str,
        record: str | None = None,
        *,
        score: str = "action",
        on_mismatch: str = "error",
    ) -> pd.DataFrame:
        """One score of two runs side by side, see `exploration.score_pairs`."""
        records = self._all([run_a, run_b], record)

        def compute() -> pd.DataFrame:
            return exploration.score_pairs(*records, score=score, on_mismatch=on_mismatch)

        return self._together(records, ("pairs", score, on_mismatch), compute)

    def contrasts(
        self,
        run_ids: Sequence[str],
        record: str | None = None,
        *,
        score: str = "action",
        n: int = 12,
        on_mismatch: str = "error",
    ) -> pd.DataFrame:
        """Hard for one model and easy for another, see `analysis.contrasts`."""
        _check_count("n", n, 1000)
        records = self._all(run_ids, record)

        def compute() -> pd.DataFrame:
            aligned = analysis.align(records, score=score, on_mismatch=on_mismatch)
            return analysis.contrasts(aligned, n=n)

        return self._together(records, ("contrasts", score, n, on_mismatch), compute)

    # Images

    def image(self, run_id: str, record: str | None, sample_id: object) -> tuple[bytes, str]:
        """Encoded image of a sample and its MIME type, see `images.sample_image`."""
        found, row = self._at(run_id, record, sample_id)
        return images.sample_image(found, row, self.image_roots)

    def picture(
        self, run_id: str, record: str | None, sample_id: object, name: str
    ) -> tuple[bytes, str]:
        """A further picture of a sample, such as "label" or "prediction", and its MIME type."""
        found, row = self._at(run_id, record, sample_id)
        return images.checked(found.picture_bytes(name, row))

    def map_png(self, run_id: str, record: str | None, sample_id: object) -> bytes:
        """The action of each pixel of a sample as a PNG, transparent where there is none."""
        found, row = self._at(run_id, record, sample_id)
        return images.map_png(found.pixel_action(row))

    def boxes(self, run_id: str, record: str | None, sample_id: object) -> pd.DataFrame:
        """Boxes of a sample, see `store.StoredRecord.boxes`.

        Raises:
            NotFoundError: if the record holds no boxes, or no such sample.
        """
        found, row = self._at(run_id, record, sample_id)
        boxes = found.boxes
        if boxes is None:
            run = found.run
            raise NotFoundError(
                f"record {found.name} of run {run.run_id} ({run.name}) holds no boxes. "
                "Record them with Recorder.log_boxes."
            )
        ids = boxes["sample_id"].to_numpy()
        chosen: pd.DataFrame = boxes.loc[ids == found.samples.sample_ids[row]]
        return chosen.reset_index(drop=True)

    # Verdicts

    def verdicts(self, run_id: str, record: str | None = None) -> pd.DataFrame:
        """Everything that people said of samples, oldest first, see `verdicts.read`."""
        return verdicts.read(self.record(run_id, record))

    def current_verdicts(self, run_id: str, record: str | None = None) -> pd.DataFrame:
        """The verdict that counts of each sample, see `verdicts.current`."""
        return verdicts.current(self.verdicts(run_id, record))

    def add_verdict(
        self,
        run_id: str,
        record: str | None,
        sample_id: object,
        *,
        verdict: str,
        who: str,
        new_label: int | None = None,
        note: str = "",
    ) -> None:
        """Store one verdict of a person, see `verdicts.Verdict`."""
        if not self.permissions.may_use_run(run_id, EDIT):
            raise NotFoundError(f"run {run_id!r}: not found.")
        found, row = self._at(run_id, record, sample_id)
        given = verdicts.Verdict(
            sample_id=found.samples.sample_ids[row].item(),
            verdict=verdict,
            who=who,
            new_label=new_label,
            note=note,
        )
        verdicts.add(found, [given])

    def precision(
        self,
        run_id: str,
        record: str | None = None,
        *,
        score: str = "action",
        ks: Sequence[int] | None = None,
        current: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Precision at k from the verdicts, see `exploration.verdict_precision`.

        Args:
            run_id: the run.
            record: name of the record.
            score: the score that ranks.
            ks: how many of the hardest to look at.
            current: what `current_verdicts` gave. Default: asked again, which reads every file.
        """
        scores = self._scores(self.record(run_id, record))
        judged = self.current_verdicts(run_id, record) if current is None else current
        return exploration.verdict_precision(scores, judged, score=score, ks=ks)

    # How records are found and kept

    def record(self, run_id: str, record: str | None = None) -> _Record:
        """An open record whose tables are cached.

        Raises:
            NotFoundError: if there is no such run or record, or the user may not read it.
        """
        info = self._info(run_id)
        if not self.permissions.may_read_experiment(info.experiment_id):
            raise NotFoundError(f"run {run_id!r}: not found.")
        return self._open(info, choose_record(info, record))

    def _at(self, run_id: str, record: str | None, sample_id: object) -> tuple[_Record, int]:
        """An open record and the row position of a sample in it."""
        found = self.record(run_id, record)
        return found, analysis.positions(found, [sample_id])[0]

    def _info(self, run_id: str) -> RunInfo:
        """A run as the store knows it, or knew it a second ago: a page asks for it many times."""
        known = self._infos.get(run_id)
        if known is None or time.monotonic() - known[0] > _ASKED_S:
            known = (time.monotonic(), self.store.get_run(run_id))
            self._note(self._infos, run_id, known)
        return known[1]

    def _all(self, run_ids: Sequence[str], record: str | None) -> list[_Record]:
        if not run_ids:
            raise ParameterError("run", "must name a run", "", "Add run=ID to the address.")
        if len(set(run_ids)) != len(run_ids):
            raise ParameterError("run", "must name each run once", run_ids, "Drop the repeats.")
        return [self.record(each, record) for each in run_ids]

    def _open(self, info: RunInfo, name: str) -> _Record:
        """The record that was opened before, if nothing of it has changed."""

        def read() -> _Record:
            return _Record(self._cache, store=self.store, run=info, name=name)

        stamp = self._stamp(info, name)
        known = self._known.get((info.run_id, name))
        if known is not None and known[0] == stamp:
            opened = self._records.get(known[1], read)
        else:
            fresh = read()
            opened = self._records.get(fresh.key, lambda: fresh)
            self._note(self._known, (info.run_id, name), (stamp, fresh.key))
        found = copy.copy(opened)
        found.run, found.origin = info, opened
        return found

    def _note(self, notes: dict[_Key, _Value], key: _Key, value: _Value) -> None:
        """Remember a value, and forget those that were noted first when there are many."""
        with self._lock:
            notes[key] = value
            while len(notes) > _KNOWN:
                del notes[next(iter(notes))]

    def _stamp(self, info: RunInfo, name: str) -> object:
        root = self.store.local_root(info)
        if root is None:
            return int(time.monotonic() / _KNOWN_S)
        try:
            state = (root / ARTIFACT_ROOT / name / MANIFEST).stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_size, state.st_ino

    def kept(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """The value of a key that names everything it depends on, computed once.

        Raises:
            Exception: what `compute` raises.
        """
        return self._cache.get(key, compute)

    def _scores(self, found: _Record) -> pd.DataFrame:
        return found.cached("score frame", lambda: analysis.score_frame([found]))

    def _together(
        self, records: Sequence[_Record], what: tuple[Hashable, ...], compute: Callable[[], _Value]
    ) -> _Value:
        return self._cache.get((*(each.key for each in records), *what), compute)

    def _comparison(
        self,
        run_ids: Sequence[str],
        record: str | None,
        *,
        score: str,
        on_mismatch: str,
        bootstrap: int = 0,
        method: str | None = None,
    ) -> analysis.Comparison:
        records = self._all(run_ids, record)
        methods = tuple(each for each in METHODS if method in {None, each})

        def compute() -> analysis.Comparison:
            return analysis.compare_runs(
                records,
                score=score,
                methods=methods,
                n_bootstrap=bootstrap,
                on_mismatch=on_mismatch,
            )

        key = ("comparison", score, bootstrap, on_mismatch, methods)
        return self._together(records, key, compute)

    def _readable_runs(self) -> list[RunInfo]:
        """Runs with a record that the user may read, newest first."""
        listed = self._listed
        if listed is None or time.monotonic() - listed[0] > _LISTED_S:
            try:
                infos = self.store.find_runs(RunQuery())
            except NotFoundError:  # no run holds a record yet
                infos = []
            listed = self._listed = (time.monotonic(), infos)
        ids = {each.experiment_id for each in listed[1]}
        readable = {each for each in ids if self.permissions.may_read_experiment(each)}
        return [each for each in listed[1] if each.experiment_id in readable]

    def _matching(self, wanted: RunFilter) -> list[tuple[RunInfo, str]]:
        check_choice("state", wanted.state, STATES)
        found = []
        for info in self._readable_runs():
            if _matches(info, wanted):
                for record in info.records:
                    complete = info.record_state(record) == "complete"
                    if wanted.state == "all" or complete == (wanted.state == "complete"):
                        found.append((info, record))
        return found

    def _run_row(self, info: RunInfo, record: str) -> dict[str, object]:
        times = {"experiment_id": info.experiment_id, "start_time": info.start_time}
        times |= {"end_time": info.end_time, "problem": ""}
        try:
            found = self._open(info, record)
        except (NotFoundError, CorruptRecordError, StoreError) as error:
            head = {"run_id": info.run_id, "run_name": info.name, "experiment": info.experiment}
            head |= {"model": info.model, "dataset": dataset_of(info), "record": record}
            complete = {"status": info.status, "complete": False}
            return head | complete | times | {"problem": str(error)}
        return dict(analysis.runs_frame([found]).iloc[0]) | times


_KNOWN = 4096  # runs, and records that were opened, of which it is remembered
_RUN_COLUMNS = [
    *("run_id", "run_name", "experiment", "experiment_id", "model", "dataset", "seed", "record"),
    *("loss", "delta", "n_steps", "n_samples", "n_nonfinite", "status", "complete"),
    *("start_time", "end_time", "problem"),
]


def _cache_bytes() -> int:
    return settings.CACHE_MB.value() * 2**20


def _disk_bytes(record: _Record) -> int:
    """Bytes that a record may take in its scratch folder; of one at hand, about its manifest."""
    if record.store.local_root(record.run) is not None:
        return 2**20
    return sum(each.bytes for each in record.manifest.files.values())


def _bounds(page: int, per_page: int) -> tuple[int, int]:
    _check_count("page", page, 10**9)
    _check_count("per_page", per_page, MAX_ROWS)
    return (page - 1) * per_page, page * per_page


def _check_count(name: str, value: int, most: int, *, least: int = 1) -> None:
    if not least <= value <= most:
        rule = f"must lie in {least} to {most}"
        raise ParameterError(name, rule, value, "Choose a number in this range.")


def _matches(info: RunInfo, wanted: RunFilter) -> bool:
    chosen = (
        (wanted.experiments, info.experiment),
        (wanted.datasets, dataset_of(info)),
        (wanted.models, info.model),
    )
    text = wanted.text.lower()
    return (
        all(not values or value in values for values, value in chosen)
        and all(info.tags.get(key) == value for key, value in wanted.tags)
        and (text in info.name.lower() or text in info.run_id)
    )


def dataset_of(info: RunInfo) -> str:
    """Value of a run's parameter "dataset", "" without one."""
    return info.params.get("dataset", "").strip("'")


def _score_names(frame: pd.DataFrame) -> tuple[str, ...]:
    numeric = [str(each) for each in frame.select_dtypes("number").columns]
    names = [each for each in numeric if each not in unranked()]
    return tuple(sorted(names, key=lambda each: each != "action"))


def _classes_in_order(record: StoredRecord, frame: pd.DataFrame) -> list[Any]:
    present = {str(each) for each in frame["class"].unique()}
    named = [each for each in record.manifest.class_names if each in present]
    return named + sorted(present - set(named), key=lambda each: (len(each), each))


def _of_method(frame: pd.DataFrame, method: str | None) -> pd.DataFrame:
    if method is None:
        return frame
    check_choice("method", method, METHODS)
    chosen: pd.DataFrame = frame.loc[frame["method"] == method].reset_index(drop=True)
    return chosen
