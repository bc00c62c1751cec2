"""Everything that a report says, as frames: computed once, before anything is drawn.

Each `find_…` asks the analysis; the sections of `reporting` only render what it found. Tables of
records come through one cache of bounded size, so that each is read once for a whole report.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd

from actiontrack import analysis, compare
from actiontrack.analysis import exploration
from actiontrack.analysis.comparison import Comparison
from actiontrack.analysis.questions import score_table_of
from actiontrack.analysis.tables import open_records
from actiontrack.errors import ParameterError
from actiontrack.history import known_truth, wrong_labels
from actiontrack.reporting.common import GALLERY, first_of_each_model, has_classes
from actiontrack.reporting.pictures import has_pixel_classes
from actiontrack.reporting.slices import SliceFindings, find_slices
from actiontrack.reporting.suspects import SuspectFindings, find_suspects
from actiontrack.store import Cache, StoredRecord
from actiontrack.store.cache import PRIVATE_BYTES

__all__ = [
    "CLUSTERS",
    "NEIGHBOURS",
    "QUERIES",
    "SHARE",
    "ComparisonFindings",
    "DetailFindings",
    "EntropyFindings",
    "NoiseFindings",
    "PixelFindings",
    "RunFindings",
    "find_comparison",
    "find_ensemble",
    "find_noise",
    "find_run",
    "holds_noise",
    "read_once",
]

QUERIES, NEIGHBOURS = 6, 8
CLUSTERS = 3
SHARE = 0.02  # of the samples in each region of interest
_CURVES = 6
_OF_COMPONENT = 6  # hardest and easiest samples of each part of a loss
_MAPS = 4  # hardest and easiest samples with the action of their pixels
_MIN_STEPS = 3  # below, a curve has no shape
_MIN_SAMPLES = 3  # below, a correlation says nothing
_MAX_MODELS = 6  # of which one run is looked into
_MAX_MAPPED = 500  # samples whose maps are correlated in a report
_MEASURES = {"entropy", "correct"}


def read_once(records: Sequence[StoredRecord]) -> list[StoredRecord]:
    """The records with one cache between them, which holds what a report reads."""
    cache = Cache(PRIVATE_BYTES)
    return [record.with_cache(cache) for record in open_records(records)]


@dataclass(frozen=True, kw_only=True)
class PixelFindings:
    """Where the hard pixels are.

    Attributes:
        classes: frame of `analysis.pixel_classes`, None without labels of pixels.
        regions: frame of `analysis.pixel_regions`, None without labels of pixels.
        hardest: score rows of the samples whose maps are drawn.
        easiest: the same at the other end.
    """

    classes: pd.DataFrame | None
    regions: pd.DataFrame | None
    hardest: pd.DataFrame
    easiest: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class DetailFindings:
    """What one record holds beyond its scores; None for what it does not tell.

    Attributes:
        record: the record.
        curves: frame of `analysis.loss_curves` of the hardest samples.
        clusters: frame of `analysis.curve_clusters`.
        components: "Hardest" or "Easiest", a part of the loss, and the score rows by it.
        pixels: where the hard pixels are.
        points: frame of `analysis.feature_map`.
        n_features: width of the features.
        neighbours: frame of `analysis.neighbours` of the hardest samples.
        stability: frame of `analysis.stability`.
    """

    record: StoredRecord
    curves: pd.DataFrame
    clusters: pd.DataFrame | None
    components: tuple[tuple[str, str, pd.DataFrame], ...]
    pixels: PixelFindings | None
    points: pd.DataFrame | None
    n_features: int
    neighbours: pd.DataFrame | None
    stability: pd.DataFrame | None


@dataclass(frozen=True, kw_only=True)
class NoiseFindings:
    """How wrong labels show (4.4).

    Attributes:
        scores: frame of `analysis.noise_scores`.
        summary: frame of `analysis.noise_summary`, None if it was not asked for.
        pairs: frame of `analysis.noise_pairs`.
        galleries: the first record of each model by its name, with the score rows of its hardest
            samples and those of its hardest samples with a right label.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame | None
    pairs: pd.DataFrame
    galleries: dict[str, tuple[StoredRecord, pd.DataFrame, pd.DataFrame]]


