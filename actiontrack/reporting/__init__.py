"""Reports of runs: what the records hold, as tables, figures and plain sentences with numbers."""

from actiontrack.analysis.sentences import (
    describe_agreement,
    describe_changes,
    describe_clusters,
    describe_comparison,
    describe_disattenuated,
    describe_ensemble,
    describe_map_correlation,
    describe_neighbours,
    describe_noise,
    describe_pixel_classes,
    describe_slice_differences,
    describe_slices,
    describe_stability,
    describe_wrong_labels,
)
from actiontrack.reporting.card import model_card
from actiontrack.reporting.changed import change_report
from actiontrack.reporting.common import sources_of
from actiontrack.reporting.comparison import comparison_report, query_report
from actiontrack.reporting.ensemble import ensemble_sections
from actiontrack.reporting.noise import detection_figure, noise_sections
from actiontrack.reporting.pictures import (
    gallery,
    has_pixel_classes,
    neighbour_gallery,
    noise_gallery,
    pixel_figure,
    region_gallery,
)
from actiontrack.reporting.result import describe_result, result_files, result_html
from actiontrack.reporting.run import run_report
from actiontrack.reporting.saving import log_report, log_run_report
from actiontrack.reporting.terminal import describe_run

__all__ = [
    "change_report",
    "comparison_report",
    "describe_agreement",
    "describe_changes",
    "describe_clusters",
    "describe_comparison",
    "describe_disattenuated",
    "describe_ensemble",
    "describe_map_correlation",
    "describe_neighbours",
    "describe_noise",
    "describe_pixel_classes",
    "describe_result",
    "describe_run",
    "describe_slice_differences",
    "describe_slices",
    "describe_stability",
    "describe_wrong_labels",
    "detection_figure",
    "ensemble_sections",
    "gallery",
    "has_pixel_classes",
    "log_report",
    "log_run_report",
    "model_card",
    "neighbour_gallery",
    "noise_gallery",
    "noise_sections",
    "pixel_figure",
    "query_report",
    "region_gallery",
    "result_files",
    "result_html",
    "run_report",
    "sources_of",
]
