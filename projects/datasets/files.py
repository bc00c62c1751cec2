"""Which files of a folder count: those that the user put there, and not what programs leave behind.

Names that begin with a dot are skipped with all that is below them: ``.ipynb_checkpoints``,
``.DS_Store``, and ``._x.png``, which macOS writes beside ``x.png`` on foreign disks. So are
``__MACOSX``, which macOS packs into archives, and ``@eaDir``, where a NAS keeps its previews.
"""

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SUFFIXES", "is_image", "is_visible", "visible_files"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_LEFT_BY_PROGRAMS = frozenset({"__MACOSX", "@eaDir"})


def is_visible(name: str) -> bool:
    """Whether a file or folder of this name belongs to the data."""
    return not name.startswith(".") and name not in _LEFT_BY_PROGRAMS


def is_image(path: Path) -> bool:
    """Whether a file has the ending of an image, in any case."""
    return path.suffix.lower() in SUFFIXES


def visible_files(folder: Path) -> Iterator[Path]:
    """All files below a folder that belong to the data, folder by folder in order of their names.

    Args:
        folder: where to begin; its own name does not matter.
    """
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(filter(is_visible, folders))
        yield from (Path(parent, name) for name in sorted(filter(is_visible, names)))
