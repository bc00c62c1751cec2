"""Do two models find the same samples hard? Rank correlation of scores, and other comparisons.

Vocabulary: *values* is an array of shape ``(R, N)`` with one row of scores per run and one column
per sample, columns in the same order in every row; *labels* holds the true class of each column as
an integer into *class_names*; *groups* names the model of each run. Two runs with the same name
are a **same-model** pair, the ceiling against which a **cross-model** pair is read.

Arrays in, tidy frames out. Everything here is pure: no tracking server, no files, no plots.
"""

from actiontrack.compare.clusters import (
    CurveClusters,
    cluster_curves,
)
from actiontrack.compare.correlation import (
    CorrelationResult,
    correlations,
    disattenuated,
    pair_labels,
    table1,
)
from actiontrack.compare.detectors import (
    calibration_error,
    correction,
    detection,
    top_k_overlap,
)
from actiontrack.compare.difficulty import (
    HIGH_ACTION,
    HIGH_ENTROPY,
    accuracy_by_threshold,
    class_summary,
    mean_interval,
    regions_of_interest,
)
from actiontrack.compare.draws import Resamples
from actiontrack.compare.matrices import Method
from actiontrack.compare.neighbours import (
    nearest_neighbours,
    principal_components,
)
from actiontrack.compare.quantiles import (
    correlation_by_quantile,
)
from actiontrack.compare.ranks import (
    MIN_SAMPLES,
    OVERALL,
    WITHIN_CLASS,
    average_ranks,
    check_methods,
    finite_columns,
    pearson_matrix,
    relative_ranks,
    spearman_matrix,
    tails,
    with_last,
)
from actiontrack.compare.resampling import (
    Pairs,
    PartSamples,
    resampled,
    to_resample,
)
from actiontrack.compare.slices import (
    Grouping,
    SliceEffects,
    Strata,
    false_discovery_rates,
    slice_effects,
    slice_interval,
    slice_variances,
)
from actiontrack.compare.sources import (
    ScoreSource,
)

__all__ = [
    "HIGH_ACTION",
    "HIGH_ENTROPY",
    "MIN_SAMPLES",
    "OVERALL",
    "WITHIN_CLASS",
    "CorrelationResult",
    "CurveClusters",
    "Grouping",
    "Method",
    "Pairs",
    "PartSamples",
    "Resamples",
    "ScoreSource",
    "SliceEffects",
    "Strata",
    "accuracy_by_threshold",
    "average_ranks",
    "calibration_error",
    "check_methods",
    "class_summary",
    "cluster_curves",
    "correction",
    "correlation_by_quantile",
    "correlations",
    "detection",
    "disattenuated",
    "false_discovery_rates",
    "finite_columns",
    "mean_interval",
    "nearest_neighbours",
    "pair_labels",
    "pearson_matrix",
    "principal_components",
    "regions_of_interest",
    "relative_ranks",
    "resampled",
    "slice_effects",
    "slice_interval",
    "slice_variances",
    "spearman_matrix",
    "table1",
    "tails",
    "to_resample",
    "top_k_overlap",
    "with_last",
]
