"""Runs of a tracking server to tidy score tables and the tables of the paper.

Every function starts from records (`load_records`) or from a tidy score frame (`load_scores`) and
returns a pandas frame. Runs are compared only if they measure the same thing on the same samples.
"""

from actiontrack.analysis.agreement import (
    contrasts,
    correlation_by_quantile,
    disattenuated_correlations,
    mean_ranks,
    top_k_overlaps,
)
from actiontrack.analysis.alignment import (
    Alignment,
    align,
    class_column,
)
from actiontrack.analysis.comparable import (
    check_same_measure,
    split_comparable,
)
from actiontrack.analysis.comparison import (
    Comparison,
    compare_runs,
    correlation_table,
)
from actiontrack.analysis.curves import (
    curve_clusters,
    loss_curves,
    stability,
)
from actiontrack.analysis.difficulty_files import (
    read_difficulties,
)
from actiontrack.analysis.ensembles import (
    accuracy_by_threshold,
    accuracy_summary,
    ensemble_accuracy,
    ensemble_correlations,
    ensemble_regions,
    ensemble_scores,
)
from actiontrack.analysis.features import (
    feature_map,
    neighbours,
)
from actiontrack.analysis.fixes import (
    corrected_labels,
    label_fixes,
    wrong_label_counts,
)
from actiontrack.analysis.loading import (
    DamagedRecord,
    load_records,
    load_scores,
    score_column,
    score_frame,
)
from actiontrack.analysis.noise import (
    correction_quality,
    noise_detection,
    noise_pairs,
    noise_scores,
    noise_summary,
)
from actiontrack.analysis.outside import (
    OutsideAgreement,
    agreement_with,
    difficulty_ranks,
)
from actiontrack.analysis.pixels import (
    map_correlation,
    pixel_classes,
    pixel_regions,
)
from actiontrack.analysis.samples import (
    class_distributions,
    easiest,
    hardest,
)
from actiontrack.analysis.tables import (
    check_score,
    class_name,
    model_of,
    positions,
    runs_frame,
    save_frame,
)
from actiontrack.analysis.tokens import (
    token_actions,
)
from actiontrack.scores import (
    LOW_IS_HARD,
    hardness_sign,
)

__all__ = [
    "LOW_IS_HARD",
    "Alignment",
    "Comparison",
    "DamagedRecord",
    "OutsideAgreement",
    "accuracy_by_threshold",
    "accuracy_summary",
    "agreement_with",
    "align",
    "check_same_measure",
    "check_score",
    "class_column",
    "class_distributions",
    "class_name",
    "compare_runs",
    "contrasts",
    "corrected_labels",
    "correction_quality",
    "correlation_by_quantile",
    "correlation_table",
    "curve_clusters",
    "difficulty_ranks",
    "disattenuated_correlations",
    "easiest",
    "ensemble_accuracy",
    "ensemble_correlations",
    "ensemble_regions",
    "ensemble_scores",
    "feature_map",
    "hardest",
    "hardness_sign",
    "label_fixes",
    "load_records",
    "load_scores",
    "loss_curves",
    "map_correlation",
    "mean_ranks",
    "model_of",
    "neighbours",
    "noise_detection",
    "noise_pairs",
    "noise_scores",
    "noise_summary",
    "pixel_classes",
    "pixel_regions",
    "positions",
    "read_difficulties",
    "runs_frame",
    "save_frame",
    "score_column",
    "score_frame",
    "split_comparable",
    "stability",
    "token_actions",
    "top_k_overlaps",
    "wrong_label_counts",
]
