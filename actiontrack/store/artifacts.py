"""The part of a tracking server that a record needs: the artifacts of its run."""

from pathlib import Path
from typing import Protocol

from actiontrack.store.runs import RunInfo

__all__ = ["Artifacts"]


class Artifacts(Protocol):
    """The artifacts of runs. `Store` is one; a record asks for nothing else."""

    def local_root(self, run: RunInfo) -> Path | None:
        """Folder of the run's artifacts if they are on this machine, else None."""

    def download(self, run: RunInfo, path: str, folder: Path, *, name: str = "") -> Path:
        """Download one artifact into `folder` under its base name or another one.

        Raises:
            NotFoundError: if there is no such artifact.
            StoreError: if the artifact store does not answer.
        """

    def list_files(self, run: RunInfo, folder: str) -> list[str]:
        """Paths of the files in an artifact folder of the run, ascending."""

    def upload(self, run_id: str, local: Path, folder: str) -> None:
        """Upload one file into an artifact folder of the run."""
