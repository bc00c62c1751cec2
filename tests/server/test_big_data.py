"""Records on an S3 store, read there by DuckDB, by Dask and by workers of a Dask cluster.

Expectations come from our own reader and from pandas, which read the same records one by one.
"""

import contextlib
import json
import uuid
from dataclasses import replace

import duckdb
import fsspec
import mlflow
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from helpers import ROOT
from sybil.document import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from actiontrack import analysis
from actiontrack.errors import StoreError
from actiontrack.store import RunQuery, Store
from actiontrack.testing import make_history, record_history

pytestmark = pytest.mark.server

RUNS, STEPS, N_SAMPLES = 3, 4, 500


@pytest.fixture(scope="module")
def s3(running):
    return running.s3


@pytest.fixture
def way_to_s3(s3, monkeypatch):
    """What every reader of the store has in its environment."""
    endpoint = f"http://127.0.0.1:{s3.port}"
    settings = {**s3.keys, "AWS_DEFAULT_REGION": "us-east-1"}
    settings |= {"AWS_ENDPOINT_URL": endpoint, "MLFLOW_S3_ENDPOINT_URL": endpoint}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()  # of an earlier test's environment
    return settings


@pytest.fixture
def records(way_to_s3, tracking_uri, spool):
    """Records whose artifacts lie on S3: not every sample is seen in every epoch, one is NaN."""
    client, name = mlflow.MlflowClient(tracking_uri), f"lake {uuid.uuid4().hex[:8]}"
    experiment = client.create_experiment(name, artifact_location=f"s3://mlflow/{uuid.uuid4().hex}")
    store = Store(tracking_uri)
    base = make_history(n_steps=STEPS, n_samples=N_SAMPLES, n_classes=5)
    rng = np.random.default_rng(0)
    for number in range(RUNS):
        losses = base.losses + rng.gamma(1, 0.2, base.losses.shape).astype(np.float32)
        seen = np.ones(losses.shape, dtype=bool)
        seen[1, 7], losses[1, 7], losses[2, 9] = False, np.nan, np.nan
        run = client.create_run(experiment, run_name=f"run {number}").info.run_id
        history = replace(base, losses=losses, seen=seen)
        record_history(history, run, store, spool, model=f"model {number % 2}")
    return analysis.load_records(RunQuery(experiments=(name,)), store=store)


@pytest.fixture
def sql():
    connection = duckdb.connect()
    connection.register_filesystem(fsspec.filesystem("s3"))
    yield lambda query: connection.sql(query).df()
    connection.close()


def folder(record):
    assert record.run.artifact_uri.startswith("s3://mlflow/")
    return f"{record.run.artifact_uri}/actiontrack/{record.name}"


def paths_of(record):
    """The files of losses that the manifest on S3 names."""
    manifest = json.loads(fsspec.filesystem("s3").cat(f"{folder(record)}/manifest.json"))
    return [f"{folder(record)}/{block['path']}" for block in manifest["blocks"]]


def losses_of(record):
    """Tidy losses by our own reader and pandas: sample, step, label, loss."""
    history = record.history(columns=())
    return pd.DataFrame(
        {
            "sample": np.tile(np.arange(N_SAMPLES), STEPS),
            "step": np.repeat(history.steps, N_SAMPLES),
            "label": np.tile(history.labels, STEPS),
            "loss": history.losses.ravel().astype(np.float64),
            "seen": history.seen.ravel(),
        }
    )


def test_duckdb_joins_losses_and_samples(records, sql):
    path = folder(records[0])
    found = sql(f"""
        SELECT label, step, avg(loss) AS loss, count(loss) AS n
        FROM read_parquet({paths_of(records[0])})
        JOIN read_parquet('{path}/samples.parquet') USING (sample)
        WHERE NOT isnan(loss) GROUP BY ALL ORDER BY label, step
    """)  # noqa: S608
    groups = losses_of(records[0]).groupby(["label", "step"])["loss"]
    expected = groups.agg(loss="mean", n="count").reset_index()
    assert len(found) == 5 * STEPS
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-12)


