"""What MLflow's own autologging has for others: hooks on imports, and who has started a run."""

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

__all__ = ["after_import", "is_users_own_run_active", "without_warnings"]

#: What Python says of the loaders by which MLflow hooks into imports.
_WARNINGS: dict[str, type[Warning]] = {
    "_ImportHookChainedLoader": ImportWarning,
    r"the load_module\(\) method is deprecated": DeprecationWarning,
}
_STARTED_BY_AUTOLOGGING = "mlflow.autologging"  # tag of runs that MLflow's autologging starts


def after_import(module: str, name: str, hook: Callable[[Any], None]) -> None:
    """Call a function with a module once it is imported, at once if it is already.

    Args:
        module: full name of the module.
        name: of the hook; a later one of the same name takes its place.
        hook: called with the module. It must not raise, or the import fails.
    """
    from mlflow.utils import import_hooks  # noqa: PLC0415

    for text, category in _WARNINGS.items():  # or programs that make them errors import nothing
        warnings.filterwarnings("ignore", text, category)

    def call(imported: Any) -> None:
        hook(imported)

    call.__name__ = name  # by which MLflow tells hooks apart
    import_hooks.register_post_import_hook(call, module, overwrite=True)


def is_users_own_run_active() -> bool:
    """Whether a run is active that MLflow's own autologging has not started."""
    import mlflow  # noqa: PLC0415

    active = mlflow.active_run()
    return active is not None and _STARTED_BY_AUTOLOGGING not in active.data.tags


def without_warnings() -> contextlib.AbstractContextManager[Any]:
    """Python's warnings of this thread are not shown, as in MLflow's silent mode."""
    from mlflow.utils.autologging_utils.logging_and_warnings import (  # noqa: PLC0415
        NonMlflowWarningsBehaviorForCurrentThread,
    )

    return NonMlflowWarningsBehaviorForCurrentThread(disable_warnings=True, reroute_warnings=False)  # type: ignore[no-untyped-call]