@dataclass(frozen=True, kw_only=True)
class EntropyFindings:
    """Action against entropy, of one run or of an ensemble (4.1).

    Attributes:
        records: the runs.
        scores: action and entropy of each sample.
        regions: frame of `analysis.ensemble_regions`.
        accuracy: accuracy by threshold.
        correlations: frame of `analysis.ensemble_correlations`, None if the runs are no ensemble.
        share: part of the samples in each region.
    """

    records: Sequence[StoredRecord]
    scores: pd.DataFrame
    regions: pd.DataFrame
    accuracy: pd.DataFrame
    correlations: pd.DataFrame | None
    share: float = SHARE


@dataclass(frozen=True, kw_only=True)
class RunFindings:
    """What the report of one record says; None for what the record does not tell.

    Attributes:
        record: the record.
        scores: its score frame.
        classes: frame of `analysis.class_distributions`.
        hardest: score rows of the hardest samples.
        easiest: score rows of the easiest samples.
        details: curves, features, parts and pixels.
        entropy: action against entropy.
        suspects: which labels may be wrong.
        slices: which groups of the attributes are hard.
        noise: how wrong labels show.
    """

    record: StoredRecord
    scores: pd.DataFrame
    classes: pd.DataFrame | None
    hardest: pd.DataFrame
    easiest: pd.DataFrame
    details: DetailFindings
    entropy: EntropyFindings | None
    suspects: SuspectFindings | None
    slices: SliceFindings | None
    noise: NoiseFindings | None


@dataclass(frozen=True, kw_only=True)
class ComparisonFindings:
    """What the report of several runs says; None for what the records do not tell.

    Attributes:
        records: the runs.
        comparison: their correlations.
        scores: frame of `analysis.score_frame`.
        classes: frame of `analysis.class_distributions`.
        corrected: frame of `analysis.disattenuated_correlations`.
        quantiles: frame of `compare.correlation_by_quantile`.
        ranks: frame of `analysis.mean_ranks`.
        overlaps: frame of `analysis.top_k_overlaps`.
        contrasts: frame of `analysis.contrasts`, empty for a single model.
        entropy: action against entropy.
        noise: how wrong labels show.
        maps: frame of `analysis.map_correlation`.
        n_maps_left_out: samples whose maps were too many to be correlated.
        slices: which groups of the attributes are hard, over all runs.
        details: what the first run of each model holds, by the model's name.
        models_left_out: models that were not looked into, to keep the report short.
    """

    records: Sequence[StoredRecord]
    comparison: Comparison
    scores: pd.DataFrame
    classes: pd.DataFrame | None
    corrected: pd.DataFrame
    quantiles: pd.DataFrame
    ranks: pd.DataFrame
    overlaps: pd.DataFrame
    contrasts: pd.DataFrame
    entropy: EntropyFindings | None
    noise: NoiseFindings | None
    maps: pd.DataFrame | None
    n_maps_left_out: int
    slices: SliceFindings | None
    details: dict[str, DetailFindings]
    models_left_out: tuple[str, ...]


def find_run(
    record: StoredRecord, *, n_clusters: int, n_queries: int, n_neighbours: int
) -> RunFindings:
    """Compute what `run_report` says of a record; see there."""
    scores = score_table_of(record)
    return RunFindings(
        record=record,
        scores=scores,
        classes=analysis.class_distributions(scores) if has_classes(scores) else None,
        hardest=analysis.hardest(scores, GALLERY),
        easiest=analysis.easiest(scores, GALLERY),
        details=_find_details(
            record,
            scores,
            n_clusters=n_clusters,
            n_queries=n_queries,
            n_neighbours=n_neighbours,
        ),
        entropy=_find_entropy([record]),
        suspects=find_suspects(record, scores),
        slices=find_slices([record]),
        noise=find_noise([record], summarised=True) if holds_noise(record) else None,
    )