def test_duckdb_tells_what_was_not_seen_from_what_was_no_number(records, sql):
    found = sql(f"""
        SELECT sample, step, loss IS NULL AS unseen
        FROM read_parquet({paths_of(records[0])})
        WHERE loss IS NULL OR isnan(loss) ORDER BY sample
    """)  # noqa: S608
    losses = losses_of(records[0])
    odd = losses[losses["loss"].isna()].sort_values("sample")
    assert found["sample"].tolist() == odd["sample"].tolist() == [7, 9]
    assert found["step"].tolist() == odd["step"].tolist()
    assert found["unseen"].tolist() == (~odd["seen"]).tolist() == [True, False]


def test_duckdb_reads_the_scores_of_all_runs(records, sql):
    paths = [f"{folder(each)}/scores.parquet" for each in records]
    found = sql(f"""
        SELECT sample_id, avg(action) AS action FROM read_parquet({paths})
        WHERE NOT isnan(action) GROUP BY sample_id ORDER BY action DESC LIMIT 20
    """)  # noqa: S608
    mean = analysis.score_frame(records).groupby("sample_id")["action"].mean()
    expected = mean.nlargest(20).reset_index()
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-12)


def test_dask_reads_a_file_per_partition(records):
    import dask.dataframe as dd

    paths = paths_of(records[0])
    losses = dd.read_parquet(paths, columns=["step", "loss"])
    assert losses.npartitions == len(paths)
    found = losses.groupby("step")["loss"].max().compute()
    expected = losses_of(records[0]).groupby("step")["loss"].max()
    pd.testing.assert_series_equal(
        found.sort_index(), expected, check_dtype=False, check_index_type=False
    )


def test_dask_reads_the_scores_of_all_runs(records):
    import dask.dataframe as dd

    parts = [
        dd.read_parquet(f"{folder(each)}/scores.parquet").assign(run_id=each.run.run_id)
        for each in records
    ]
    found = dd.concat(parts).groupby("run_id")["action"].mean().compute()
    expected = analysis.score_frame(records).groupby("run_id")["action"].mean()
    pd.testing.assert_series_equal(
        found.sort_index(), expected.sort_index(), check_index_type=False, rtol=1e-12
    )


def test_workers_read_the_store_themselves(records):
    options = {"n_bootstrap": 10, "on_mismatch": "inner"}
    with _cluster() as client:
        there = analysis.compare_runs(records, client=client, **options)
    here = analysis.compare_runs(records, **options)
    pd.testing.assert_frame_equal(there.groups, here.groups, check_exact=True)
    assert (here.pairs["n_dropped"] > 0).any()


def test_workers_without_credentials_say_so(records, way_to_s3, monkeypatch, tmp_path):
    _ = records[0].samples
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with _cluster() as client:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, way_to_s3[name])  # here, and not there
        with pytest.raises(StoreError, match=r"^the Dask worker \S+ can't read record test-probe"):
            analysis.compare_runs(records, client=client)


def test_the_printed_queries_run_on_s3(records, monkeypatch):
    """The page's own code, which the default suite runs on a local folder."""
    name = records[0].run.experiment
    run, parser = PythonEvaluator(), CodeBlockParser("python", lambda _: None)
    namespace = None
    evaluated = 0
    for example in Document.parse(str(ROOT / "docs" / "big-data.md"), parser).examples():
        printed = example.parsed
        if any(part in printed for part in ("{folder}", "artifact_uri", "by_step")):
            changed = str(printed).replace('"models"', repr(name))
            example.parsed = type(printed)(changed, printed.offset, printed.line_offset)
            run(example)
            namespace, evaluated = example.namespace, evaluated + 1
    assert evaluated == 6
    assert namespace["folder"] == folder(records[0])
    assert namespace["hardest"].df()["runs"].tolist() == [RUNS] * 10


@contextlib.contextmanager
def _cluster():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as running,
        Client(running, set_as_default=False) as client,
    ):
        yield client
