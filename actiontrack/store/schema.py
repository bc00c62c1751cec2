"""Whether a database has the schema of the installed MLflow, so that reading never changes it.

MLflow migrates an older database when it opens it, and the MLflow that has made it then refuses it.
"""

import sqlite3
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from actiontrack.errors import StoreError
from actiontrack.store.addresses import address_of
from actiontrack.store.translation import translated

__all__ = ["check_schema"]

_TABLE = "experiments"  # which every database of MLflow has
#: The newest revision of the schema in the versions of MLflow that we were tested with, ascending.
_VERSIONS: Mapping[str, str] = {
    "0584bdc529eb": "2.22",
    "1b5f0d9ad7c1": "3.10",
    "b7e4c1a90f23": "3.14",
    "dc11669786a5": "3.17",
    "f4a9b2c7d1e6": "3.18",
}


def check_schema(tracking_uri: str, *, upgrade: bool) -> bool:
    """Refuse a database that the installed MLflow would migrate, or can't read.

    Args:
        tracking_uri: of any store; those that are no database pass.
        upgrade: migrate an older database instead.

    Returns:
        Whether there is a store: False for a database that is missing or empty.

    Raises:
        StoreError: if its schema is another one than that of the installed MLflow.
    """
    if address_of(tracking_uri).kind != "database":
        return True
    with translated(f"tracking store {tracking_uri}"):
        present = _revisions(tracking_uri)
    if present is None or present == set(_scripts().get_heads()):
        return present is not None
    older = all(_is_ours(revision) for revision in present)
    if older and upgrade:
        _upgrade(tracking_uri)
        return True
    raise StoreError(_refusal(tracking_uri, sorted(present), older=older))


def _refusal(uri: str, present: list[str], *, older: bool) -> str:
    import mlflow  # noqa: PLC0415

    revision = ", ".join(present) or "none"
    head = ", ".join(_scripts().get_heads())
    both = (
        f"tracking store {uri} has the database schema of {_version(present)} (revision "
        f"{revision}), and the installed MLflow {mlflow.__version__} another one (revision {head})"
    )
    if not older:
        return f"{both}, which is older. Read it with that MLflow, or upgrade this one with pip."
    return (
        f"{both}, which is newer: opening it would migrate it, and the MLflow that made it could "
        f"no longer read it. Read it with that MLflow; or make a backup and migrate it with: "
        f"mlflow db upgrade {uri}, or by --upgrade-store or ACTIONTRACK_UPGRADE_STORE=yes."
    )


def _version(present: list[str]) -> str:
    """Which MLflow has made a database, as far as its revision tells."""
    if len(present) != 1:
        return "an MLflow before 1.0"
    if present[0] in _VERSIONS:
        return f"MLflow {_VERSIONS[present[0]]}"
    if not _is_ours(present[0]):
        return "a newer MLflow"
    for head, version in _VERSIONS.items():
        if _is_ours(head) and present[0] in _ancestors(head):
            return f"an MLflow before {version}"
    return "an older MLflow"


@cache
def _scripts() -> Any:
    """The migrations that come with the installed MLflow."""
    import mlflow  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - comes with MLflow

    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def _is_ours(revision: str) -> bool:
    """Whether the installed MLflow knows a revision."""
    return any(script.revision == revision for script in _scripts().walk_revisions())


def _ancestors(revision: str) -> set[str]:
    scripts = _scripts().iterate_revisions(revision, "base")
    return {script.revision for script in scripts}


def _revisions(uri: str) -> set[str] | None:
    """Revisions that a database is at; None where it holds no store."""
    import sqlalchemy  # noqa: PLC0415 - comes with MLflow

    url = sqlalchemy.make_url(uri)
    if url.get_backend_name() != "sqlite":
        from mlflow.store.db.utils import create_sqlalchemy_engine  # noqa: PLC0415

        return _revisions_at(create_sqlalchemy_engine(uri))  # type: ignore[no-untyped-call]
    path = Path(url.database or "")
    if not path.is_file():
        return None
    engine = partial(sqlalchemy.create_engine, "sqlite://", poolclass=sqlalchemy.NullPool)
    try:
        return _revisions_at(engine(creator=_opener(path, _reading(path))))
    except sqlalchemy.exc.OperationalError:  # a crash has left what a writer must roll back
        return _revisions_at(engine(creator=_opener(path, "mode=rw")))


def _revisions_at(engine: Any) -> set[str] | None:
    from alembic.migration import MigrationContext  # noqa: PLC0415
    from sqlalchemy import inspect  # noqa: PLC0415

    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table(_TABLE):
                return None
            return set(MigrationContext.configure(connection).get_current_heads())
    finally:
        engine.dispose()


def _reading(path: Path) -> str:
    """How to open a file of SQLite so that neither it nor a file beside it changes."""
    journals = (path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-journal"))
    return "mode=ro" if any(journal.exists() for journal in journals) else "immutable=1"


def _opener(path: Path, options: str) -> Callable[[], sqlite3.Connection]:
    address = f"file:{quote(str(path.absolute()))}?{options}"
    return partial(sqlite3.connect, address, uri=True)


def _upgrade(uri: str) -> None:
    """What `mlflow db upgrade` does."""
    from mlflow.db import commands  # noqa: PLC0415

    upgrade: Any = commands.commands["upgrade"].callback
    with translated(f"tracking store {uri}"):
        upgrade(uri)
