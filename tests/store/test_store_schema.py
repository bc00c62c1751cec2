"""Reading never changes a store: a database of another MLflow is refused before it is opened."""

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from helpers import message
from mlflow.db import commands

from actiontrack.errors import NotFoundError, StoreError
from actiontrack.store import RunQuery, Store
from actiontrack.store.search import NoRunsError

DATABASES = Path(__file__).with_name("databases")
HEADS = {"2.22": "0584bdc529eb", "3.18": "f4a9b2c7d1e6"}


@pytest.fixture
def database(tmp_path, monkeypatch):
    """A function that brings back what a version of MLflow has made, as `.dump` wrote it."""
    monkeypatch.chdir(tmp_path)  # MLflow makes ./mlruns

    def restore(version):
        path = tmp_path / "stores" / f"{version}.db"
        path.parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            text = gzip.decompress((DATABASES / f"mlflow-{version}.sql.gz").read_bytes())
            connection.executescript(text.decode())
        return path

    return restore


@pytest.fixture
def current(tmp_path, empty_database):
    """A database of the installed MLflow, in a folder of its own."""
    path = tmp_path / "stores" / "current.db"
    path.parent.mkdir()
    path.write_bytes(empty_database.read_bytes())
    return path


def contents(path):
    """Every file in the folder of a database, by its name."""
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


def revision(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchall()


def set_revision(path, text):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (text,))
        connection.commit()


def uri_of(path):
    return f"sqlite:///{path}"


ASK = {
    "ping": lambda store: store.ping(),
    "find": lambda store: store.find_runs(RunQuery()),
    "get": lambda store: store.get_run("0" * 32),
    "open": lambda store: store.open_record("0" * 32),
    "write": lambda store: store.set_tags("0" * 32, {"a": "b"}),
    "begin": lambda store: store.run().__enter__(),
}


@pytest.mark.parametrize("ask", ASK)
def test_a_database_of_an_older_mlflow_is_refused_and_stays_as_it_is(database, ask):
    path = database("2.22")
    before = contents(path)
    with pytest.raises(StoreError, match=r"the database schema of MLflow 2\.22 .* is newer: "):
        ASK[ask](Store(uri_of(path)))
    assert contents(path) == before
    assert list(before) == ["2.22.db"]


def test_the_refusal_names_both_versions_and_the_remedies(database, current):
    uri = uri_of(database("2.22"))
    [(head,)] = revision(current)
    text = (
        f"tracking store {uri} has the database schema of MLflow 2.22 (revision {HEADS['2.22']}), "
        f"and the installed MLflow {mlflow.__version__} another one (revision {head}), which is "
        "newer: opening it would migrate it, and the MLflow that made it could no longer read it. "
        "Read it with that MLflow; or make a backup and migrate it with: mlflow db upgrade "
        f"{uri}, or by --upgrade-store or ACTIONTRACK_UPGRADE_STORE=yes."
    )
    with pytest.raises(StoreError, match=message(text)):
        Store(uri).ping()


def test_a_database_is_migrated_on_request_and_keeps_its_runs(database):
    path = database("2.22")
    store = Store(uri_of(path), upgrade=True)
    with pytest.raises(NoRunsError):  # its only run holds no record
        store.find_runs(RunQuery())
    [run] = mlflow.MlflowClient(uri_of(path)).search_runs(["1"])
    assert store.get_run(run.info.run_id).name == "old"
    assert revision(path) != [(HEADS["2.22"],)]
    Store(uri_of(path)).ping()


def test_the_environment_may_ask_for_the_migration(database, monkeypatch):
    path = database("2.22")
    monkeypatch.setenv("ACTIONTRACK_UPGRADE_STORE", "yes")
    Store(uri_of(path)).ping()
    assert revision(path) != [(HEADS["2.22"],)]


def test_what_mlflow_itself_has_migrated_is_read(database):
    path = database("2.22")
    commands.commands["upgrade"].callback(uri_of(path))  # mlflow db upgrade
    Store(uri_of(path)).ping()


