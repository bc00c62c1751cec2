"""No password, token or salt in what actiontrack says, logs, stores or reports."""

import logging
import stat
import time

import mlflow
import numpy as np
import pytest

from actiontrack import reporting
from actiontrack.errors import ActionTrackError, ParameterError, RedactingFilter, StoreError, redact
from actiontrack.recorder import Recorder
from actiontrack.store import Store

SECRET = "s3cr3t-pa55"  # noqa: S105 - nobody's


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ada:s3cr3t-pa55@host:5000/x", "http://ada:***@host:5000/x"),
        ("postgresql+psycopg://ada:s3cr3t-pa55@db/m", "postgresql+psycopg://ada:***@db/m"),
        ("at http://ada:a@b@host.", "at http://ada:***@host."),
        ("http://:s3cr3t-pa55@host", "http://:***@host"),
        ("?password=s3cr3t-pa55&x=1", "?password=***&x=1"),
        ("sslpassword = s3cr3t-pa55'", "sslpassword = ***'"),
        ("sslpassword='s3cr3t-pa55'", "sslpassword='***'"),
        ("AWS_SECRET_ACCESS_KEY=s3cr3t-pa55", "AWS_SECRET_ACCESS_KEY=***"),
        ("X-Amz-Signature=s3cr3t-pa55&a=b", "X-Amz-Signature=***&a=b"),
        ("api_key=s3cr3t-pa55", "api_key=***"),
        ("http://host/a:b@c", "http://host/a:b@c"),
        ("sqlite:////home/ada/mlflow.db", "sqlite:////home/ada/mlflow.db"),
        ("loss=3, tokens: 5", "loss=3, tokens: 5"),
        ("class token", "class token"),
    ],
)
def test_secrets_of_addresses_and_options_become_stars(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize(
    "name",
    ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"],
)
def test_secrets_of_the_environment_become_stars_wherever_they_are(monkeypatch, name):
    monkeypatch.setenv(name, SECRET)
    assert redact(f"server says: {SECRET}!") == "server says: ***!"


def test_a_word_that_is_a_password_somewhere_is_no_secret_here(monkeypatch):
    """Stars in the place of "test" would tell that it is the password."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "test")
    assert redact("record test-probe") == "record test-probe"


@pytest.mark.parametrize("text", ["a-" * 50_000 + "=", "://a" * 30_000 + "=", "x_" * 50_000 + "= "])
def test_a_long_text_is_redacted_in_no_time(text):
    start = time.process_time()
    assert redact(text) == text
    assert time.process_time() - start < 1


def test_no_error_of_ours_shows_a_secret():
    uri = f"http://ada:{SECRET}@host"
    assert str(StoreError(f"{uri} does not answer")) == "http://ada:***@host does not answer"
    error = ParameterError("--tracking-uri", "must be local", uri, f"Not {uri}.")
    assert SECRET not in str(error)
    assert SECRET not in repr(ActionTrackError(uri))


def test_no_message_shows_megabytes_of_a_value():
    assert len(str(ParameterError("x", "must be short", "y" * 10**6, "Shorten it."))) < 1000


def test_a_value_that_is_cut_shows_no_part_of_a_secret(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", SECRET)
    value = "x" * (500 - 1 - 6) + SECRET  # a quote and six characters of it fit in
    assert SECRET[:6] not in str(ParameterError("x", "must be short", value, "Shorten it."))


def test_a_traceback_that_another_handler_has_made_shows_no_secret():
    """A handler before that of the filter formats the traceback, and keeps it on the record."""
    error = OSError(f"http://ada:{SECRET}@host")
    exception = (type(error), error, None)
    record = logging.LogRecord("other", logging.ERROR, "", 0, "away", (), exception)
    assert SECRET in logging.Formatter().format(record)
    RedactingFilter().filter(record)
    text = logging.Formatter().format(record)
    assert "OSError: http://ada:***@host" in text
    assert SECRET not in text


def test_a_log_line_and_its_traceback_show_no_secret(caplog):
    logger = logging.getLogger("actiontrack")
    try:
        open(f"http://ada:{SECRET}@host")  # noqa: PTH123, SIM115 - its error names the address
    except OSError:
        logger.exception("cannot reach %s", f"http://ada:{SECRET}@host")
    assert "http://ada:***@host" in caplog.text
    assert "FileNotFoundError" in caplog.text
    assert SECRET not in caplog.text


DEAD = (
    f"http://ada:{SECRET}@127.0.0.1:9",
    f"mysql+pymysql://ada:{SECRET}@127.0.0.1:9/mlflow?ssl_password={SECRET}",
    f"sqlite:////nowhere/at/all.db?password={SECRET}",
)


@pytest.mark.parametrize("uri", DEAD)
@pytest.mark.parametrize("words", [["runs"], ["doctor"], ["scores", "--run", "0" * 32]])
def test_no_command_shows_the_password_of_a_store_that_fails(capfd, uri, words):
    from actiontrack.cli import main

    with pytest.raises(SystemExit) as ended:
        main([*words, "--tracking-uri", uri])
    out, err = capfd.readouterr()
    assert ended.value.code in {4, 7, 9}
    assert SECRET not in out + err
    assert "Traceback" not in err


def test_a_recorder_whose_server_is_away_logs_no_password(caplog, spool):
    store = Store(DEAD[0])
    recorder = Recorder("test", run_id="0" * 32, store=store, spool=spool, patience=0)
    recorder.update([1, 2], np.array([1.0, 2.0]))
    recorder.end_epoch()
    recorder.finish()
    assert "is not uploaded" in caplog.text
    assert SECRET not in caplog.text


def test_only_the_user_may_read_where_a_spooled_record_belongs(spool):
    recorder = Recorder("test", run_id="0" * 32, store=Store(DEAD[0]), spool=spool, patience=0)
    (path,) = spool.rglob("sync.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    recorder.close()


@pytest.fixture
def recorded(server, monkeypatch):
    """A run on a server that was named with a password, with what a user sees of it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-s3cr3t")
    uri = server.uri.replace("://", f"://ada:{SECRET}@")
    store = Store(uri)
    client = mlflow.MlflowClient(tracking_uri=uri)
    run_id = client.create_run("0").info.run_id
    with Recorder("test", run_id=run_id, store=store, class_names=["a", "b"]) as recorder:
        for _ in range(2):
            recorder.update([1, 2, 3, 4], np.array([3.0, 1.0, 2.0, 1.0]), labels=[0, 1, 0, 1])
            recorder.end_epoch()
    return store, run_id


def test_neither_record_nor_run_nor_report_holds_the_password_of_the_server(recorded, tmp_path):
    store, run_id = recorded
    record = store.open_record(run_id)
    reporting.run_report(record).save(tmp_path / "report")
    client = mlflow.MlflowClient(tracking_uri=store.tracking_uri)
    run = client.get_run(run_id)
    client.download_artifacts(run_id, "actiontrack", str(tmp_path))
    files = [each for each in tmp_path.rglob("*") if each.is_file() and "spool" not in each.parts]
    assert len(files) > 8
    stored = b"\n".join(each.read_bytes() for each in files)
    stored += repr((run.data.tags, run.data.params, run.data.metrics)).encode()
    for secret in (SECRET, "another-s3cr3t"):
        assert secret.encode() not in stored
    assert SECRET not in reporting.describe_run(store, store.get_run(run_id))
    assert "ada:***@127.0.0.1" in reporting.describe_run(store, store.get_run(run_id))
    assert SECRET not in store._repr_html_() + record._repr_html_()


def test_the_server_for_a_local_store_is_not_given_a_password_by_words(in_warm_process):
    """Every user of a machine sees the words of its processes."""
    code = (
        "import os, sys; from actiontrack.cli import main; from actiontrack.store import Store\n"
        "def execve(path, words, environment):\n"
        "    print(words); print(environment['MLFLOW_BACKEND_STORE_URI'])\n"
        "os.execve = execve\n"
        "Store.ping = lambda self: None\n"
        "main(['ui', '--tracking-uri', sys.argv[1]])\n"
    )
    words, uri = in_warm_process(code, DEAD[1]).stdout.splitlines()
    assert SECRET not in words
    assert uri == DEAD[1]