def find_comparison(
    records: Sequence[StoredRecord], comparison: Comparison, *, details: bool
) -> ComparisonFindings:
    """Compute what `comparison_report` says of several records; see there."""
    up_to_step = comparison.up_to_step
    scores = analysis.score_frame(records, up_to_step=up_to_step)
    aligned = analysis.align(
        records, score=comparison.score, on_mismatch="inner", up_to_step=up_to_step
    )
    models = aligned.runs["model"].tolist()
    several = len(set(models)) > 1
    whole = not comparison.note and up_to_step is None
    maps, n_maps_left_out = _find_maps(records)
    firsts = first_of_each_model(records) if details else {}
    chosen = list(firsts)[:_MAX_MODELS]
    return ComparisonFindings(
        records=records,
        comparison=comparison,
        scores=scores,
        classes=analysis.class_distributions(scores) if has_classes(scores) else None,
        corrected=analysis.disattenuated_correlations(comparison),
        quantiles=compare.correlation_by_quantile(aligned.values, groups=models),
        ranks=analysis.mean_ranks(aligned),
        overlaps=analysis.top_k_overlaps(aligned),
        contrasts=analysis.contrasts(aligned, n=GALLERY) if several else pd.DataFrame(),
        entropy=_find_entropy(records) if whole else None,
        noise=find_noise(records, summarised=True) if all(map(holds_noise, records)) else None,
        maps=maps,
        n_maps_left_out=n_maps_left_out,
        slices=find_slices(records, score=comparison.score, up_to_step=up_to_step),
        details={
            model: _find_details(firsts[model], score_table_of(firsts[model])) for model in chosen
        },
        models_left_out=tuple(firsts)[_MAX_MODELS:],
    )


def _find_details(
    record: StoredRecord,
    scores: pd.DataFrame,
    *,
    n_clusters: int = CLUSTERS,
    n_queries: int = QUERIES,
    n_neighbours: int = NEIGHBOURS,
) -> DetailFindings:
    """Compute what a record holds beyond its scores.

    Args:
        record: an open record.
        scores: its score frame.
        n_clusters: clusters of loss curves.
        n_queries: hardest samples whose neighbours are looked for, where features are recorded.
        n_neighbours: neighbours of each.
    """
    n_steps = record.manifest.n_steps
    shape = record.features().shape if record.has_features else (0, 0)
    return DetailFindings(
        record=record,
        curves=analysis.loss_curves([record], n=_CURVES),
        clusters=_find_clusters(record, n_clusters) if n_steps >= _MIN_STEPS else None,
        components=_find_components(record, scores),
        pixels=_find_pixels(record, scores) if record.has_maps else None,
        points=analysis.feature_map(record) if min(shape) >= 2 else None,
        n_features=shape[1],
        neighbours=_find_neighbours(record, n_queries, n_neighbours),
        stability=analysis.stability([record]) if n_steps >= _MIN_STEPS else None,
    )


def _find_clusters(record: StoredRecord, k: int) -> pd.DataFrame | None:
    try:
        return analysis.curve_clusters(record, k)
    except ParameterError:  # fewer distinct curves than clusters
        return None


def _find_components(
    record: StoredRecord, scores: pd.DataFrame
) -> tuple[tuple[str, str, pd.DataFrame], ...]:
    """Hardest and easiest samples by the action of each part of the loss (Fig. 8 to 10)."""
    ends = (("Hardest", analysis.hardest), ("Easiest", analysis.easiest))
    return tuple(
        (word, name, choose(scores, _OF_COMPONENT, by=f"action_{name}"))
        for name, (word, choose) in product(record.manifest.components, ends)
        if f"action_{name}" in scores.columns  # a number of tokens is no loss
    )


def _find_pixels(record: StoredRecord, scores: pd.DataFrame) -> PixelFindings:
    labelled = has_pixel_classes(record)
    return PixelFindings(
        classes=analysis.pixel_classes(record) if labelled else None,
        regions=analysis.pixel_regions(record) if labelled else None,
        hardest=analysis.hardest(scores, _MAPS),
        easiest=analysis.easiest(scores, _MAPS),
    )


