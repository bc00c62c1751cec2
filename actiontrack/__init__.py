"""Action scores: which samples are hard, mislabelled or biased, tracked in MLflow.

The names below are imported when they are first used, so that ``import actiontrack`` is cheap and
loads neither MLflow nor a plotting or training library.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from actiontrack._version import __version__ as __version__
from actiontrack.errors import RedactingFilter

if TYPE_CHECKING:
    from actiontrack.analysis import (
        accuracy_by_threshold,
        class_distributions,
        compare_runs,
        correlation_by_quantile,
        correlation_table,
        curve_clusters,
        easiest,
        hardest,
        load_records,
        load_scores,
        loss_curves,
        neighbours,
        noise_detection,
        noise_scores,
        noise_summary,
        stability,
    )
    from actiontrack.errors import ActionTrackError
    from actiontrack.history import LossHistory
    from actiontrack.recorder import Recorder, sync
    from actiontrack.recorder.autolog import adapters, autolog
    from actiontrack.store import RunQuery, Store

logging.getLogger("actiontrack").addFilter(RedactingFilter())

__all__ = [
    "ActionTrackError",
    "LossHistory",
    "Recorder",
    "RunQuery",
    "Store",
    "accuracy_by_threshold",
    "adapters",
    "autolog",
    "class_distributions",
    "compare_runs",
    "correlation_by_quantile",
    "correlation_table",
    "curve_clusters",
    "easiest",
    "hardest",
    "load_records",
    "load_scores",
    "loss_curves",
    "neighbours",
    "noise_detection",
    "noise_scores",
    "noise_summary",
    "stability",
    "sync",
]

_HOME = {
    "ActionTrackError": "errors",
    "LossHistory": "history",
    "Recorder": "recorder",
    "RunQuery": "store",
    "Store": "store",
    "adapters": "recorder.autolog",
    "autolog": "recorder.autolog",
    "sync": "recorder",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'actiontrack' has no attribute {name!r}")
    return getattr(import_module(f"actiontrack.{_HOME.get(name, 'analysis')}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
