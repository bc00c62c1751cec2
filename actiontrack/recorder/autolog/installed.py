"""The adapters that are installed, ours and those of other packages."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

import pandas as pd

from actiontrack.recorder.autolog.adapter import Adapter, load

__all__ = ["GROUP", "Declaration", "adapters", "declarations", "read"]

logger = logging.getLogger("actiontrack")

#: The group of entry points in which a package names its adapters.
GROUP = "actiontrack.adapters"

_OURS = "actiontrack"
_HOME = "actiontrack.recorder.autolog.declared"
#: Ours, for a source tree that is not installed and has no entry points.
_NAMES = (
    *("causal_lm", "keras", "lightgbm", "lightning", "sklearn", "torchvision", "transformers"),
    *("trl", "ultralytics", "xgboost"),
)


@dataclass(frozen=True)
class Declaration:
    """One entry point of the group.

    Attributes:
        name: of the adapter.
        package: the distribution that declares it.
        version: of the package.
        entry: the entry point.
    """

    name: str
    package: str
    version: str
    entry: EntryPoint

    def adapter(self) -> Adapter:
        """The adapter itself.

        Raises:
            TypeError: if it is none.
        """
        adapter = self.entry.load()
        if not isinstance(adapter, Adapter):
            raise TypeError(f"{self.entry.value} is no Adapter but a {type(adapter).__name__}")
        return adapter


def declarations() -> dict[str, Declaration]:
    """What is declared, by name. Of several of one name ours is taken, else the first package's."""
    names = [EntryPoint(name, f"{_HOME}:{name.upper()}", GROUP) for name in _NAMES]
    mine = {entry.name: Declaration(entry.name, _OURS, _version(_OURS), entry) for entry in names}
    others = [
        Declaration(entry.name, entry.dist.name, entry.dist.version, entry)
        for entry in entry_points(group=GROUP)
        if entry.dist is not None
    ]
    for declaration in sorted(others, key=lambda other: (other.package != _OURS, other.package)):
        mine.setdefault(declaration.name, declaration)
    return dict(sorted(mine.items()))


def read(
    declared: Mapping[str, Declaration], tell: Callable[..., None] = logger.warning
) -> dict[str, Adapter]:
    """The adapters that are declared, without those that can't be read.

    Args:
        declared: see `declarations`.
        tell: called with a message and its arguments for each adapter that can't be read.
    """
    adapters_by_name = {}
    for name, declaration in declared.items():
        try:
            adapters_by_name[name] = declaration.adapter()
        except Exception as error:  # noqa: BLE001 - a broken one breaks no other
            tell(
                "the adapter %r of the package %s %s can't be read, and is left out: %s: %s",
                *(name, declaration.package, declaration.version, type(error).__name__, error),
            )
    return adapters_by_name


def adapters(*, check: bool = False) -> pd.DataFrame:
    """The adapters that are installed, ours and those of other packages.

    Args:
        check: import the callback of each adapter whose framework is installed, and so the
            frameworks, which takes a while. By default nothing of them is imported.

    Returns:
        A row per adapter, by name: ``package`` that declares it and its ``version``; the
        ``framework``, by its import name, and ``framework_version``; ``autolog``, whether
        `actiontrack.autolog` records its trainings; and ``problem``, empty where it can be used.
    """
    rows = []
    for name, declaration in declarations().items():
        row: dict[str, Any] = {
            "adapter": name,
            "package": declaration.package,
            "version": declaration.version,
        }
        try:
            adapter = declaration.adapter()
            row |= {
                "framework": adapter.framework,
                "framework_version": _version(adapter.distribution or adapter.framework),
                "autolog": bool(adapter.trainings),
                "problem": "" if adapter.installed else f"{adapter.framework} is not installed",
            }
            if check and adapter.installed:
                load(adapter.callback)
        except Exception as error:  # noqa: BLE001 - the table says so
            row["problem"] = f"{type(error).__name__}: {error}"
        rows.append(row)
    columns = ["package", "version", "framework", "framework_version", "autolog", "problem"]
    frame = pd.DataFrame(rows, columns=["adapter", *columns]).set_index("adapter")
    return frame.fillna({"framework": "", "framework_version": "", "autolog": False})


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