def _find_neighbours(record: StoredRecord, n: int, k: int) -> pd.DataFrame | None:
    k = min(k, record.manifest.n_samples - 1)
    if not record.has_features or k < 1:
        return None
    neighbours = analysis.neighbours(record, n=n, k=k)
    return None if neighbours.empty else neighbours


def holds_noise(record: StoredRecord) -> bool:
    """Whether some labels of a record are known to be wrong."""
    samples = record.samples
    if samples.labels is None or samples.true_labels is None:
        return False
    return bool(wrong_labels(samples.labels, samples.true_labels).any())


def find_noise(
    records: Sequence[StoredRecord],
    others: Sequence[StoredRecord] = (),
    *,
    summarised: bool = False,
) -> NoiseFindings:
    """Compute how wrong labels show.

    Args:
        records: open records whose samples have true labels, of one model or several.
        others: records of another split of the same runs.
        summarised: whether to measure how well each score finds the wrong labels.

    Raises:
        NotFoundError: if a record holds no true labels.
    """
    galleries = {}
    for model, record in first_of_each_model(records).items():
        scores = score_table_of(record)
        wrong = wrong_labels(scores["label"], scores["true_label"])
        right = scores[known_truth(scores["label"], scores["true_label"]) & ~wrong]
        hardest = analysis.hardest(scores, 2 * GALLERY)
        galleries[model] = (record, hardest, analysis.hardest(right, GALLERY))
    detected = analysis.noise_detection(records) if summarised else None
    return NoiseFindings(
        scores=analysis.noise_scores([*records, *others]),
        summary=None if detected is None else analysis.noise_summary(detected),
        pairs=analysis.noise_pairs(records),
        galleries=galleries,
    )


def _find_entropy(records: Sequence[StoredRecord]) -> EntropyFindings | None:
    """Compute action against entropy, as far as the records tell; None without entropies.

    Args:
        records: open records of the same samples: one run, or several. Where all hold the class
            probabilities of their final models, they are taken as an ensemble.
    """
    if min(record.manifest.n_samples for record in records) < _MIN_SAMPLES:
        return None
    ensemble = len(records) > 1 and all(record.has_probabilities for record in records)
    if ensemble and all(record.samples.labels is not None for record in records):
        scores = analysis.ensemble_scores(records)
        return find_ensemble(records, scores, analysis.ensemble_correlations(scores), share=SHARE)
    if not all(set(record.manifest.measures) >= _MEASURES for record in records):
        return None
    first = exploration.action_and_entropy(records[:1])
    return EntropyFindings(
        records=records,
        scores=first,
        regions=analysis.ensemble_regions(first, share=SHARE),
        accuracy=analysis.accuracy_by_threshold(records),
        correlations=None,
    )


def find_ensemble(
    records: Sequence[StoredRecord],
    scores: pd.DataFrame,
    correlations: pd.DataFrame,
    *,
    share: float,
) -> EntropyFindings:
    """Compute regions and accuracy of an ensemble; see `ensemble_sections`."""
    return EntropyFindings(
        records=records,
        scores=scores,
        regions=analysis.ensemble_regions(scores, share=share),
        accuracy=analysis.ensemble_accuracy(records, scores),
        correlations=correlations,
        share=share,
    )


def _find_maps(records: Sequence[StoredRecord]) -> tuple[pd.DataFrame | None, int]:
    """How far maps of pixel actions agree, where all runs have comparable and few enough ones."""
    kinds = {
        (record.manifest.pixel_loss_name, str(record.manifest.maps)) if record.has_maps else None
        for record in records
    }
    if None in kinds or len(kinds) > 1:
        return None, 0
    if records[0].manifest.n_samples > _MAX_MAPPED:
        return None, records[0].manifest.n_samples
    return analysis.map_correlation(records, on_mismatch="inner"), 0
