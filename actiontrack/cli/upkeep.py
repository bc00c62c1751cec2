"""Commands about the installation, the server and the local spool."""

import importlib.metadata
import sys
from pathlib import Path
from typing import IO, Any

import click
import pandas as pd
from click.shell_completion import get_completion_class

from actiontrack import settings
from actiontrack._version import __version__
from actiontrack.cli.options import open_records, output_options, query_options
from actiontrack.cli.output import write
from actiontrack.cli.root import cli
from actiontrack.errors import (
    ActionTrackError,
    DataError,
    NotFoundError,
    ParameterError,
    StoreError,
    redact,
)
from actiontrack.record.digest import hash_ids
from actiontrack.recorder import SALT_VARIABLE, spool_root, sync
from actiontrack.store import Store, StoredRecord

__all__ = ["completion", "doctor", "hash_ids_command", "sync_command"]

_SHELLS = ("bash", "zsh", "fish")


@cli.command("sync")
@click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
def sync_command(folder: Path | None) -> None:
    """Upload records that a crash or an unreachable server left in the local spool."""
    synced = sync(folder or spool_root())
    for name in synced:
        click.echo(f"uploaded {name}")
    if not synced:
        click.echo(f"nothing to upload in {folder or spool_root()}", err=True)


@cli.command()
@query_options
@output_options
def doctor(kind: str, output: Path | None, **query: Any) -> None:
    """Check versions, the tracking server, and that every record is whole and its ids are sound."""
    rows = [*_versions(), ("spool", *_spool_state())]
    store: Store | None = None
    try:
        store = Store(query["tracking_uri"])
        store.ping()
        rows.append(("tracking server", "ok", redact(store.tracking_uri)))
    except ActionTrackError as error:
        rows.append(("tracking server", "failed", str(error)))
        store = None
    if store is not None:
        rows += [_check_record(each) for each in _records_or_none(query, rows)]
    write(pd.DataFrame(rows, columns=["what", "state", "detail"]), kind, output)
    failed = [what for what, state, _ in rows if state == "failed"]
    if failed:
        raise StoreError(f"{len(failed)} checks failed: {', '.join(failed)}.")


@cli.command("hash-ids")
@click.argument("file", type=click.File(encoding="utf-8"), default="-")
@output_options
def hash_ids_command(file: IO[str], kind: str, output: Path | None) -> None:
    """Print the hashes by which records made with ACTIONTRACK_ID_SALT name your samples.

    FILE has one id a line; without it, ids come from standard input. The salt is read from
    ACTIONTRACK_ID_SALT.
    """
    salt = settings.ID_SALT.value()
    if not salt:
        rule = "must hold the salt with which the runs were recorded"
        raise ParameterError(SALT_VARIABLE, rule, "nothing", "Set it in the environment.")
    try:
        ids = [line.removesuffix("\n") for line in file]  # other separators are part of an id
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file.name} can't be read: {error}. Choose a file in UTF-8.") from error
    write(pd.DataFrame({"sample_id": ids, "hash": hash_ids(ids, salt)}), kind, output)


@cli.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    For bash: eval "$(actiontrack completion bash)" in ~/.bashrc.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the choice is limited to what click knows
    click.echo(kind(cli, {}, "actiontrack", "_ACTIONTRACK_COMPLETE").source())


def _versions() -> list[tuple[str, str, str]]:
    rows = [
        ("actiontrack", "ok", __version__),
        ("python", "ok", sys.version.split()[0]),
    ]
    for package in ("mlflow", "numpy", "pandas", "pyarrow", "scipy", "seaborn", "torch"):
        try:
            rows.append((package, "ok", importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            optional = package == "torch"
            rows.append(
                (package, "ok" if optional else "failed", "not installed (needed for training)")
            )
    return rows


def _spool_state() -> tuple[str, str]:
    waiting = sorted(spool_root().glob("*/*/manifest.json"))
    if not waiting:
        return "ok", f"nothing waits in {spool_root()}"
    return "waiting", f"{len(waiting)} records in {spool_root()}: upload with 'actiontrack sync'"


def _records_or_none(query: dict[str, Any], rows: list[tuple[str, str, str]]) -> list[StoredRecord]:
    try:
        return open_records(dict(query))
    except ActionTrackError as error:
        state = "ok" if isinstance(error, NotFoundError) else "failed"
        rows.append(("records", state, str(error)))
        return []


def _check_record(record: StoredRecord) -> tuple[str, str, str]:
    what = f"{record.run.run_id[:8]} {record.name}"
    try:
        history = record.history()
    except ActionTrackError as error:
        return what, "failed", str(error)
    state = "complete" if record.manifest.complete else f"unfinished, run {record.run.status}"
    detail = f"{history.n_samples} samples × {history.n_steps} steps, {state}"
    if history.n_nonfinite:
        detail += f", {history.n_nonfinite} losses not finite"
    missing = int((~history.seen).sum())
    if missing:
        detail += f", {missing} missing"
    return what, "ok", detail
