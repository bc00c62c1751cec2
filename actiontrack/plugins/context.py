"""Tags of runs: MLflow asks for them by itself once the package is installed.

MLflow loads this module while it is imported itself, so it loads nothing else that is heavy.
"""

import sys

from mlflow.tracking.context.abstract_context import RunContextProvider

from actiontrack import settings
from actiontrack._version import __version__

__all__ = [
    "ActionRunContext",
]


class ActionRunContext(RunContextProvider):
    """Tags of every run that is started in a process that records.

    actiontrack.version is that of the package; actiontrack.model, the key by which same-model runs
    are grouped, is the environment variable ACTIONTRACK_MODEL where it is set.
    """

    def in_context(self) -> bool:
        """Whether this process has loaded a recorder, or names its model."""
        return "actiontrack.recorder.recorder" in sys.modules or bool(settings.MODEL.value())

    def tags(self) -> dict[str, str]:
        """The tags."""
        from actiontrack.store import MODEL_TAG  # noqa: PLC0415

        tags = {"actiontrack.version": __version__}
        model = settings.MODEL.value()
        return tags | ({MODEL_TAG: model} if model else {})