@pytest.mark.parametrize("upgrade", [False, True])
def test_a_database_of_a_newer_mlflow_is_refused(current, upgrade):
    set_revision(current, "ffffffffffff")
    before = contents(current)
    text = (
        r"has the database schema of a newer MLflow \(revision ffffffffffff\), .*, which is "
        r"older\. Read it with that MLflow, or upgrade this one with pip\.$"
    )
    with pytest.raises(StoreError, match=text):
        Store(uri_of(current), upgrade=upgrade).ping()
    assert contents(current) == before


def test_a_database_of_mlflow_3_18_is_known_by_its_version(database, current):
    path = database("3.18")
    if revision(current) == [(HEADS["3.18"],)]:
        Store(uri_of(path)).ping()
        return
    with pytest.raises(StoreError, match=r"has the database schema of MLflow 3\.18 \(revision f4a"):
        Store(uri_of(path)).ping()


def test_a_database_between_two_versions_is_told_by_the_later(current):
    set_revision(current, "df50e92ffc5e")  # of 2019
    with pytest.raises(StoreError, match=r"the database schema of an MLflow before 2\.22 \(rev"):
        Store(uri_of(current)).ping()


def test_reading_a_database_of_the_same_version_leaves_every_byte(recorded, tracking_uri):
    run_id = recorded()
    path = Path(tracking_uri.removeprefix("sqlite:///"))
    before = contents(path)
    Store(tracking_uri).open_record(run_id).scores()
    assert Store(tracking_uri).find_runs(RunQuery(run_ids=(run_id,)))
    assert contents(path) == before


def test_a_write_ahead_log_is_read_and_stays_where_it_is(current):
    with closing(sqlite3.connect(current)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        writer.commit()
        before = contents(current)
        with pytest.raises(StoreError, match="revision ffffffffffff"):
            Store(uri_of(current)).ping()
        after = contents(current)
    del before["current.db-shm"], after["current.db-shm"]  # who reads, which is no content
    assert after == before
    assert set(after) == {"current.db", "current.db-wal"}


def test_a_read_only_folder_will_do(database):
    path = database("2.22")
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        with pytest.raises(StoreError, match=r"of MLflow 2\.22"):
            Store(uri_of(path)).ping()
    finally:
        path.parent.chmod(0o700)


@pytest.mark.parametrize("ask", ["ping", "find", "get", "open"])
def test_reading_an_empty_file_makes_no_store_of_it(tmp_path, ask):
    path = tmp_path / "empty.db"
    path.touch()
    with pytest.raises(NotFoundError, match=r"^no tracking store at sqlite:///.*empty\.db\. Rec"):
        ASK[ask](Store(uri_of(path)))
    assert path.read_bytes() == b""


def test_a_writer_makes_a_store_where_none_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(f"sqlite:///{tmp_path / 'new.db'}")
    with store.run() as run:
        pass
    assert store.get_run(run.run_id).status == "FINISHED"


@pytest.mark.parametrize("command", [["runs"], ["doctor"], ["compact", "0" * 32], ["ui"]])
def test_commands_refuse_with_the_exit_code_of_the_store(database, run_cli, command):
    path = database("2.22")
    code, out, err = run_cli(*command, "--tracking-uri", uri_of(path))
    assert (code, "has the database schema of MLflow 2.22" in out + err) == (7, True)
    assert revision(path) == [(HEADS["2.22"],)]


def test_the_option_of_the_commands_migrates_and_is_forgotten_after_one(
    database, run_cli, monkeypatch
):
    monkeypatch.delenv("ACTIONTRACK_UPGRADE_STORE", raising=False)
    path = database("2.22")
    code, _, err = run_cli("runs", "--tracking-uri", uri_of(path), "--upgrade-store")
    assert (code, "no run with a record matches" in err) == (4, True)
    assert revision(path) != [(HEADS["2.22"],)]
    set_revision(path, HEADS["2.22"])
    assert run_cli("runs", "--tracking-uri", uri_of(path))[0] == 7
