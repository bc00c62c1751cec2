"""Which artifacts a store reads for others: a run says where its own are, and may say anything.

Whoever makes an experiment chooses the address of its artifacts. A server that read each of them
for its visitors would hand out the files, and the buckets, of the account that it runs under.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from actiontrack.errors import NotFoundError, redact
from actiontrack.store.addresses import origin_of
from actiontrack.store.runs import RunInfo

__all__ = ["Reach", "no_address"]

_PROXIED = "mlflow-artifacts"


@dataclass(frozen=True)
class Reach:
    """The artifacts that are read for visitors: those that their server hands out, and few others.

    Attributes:
        server: address of the tracking server.
        roots: folders of this machine and addresses of object stores below which artifacts are
            read as well, with the rights of this process.
    """

    server: str
    roots: Sequence[str] = ()

    def check(self, run: RunInfo, *, writing: bool = False) -> None:
        """Refuse the artifacts of a run that are out of reach.

        Args:
            run: the run.
            writing: only what the server itself takes will do: it alone knows who may write.

        Raises:
            NotFoundError: says what to do.
        """
        try:
            self._check(run, writing=writing)
        except ValueError as error:  # a port, a bracket or a character that no address has
            raise no_address(run) from error

    def _check(self, run: RunInfo, *, writing: bool) -> None:
        uri = run.artifact_uri
        if run.run_id not in urlsplit(uri).path.split("/"):  # as in every address that MLflow makes
            raise NotFoundError(f"the artifacts of run {run.run_id} are not in its own folder.")
        if self._is_of_the_server(uri):
            return
        if writing:
            raise NotFoundError(
                f"the artifacts at {redact(uri)} do not pass through the tracking server, which "
                "alone knows who may write. Start it with --serve-artifacts."
            )
        if not any(_is_below(uri, root) for root in self.roots):
            raise NotFoundError(
                f"the artifacts at {redact(uri)} do not pass through the tracking server, so "
                "visitors are not shown them. Start it with --serve-artifacts, or name their "
                "folder or bucket with --artifact-root where the pages are started."
            )

    def _is_of_the_server(self, uri: str) -> bool:
        """Whether the tracking server itself answers for the artifacts, with its own login."""
        parts = urlsplit(uri)
        if parts.scheme == _PROXIED:
            here = f"{urlsplit(self.server).scheme}://{parts.netloc}"
            return not parts.netloc or origin_of(here) == origin_of(self.server)
        return parts.scheme in {"http", "https"} and origin_of(uri) == origin_of(self.server)


def no_address(run: RunInfo) -> NotFoundError:
    """The error for a run whose artifacts have an address that can't be read."""
    return NotFoundError(
        f"run {run.run_id}: the address of its artifacts is not valid: {redact(run.artifact_uri)}."
    )


def _is_below(uri: str, root: str) -> bool:
    """Whether an address is that of a root, or of something in it."""
    path, folder = _folder(uri), _folder(root)
    if path is not None or folder is not None:
        return path is not None and folder is not None and path.is_relative_to(folder)
    return ".." not in unquote(uri).split("/") and f"{uri}/".startswith(f"{root.rstrip('/')}/")


def _folder(uri: str) -> Path | None:
    """The folder of this machine that an address names, after links are followed."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path)).resolve()
    return Path(uri).resolve() if not parts.scheme else None
