"""Commands about the installation, the server and the local spool."""

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from click.shell_completion import get_completion_class

from actiontrack import settings
from actiontrack._version import __version__
from actiontrack.cli.options import RECORD, UPGRADE, output_options, run_options, store_options
from actiontrack.cli.output import write
from actiontrack.cli.root import cli
from actiontrack.errors import (
    ActionTrackError,
    DataError,
    ParameterError,
    StoreError,
    redact,
)

if TYPE_CHECKING:
    from actiontrack.recorder.compact import LossFiles
    from actiontrack.store import RunInfo, RunQuery, Store, StoredRecord

__all__ = ["compact_command", "completion", "doctor", "hash_ids_command", "sync_command"]

_SHELLS = ("bash", "zsh", "fish")


@cli.command("sync")
@UPGRADE
@click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
def sync_command(folder: Path | None) -> None:
    """Upload records that a crash or an unreachable server left in the local spool."""
    from actiontrack.recorder import spool_root, sync

    synced = sync(folder or spool_root())
    for name in synced:
        click.echo(f"uploaded {name}")
    if not synced:
        click.echo(f"nothing to upload in {folder or spool_root()}", err=True)


@cli.command("compact")
@click.argument("run")
@store_options
@RECORD
@click.option(
    "--ended",
    is_flag=True,
    help="The process that recorded it has ended, though its run is marked RUNNING.",
)
def compact_command(run: str, tracking_uri: str | None, record: str | None, *, ended: bool) -> None:
    """Convert a record of format 1, and merge its many small files of losses.

    RUN is the id of a run, its start, or its name. Every loss, score and digest of the samples
    stays what it is.
    """
    from actiontrack.recorder.compact import compact_record
    from actiontrack.store import Store
    from actiontrack.store.runs import short_id

    done = compact_record(run, record, store=Store(tracking_uri), ended=ended)
    name = f"{short_id(done.run_id)} {done.record}"
    if done.after != done.before:
        click.echo(f"compacted {name}: {_in_words(done.before)} -> {_in_words(done.after)}")
    elif done.n_deleted:
        click.echo(f"compacted {name}: deleted {done.n_deleted} files that nothing named any more")
    else:
        click.echo(f"nothing to do for {name}: {_in_words(done.after)}", err=True)


def _in_words(losses: "LossFiles") -> str:
    files = "1 file" if losses.n_files == 1 else f"{losses.n_files} files"
    return f"format {losses.version}, {files} of losses, {losses.n_bytes:,} bytes"


@cli.command()
@run_options
@output_options
def doctor(kind: str, output: Path | None, **query: Any) -> None:
    """Check versions, the tracking server, and that every record is whole and its ids are sound.

    Every record of every run is read: all files that its manifest names. Any damage makes the
    command exit with 7.
    """
    import pandas as pd

    from actiontrack.store import RunQuery, Store

    rows = [*_versions(), ("spool", *_spool_state())]
    store: Store | None = None
    try:
        store = Store(query.pop("tracking_uri"))
        store.ping()
        rows.append(("tracking server", "ok", redact(store.tracking_uri)))
    except ActionTrackError as error:
        rows.append(("tracking server", "failed", str(error)))
        store = None
    if store is not None:
        rows += _check_records(store, RunQuery(**query))
    write(pd.DataFrame(rows, columns=["what", "state", "detail"]), kind, output)
    failed = [what for what, state, _ in rows if state == "failed"]
    if failed:
        count = "1 check" if len(failed) == 1 else f"{len(failed)} checks"
        raise StoreError(f"{count} failed: {', '.join(failed)}.")


@cli.command("hash-ids")
@click.argument("file", type=click.File(encoding="utf-8"), default="-")
@output_options
def hash_ids_command(file: IO[str], kind: str, output: Path | None) -> None:
    """Print the hashes by which records made with ACTIONTRACK_ID_SALT name your samples.

    FILE has one id a line; without it, ids come from standard input. The salt is read from
    ACTIONTRACK_ID_SALT.
    """
    import pandas as pd

    from actiontrack.record.digest import hash_ids

    salt = settings.ID_SALT.value()
    if not salt:
        rule = "must hold the salt with which the runs were recorded"
        raise ParameterError(settings.ID_SALT.name, rule, "nothing", "Set it in the environment.")
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
    import importlib.metadata

    rows = [
        ("actiontrack", "ok", __version__),
        ("python", "ok", sys.version.split()[0]),
    ]
    for package in ("mlflow", "numpy", "pandas", "pyarrow", "scipy", "seaborn", "torch"):
        try:
            rows.append((package, "ok", importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            optional = package == "torch"
            detail = "not installed (needed for training)" if optional else "not installed"
            rows.append((package, "ok" if optional else "failed", detail))
    return rows


def _spool_state() -> tuple[str, str]:
    from actiontrack.recorder import spool_root

    waiting = sorted(spool_root().glob("*/*/manifest.json"))
    if not waiting:
        return "ok", f"nothing waits in {spool_root()}"
    return "waiting", f"{len(waiting)} records in {spool_root()}: upload with 'actiontrack sync'"


def _check_records(store: "Store", query: "RunQuery") -> list[tuple[str, str, str]]:
    """A row for every record of every run of a query."""
    from actiontrack.store.search import NoRunsError

    try:
        runs = store.find_runs(query)
    except NoRunsError as error:
        return [("records", "ok", str(error))]
    except ActionTrackError as error:
        return [("records", "failed", str(error))]
    return [
        _check_record(store, run, name)
        for run in runs
        for name in ([query.record] if query.record else run.records)
    ]


def _check_record(store: "Store", run: "RunInfo", name: str) -> tuple[str, str, str]:
    from actiontrack.store.check import damaged_files, unreadable_tables
    from actiontrack.store.runs import short_id

    what = f"{short_id(run.run_id)} {name}"
    try:
        record = store.open_record(run, name)
    except ActionTrackError as error:
        return what, "failed", str(error)
    messages = damaged_files(record) or unreadable_tables(record)
    if messages:
        return what, "failed", " ".join(messages)
    return what, "ok", _described(record)


def _described(record: "StoredRecord") -> str:
    """Size and state of a record, and which of its losses are not numbers."""
    manifest = record.manifest
    state = "complete" if manifest.complete else f"unfinished, run {record.run.status}"
    text = f"{manifest.n_samples} samples × {manifest.n_steps} steps, {state}"
    n_nonfinite = manifest.totals.n_nonfinite
    if n_nonfinite:
        text += f", {n_nonfinite} losses not finite"
    missing = manifest.n_missing
    if missing:
        text += f", {missing} missing"
    return text
