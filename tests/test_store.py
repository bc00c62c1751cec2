import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from helpers import ROOT, message, remote_run

from actiontrack.analysis import verdicts
from actiontrack.errors import (
    CorruptRecordError,
    NotFoundError,
    ParameterError,
    StoreError,
)
from actiontrack.recorder import Recorder
from actiontrack.scores import score_table
from actiontrack.store import FORMAT_TAG, MODEL_TAG, RunQuery, Store, Terminated
from actiontrack.testing import make_history, record_history

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def client(tracking_uri):
    return mlflow.MlflowClient(tracking_uri=tracking_uri)


@pytest.fixture
def recorded(store, new_run, spool):
    """A function that records a small history into a new run and returns the run's id."""

    def record(run_name="run", model="", params=None, **changes):
        run_id = new_run(run_name=run_name)
        store.log_params(run_id, params or {})
        record_history(make_history(**changes), run_id, store, spool, model)
        return run_id

    return record


@pytest.fixture
def query(experiment):
    """A query of the test's own experiment."""
    return lambda **options: RunQuery(**{"experiments": (experiment,)} | options)


def ids(runs):
    return [each.run_id for each in runs]


# ---------------------------------------------------------------- finding runs


def test_runs_that_hold_a_record_are_found_newest_first(store, recorded, new_run, query):
    first = recorded()
    new_run()
    second = recorded()
    assert ids(store.find_runs(query())) == [second, first]


def test_run_ids_keep_the_order_given(store, recorded):
    first, second = recorded(), recorded()
    for wanted in ((first, second), (second, first)):
        assert ids(store.find_runs(RunQuery(run_ids=wanted))) == list(wanted)


def test_a_run_tells_what_it_is(store, recorded, experiment):
    run_id = recorded("lively-owl", "cnn", {"lr": 0.1}, split="train", mode="inline")
    run = store.get_run(run_id)
    assert (run.run_id, run.name, run.experiment) == (run_id, "lively-owl", experiment)
    assert (run.status, run.records, run.model) == ("RUNNING", ("train-inline",), "cnn")
    assert run.params == {"lr": "0.1"}
    assert run.tags[FORMAT_TAG] == "1"
    assert run.tags["actiontrack.record.train-inline"] == "complete"
    assert abs(run.start_time / 1000 - time.time()) < 60


def test_a_run_has_no_end_while_it_goes_on_and_ends_after_its_start(store, recorded, client):
    run_id = recorded()
    assert store.get_run(run_id).end_time == 0
    client.set_terminated(run_id)
    run = store.get_run(run_id)
    assert run.start_time < run.end_time < run.start_time + 60_000


def test_the_model_is_the_tag_or_else_the_parameter(store, recorded, client):
    tagged = recorded(model="cnn", params={"model": "resnet"})
    plain = recorded(params={"model": "'resnet'"})
    bare = recorded()
    assert [store.get_run(each).model for each in (tagged, plain, bare)] == [
        "cnn",
        "resnet",
        "unnamed",
    ]
    assert MODEL_TAG not in client.get_run(plain).data.tags


def test_a_filter_of_mlflow_chooses_runs(store, recorded, query):
    recorded(params={"dataset": "digits"})
    wanted = recorded(params={"dataset": "cifar10"})
    found = store.find_runs(query(filter_string="params.dataset = 'cifar10'"))
    assert ids(found) == [wanted]


def test_a_record_chooses_the_runs_that_hold_it(store, recorded, query):
    recorded()
    wanted = recorded(split="train")
    assert ids(store.find_runs(query(record="train-probe"))) == [wanted]


def test_at_most_the_newest_runs_are_found(store, recorded, query):
    runs = [recorded() for _ in range(3)]
    assert ids(store.find_runs(query(max_runs=2))) == runs[:0:-1]


def test_a_unique_prefix_stands_for_a_run(store, recorded):
    run_id = recorded()
    assert ids(store.find_runs(RunQuery(run_ids=(run_id[:10],)))) == [run_id]


def test_an_ambiguous_prefix_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(f"sqlite:///{tmp_path / 'own.db'}")
    client = mlflow.MlflowClient(tracking_uri=store.tracking_uri)
    client.create_experiment("own", artifact_location=(tmp_path / "own").as_uri())
    run_id = record_two_alike(store, client, tmp_path)
    with pytest.raises(NotFoundError, match=f"^'{run_id[:8]}' fits 2 runs: {run_id[:8]}"):
        store.find_runs(RunQuery(run_ids=(run_id[:8],)))


def record_two_alike(store, client, folder):
    """Two runs whose ids agree in all but the last character."""
    import sqlite3

    experiment_id = client.get_experiment_by_name("own").experiment_id
    run_id, other = (client.create_run(experiment_id).info.run_id for _ in range(2))
    twin = run_id[:-1] + ("0" if run_id[-1] != "0" else "1")
    with sqlite3.connect(folder / "own.db") as database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("DELETE FROM tags WHERE run_uuid = ?", (other,))
        database.execute("UPDATE runs SET run_uuid = ? WHERE run_uuid = ?", (twin, other))
    database.close()
    assert store.get_run(twin).run_id == twin
    return run_id


def test_a_prefix_below_six_characters_is_no_run(store, recorded):
    run_id = recorded()
    with pytest.raises(NotFoundError, match=f"^run '{run_id[:5]}': not found by id or name"):
        store.find_runs(RunQuery(run_ids=(run_id[:5],)))


@pytest.mark.parametrize("run_id", ["0" * 32, "nosuchrun", "../x", "filter", "a b"])
def test_an_unknown_run_is_not_found(store, run_id):
    with pytest.raises(
        NotFoundError, match=f"^run {re.escape(repr(run_id))}: (.*not found|Invalid value)"
    ):
        store.find_runs(RunQuery(run_ids=(run_id,)))


def test_a_run_without_a_record_says_what_to_do(store, new_run):
    run_id = new_run(run_name="bare")
    text = (
        f"run {run_id} (bare) holds no record. "
        "Record its losses with actiontrack.recorder.Recorder, or choose another run."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        store.find_runs(RunQuery(run_ids=(run_id,)))
    with pytest.raises(NotFoundError, match=message(text)):
        store.open_record(run_id)
    with pytest.raises(NotFoundError, match=message(text)):
        store.open_record(store.get_run(run_id))


def test_an_experiment_that_does_not_exist_is_named_with_those_that_do(store, experiment):
    text = re.escape(f"no experiment 'nope' at {store.tracking_uri}. There are: ")
    with pytest.raises(NotFoundError, match=f"^{text}.*{re.escape(experiment)}.*\\.$"):
        store.find_runs(RunQuery(experiments=("nope",)))


@pytest.mark.parametrize("text", ["params.x == 'a' OR params.y = 'b'", "nonsense", "params.x ="])
def test_a_filter_that_mlflow_refuses_is_refused(store, query, text):
    start = re.escape(
        f"filter: must be a filter that MLflow understands, got {text!r}. MLflow says: "
    )
    with pytest.raises(ParameterError, match=f"^{start}."):
        store.find_runs(query(filter_string=text))


def test_a_query_that_matches_nothing_is_told_in_words(store, experiment, query):
    text = (
        f"no run with a record matches: experiment {experiment}; filter \"params.x = 'y'\"; "
        f"record 'test-probe' at {store.tracking_uri}. List what there is with: actiontrack runs"
    )
    with pytest.raises(NotFoundError, match=message(text)):
        store.find_runs(query(filter_string="params.x = 'y'", record="test-probe"))


def test_a_query_in_words():
    assert RunQuery().describe() == "all runs"
    assert RunQuery(run_ids=("a", "b")).describe() == "runs a, b"


def test_a_single_text_is_one_name():
    query = RunQuery(experiments="abc", run_ids="def")
    assert (query.experiments, query.run_ids) == (("abc",), ("def",))
    assert RunQuery(experiments=["a", "b"]).experiments == ("a", "b")


def test_a_run_in_place_of_its_id_is_refused(store, recorded):
    run = store.get_run(recorded())
    with pytest.raises(ParameterError, match=r"^run_ids: must be texts, got RunInfo"):
        RunQuery(run_ids=(run,))


def test_a_unique_name_stands_for_a_run(store, recorded, query):
    recorded("calm-cod")
    run_id = recorded("it's a fox")
    assert ids(store.find_runs(query(run_ids=("it's a fox",)))) == [run_id]
    assert store.open_record("it's a fox").run.run_id == run_id


@pytest.mark.parametrize("name", [r"back\\slash", "both ' and \""])
def test_a_name_that_no_filter_can_spell_stands_for_a_run(store, recorded, query, name):
    run_id = recorded(name)
    assert ids(store.find_runs(query(run_ids=(name,)))) == [run_id]


def test_of_runs_of_one_name_the_one_with_a_record_is_meant(store, recorded, new_run, query):
    new_run(run_name="twin")
    run_id = recorded("twin")
    assert ids(store.find_runs(query(run_ids=("twin",)))) == [run_id]


def test_a_name_of_several_runs_is_refused_with_their_ids(store, recorded, query):
    first, second = recorded("pair"), recorded("pair")
    text = f"'pair' fits 2 runs: {second} (pair), {first} (pair). Name one by its id, or by more "
    with pytest.raises(NotFoundError, match=f"^{re.escape(text)}"):
        store.find_runs(query(run_ids=("pair",)))


# ---------------------------------------------------------------- the trash


def test_a_run_in_the_trash_is_not_found_unless_asked_for(store, recorded, client, query):
    run_id, other = recorded("gone"), recorded()
    client.delete_run(run_id)
    assert ids(store.find_runs(query())) == [other]
    assert ids(store.find_runs(query(deleted=True))) == [other, run_id]
    text = (
        f"run {run_id} (gone) is in the trash. Restore it with: mlflow runs restore --run-id "
        f"{run_id}"
    )
    with pytest.raises(NotFoundError, match=message(text)):
        store.find_runs(query(run_ids=(run_id,)))
    with pytest.raises(NotFoundError, match=message(text)):
        store.open_record(run_id)
    with pytest.raises(NotFoundError, match=r"^run 'gone': not found"):
        store.find_runs(query(run_ids=("gone",)))
    [run] = store.find_runs(query(run_ids=("gone",), deleted=True))
    assert (run.run_id, run.deleted) == (run_id, True)


def test_runs_of_a_deleted_experiment_are_not_found_unless_asked_for(
    store, recorded, client, experiment
):
    run_id = recorded()
    client.delete_experiment(client.get_experiment_by_name(experiment).experiment_id)
    with pytest.raises(NotFoundError, match=f"^run {run_id} .* is in the trash"):
        store.get_run(run_id)
    with pytest.raises(NotFoundError, match=f"^no experiment '{experiment}'"):
        store.find_runs(RunQuery(experiments=experiment))
    assert ids(store.find_runs(RunQuery(experiments=experiment, deleted=True))) == [run_id]


# ---------------------------------------------------------------- reading records


def test_a_record_is_read_through_its_run(store, recorded):
    history = make_history(n_samples=20)
    record = store.open_record(recorded(n_samples=20))
    np.testing.assert_array_equal(record.history().losses, history.losses)
    pd.testing.assert_frame_equal(record.scores(), score_table(history), check_dtype=False)
    assert record.scores(["action"]).columns.tolist() == ["action"]
    assert record.samples.labels.tolist() == history.labels.tolist()


def test_the_test_probe_is_the_record_of_choice(store, recorded, spool):
    run_id = recorded(split="train")
    record_history(make_history(), run_id, store, spool)
    assert store.open_record(run_id).name == "test-probe"
    assert store.open_record(run_id, "train-probe").name == "train-probe"


def test_among_several_other_records_one_must_be_named(store, recorded, spool):
    run_id = recorded(split="train")
    record_history(make_history(split="val"), run_id, store, spool)
    text = (
        f"record: must be one of train-probe, val-probe for run {run_id}, got None. "
        "Name the record that you want."
    )
    with pytest.raises(ParameterError, match=message(text)):
        store.open_record(run_id)


def test_a_record_that_the_run_does_not_hold_is_named_with_those_that_it_does(store, recorded):
    run_id = recorded("bold-cat")
    text = (
        f"run {run_id} (bold-cat) has no readable record 'train-inline'. Its records: test-probe."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        store.open_record(run_id, "train-inline")


@pytest.mark.parametrize("name", ["../../x-probe", "test-../x", "/etc-probe"])
def test_a_record_name_that_leaves_the_run_is_refused(store, recorded, name):
    with pytest.raises(ParameterError, match=r"^record: must be 1 to 64 letters"):
        store.open_record(recorded(), name)


def test_an_unfinished_record_is_read_up_to_its_last_epoch(store, run_id):
    with Recorder(store=store, run_id=run_id) as recorder:
        recorder.update([1, 2], [0.5, 0.25])
        recorder.end_epoch()
        recorder._writer.uploader.drain(20)
        record = store.open_record(run_id)
        assert not record.manifest.complete
        assert record.scores()["action"].tolist() == [0.5, 0.25]
        assert record.scores(["action"]).columns.tolist() == ["action"]
        with pytest.raises(
            NotFoundError, match=r"^no score 'x' in the record\. There are: sample_id"
        ):
            record.scores(["x"])


def test_a_damaged_record_is_refused(store, recorded):
    record = store.open_record(recorded())
    record.fetch("blocks/000002.parquet").write_bytes(b"")
    text = (
        f"run {record.run.run_id} (run): blocks/000002.parquet of test-probe is truncated or "
        "altered: its sha256 is not that of the manifest. Restore the file, or record the run "
        "again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        record.history()


def test_a_manifest_that_is_being_replaced_gets_a_second_look(store, recorded, client):
    import threading

    run_id = recorded()
    path = store.open_record(run_id).fetch("manifest.json")
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    timer = threading.Timer(0.1, path.write_bytes, [whole])
    timer.start()
    assert store.open_record(run_id).manifest.complete
    timer.join()
    path.write_bytes(whole[:50])
    client.set_terminated(run_id)
    with pytest.raises(CorruptRecordError, match="is damaged or half-written: it is not JSON"):
        store.open_record(run_id)


@pytest.fixture
def with_images(store, run_id, tmp_path):
    """A record that refers to images in a folder."""
    root = tmp_path / "images"
    root.mkdir()
    (root / "0.png").write_bytes(b"zero")
    (tmp_path / "secret").write_bytes(b"secret")
    source = {"kind": "folder", "root": str(root)}
    with Recorder(store=store, run_id=run_id, source=source) as recorder:
        recorder.describe_samples([0, 1, 2], paths=["0.png", "../secret", "gone.png"])
        recorder.update([0, 1, 2], [1, 2, 3])
        recorder.end_epoch()
    return store.open_record(run_id), root


def test_images_come_from_the_recorded_folder(with_images):
    assert with_images[0].image_bytes(0) == b"zero"


def test_an_image_outside_the_recorded_folder_is_not_read(with_images):
    record, root = with_images
    text = f"image '../secret' lies outside the dataset's folder {root}."
    with pytest.raises(NotFoundError, match=message(text)):
        record.image_bytes(1)


def test_an_image_that_is_not_on_this_machine_says_what_to_do(with_images):
    record, root = with_images
    text = (
        f"image 'gone.png' is not at {root} on this machine: No such file or directory. "
        "Record with thumbnails to see images elsewhere."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        record.image_bytes(2)


def test_a_record_without_images_says_what_to_do(store, recorded):
    run_id = recorded()
    text = (
        f"record test-probe of run {run_id} refers to no image files and holds no thumbnails. "
        "Record with thumbnails to see images."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        store.open_record(run_id).image_bytes(0)


def test_a_record_without_features_says_so(store, recorded):
    with pytest.raises(
        NotFoundError, match=message("the record test-probe has no features.parquet.")
    ):
        store.open_record(recorded()).features()


def test_a_record_without_probabilities_says_so(store, recorded):
    record = store.open_record(recorded())
    assert not record.has_probabilities
    text = "the record test-probe has no probabilities.parquet."
    with pytest.raises(NotFoundError, match=message(text)):
        record.probabilities()


@pytest.mark.parametrize("below", [True, False])
def test_several_runs_at_once_stand_side_by_side(store, experiment, below):
    mlflow.set_experiment(experiment)
    with contextlib.ExitStack() as stack:
        parent = stack.enter_context(store.run(name="parent")) if below else None
        with store.runs(["a", "b", "c"]) as runs:
            assert store.get_run(runs[2].run_id).status == "RUNNING"
    found = [store.get_run(each.run_id) for each in runs]
    assert [each.name for each in found] == ["a", "b", "c"]
    assert [each.status for each in found] == ["FINISHED"] * 3
    assert [each.tags.get("mlflow.parentRunId") for each in found] == [
        parent.run_id if parent else None
    ] * 3


# ---------------------------------------------------------------- through a real server


def test_a_record_goes_through_a_server_with_proxied_artifacts(server, spool):
    store, run_id = Store(server.uri), remote_run(server)
    history = make_history(n_samples=30, n_steps=5)
    assert record_history(history, run_id, store, spool, "softmax") is True
    [run] = store.find_runs(RunQuery(run_ids=(run_id,)))
    assert store.local_root(run) is None
    record = store.open_record(run)
    np.testing.assert_array_equal(record.history().losses, history.losses)
    pd.testing.assert_frame_equal(record.scores(), score_table(history), check_dtype=False)
    assert record.manifest.complete


def test_downloads_are_removed_with_their_record(server, spool):
    store, run_id = Store(server.uri), remote_run(server)
    record_history(make_history(), run_id, store, spool)
    record = store.open_record(run_id)
    folder = record._files.scratch
    assert (folder / "manifest.json").is_file()
    del record
    gc.collect()
    assert not folder.exists()


def test_a_download_that_is_cut_leaves_nothing(server, spool, monkeypatch):
    store, run_id = Store(server.uri), remote_run(server)
    record_history(make_history(), run_id, store, spool)
    record = store.open_record(run_id)

    def cut(_run, _path, folder, *, name):
        (folder / name).write_bytes(b"half of it")
        raise StoreError("the connection is gone")

    monkeypatch.setattr(store, "download", cut)
    with pytest.raises(StoreError):
        record.fetch("scores.parquet")
    assert [each.name for each in record._files.scratch.iterdir()] == ["manifest.json"]


def test_a_file_that_the_server_lost_is_missing(server, spool):
    store, run_id = Store(server.uri), remote_run(server)
    record_history(make_history(), run_id, store, spool)
    [block] = server.folder.glob(f"artifacts/*/{run_id}/**/000002.parquet")
    block.unlink()
    record = store.open_record(run_id)
    text = (
        f"run {run_id} ({record.run.name}): blocks/000002.parquet is named in the manifest of "
        "test-probe but missing. Restore the file, or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        record.history()


def test_an_unknown_run_and_record_are_not_found_on_a_server(server):
    store, run_id = Store(server.uri), remote_run(server)
    with pytest.raises(
        NotFoundError, match=message(f"run '{'0' * 32}': Run with id={'0' * 32} not found.")
    ):
        store.get_run("0" * 32)
    with pytest.raises(
        NotFoundError, match=r"has no readable record 'test-probe'\. Its records: none\.$"
    ):
        store.open_record(run_id, "test-probe")


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.ping(),
        lambda store: store.find_runs(RunQuery()),
        lambda store: store.get_run("0" * 32),
        lambda store: store.open_record("0" * 32),
        lambda store: store.log_params("0" * 32, {"a": 1}),
        lambda store: store.run().__enter__(),
    ],
)
def test_a_dead_server_is_told_within_seconds(ask):
    start = time.monotonic()
    text = (
        f"the tracking server {NOWHERE} does not answer: [Errno 111] Connection refused. "
        "Start it, or correct --tracking-uri or MLFLOW_TRACKING_URI."
    )
    with pytest.raises(StoreError, match=message(text)):
        ask(Store(NOWHERE))
    assert time.monotonic() - start < 10


def test_a_server_that_hangs_is_told_within_seconds(mortal_server):
    mortal_server.pause()
    start = time.monotonic()
    text = (
        f"the tracking server {mortal_server.uri} does not answer: timed out. "
        "Start it, or correct --tracking-uri or MLFLOW_TRACKING_URI."
    )
    with pytest.raises(StoreError, match=message(text)):
        Store(mortal_server.uri).find_runs(RunQuery())
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("uri", ["http://no.such.host.invalid", "http://a:b:c", "http://"])
def test_an_address_that_is_no_server_is_told(uri):
    with pytest.raises(
        StoreError, match=f"^the tracking server {re.escape(uri)} does not answer: "
    ):
        Store(uri).ping()


def test_a_local_store_that_does_not_exist_is_not_created(tmp_path):
    uri = f"sqlite:///{tmp_path / 'none.db'}"
    text = (
        f"no tracking store at {uri}. Record a run first, or name the store with --tracking-uri or "
        "MLFLOW_TRACKING_URI."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        Store(uri).find_runs(RunQuery())
    assert not (tmp_path / "none.db").exists()


def test_a_server_that_dies_during_a_run_costs_its_status_and_no_more(door, caplog):
    with Store(door.uri).run() as run:
        door.shut()
    [record] = [each for each in caplog.records if each.name == "actiontrack"]
    assert record.getMessage() == (
        f"the status FINISHED of run {run.run_id} is not saved: run {run.run_id}: "
        "the tracking server does not answer: [Errno 111] Connection refused."
    )
    assert mlflow.active_run() is None


# ---------------------------------------------------------------- writing


def test_parameters_are_logged_once_and_compared_afterwards(store, run_id):
    store.log_params(run_id, {"lr": 0.1, "model": "cnn"})
    store.log_params(run_id, {"lr": "0.10", "model": "cnn", "epochs": 3, "amp": True})
    store.log_params(run_id, {"amp": "true", "epochs": 3.0})
    assert store.get_run(run_id).params == {
        "lr": "0.1",
        "model": "cnn",
        "epochs": "3",
        "amp": "True",
    }


def test_a_parameter_that_the_shell_quoted_is_the_same(store, run_id, client):
    client.log_param(run_id, "dataset", "'folder:my data'")
    store.log_params(run_id, {"dataset": "folder:my data"})


@pytest.mark.parametrize(("before", "now"), [(0.1, 0.2), ("cnn", "resnet"), (True, False)])
def test_a_parameter_that_differs_is_refused(store, run_id, before, now):
    store.log_params(run_id, {"x": before})
    text = (
        f"x: must stay {str(before)!r}, as the run was started with, got {str(now)!r}. "
        "Start a new run, or pass the same value."
    )
    with pytest.raises(ParameterError, match=message(text)):
        store.log_params(run_id, {"x": now})


def test_a_dataset_is_logged_with_our_digest(store, run_id, client):
    store.log_dataset(run_id, name="digits", digest="ab" * 32, source="sklearn", context="test")
    [found] = client.get_run(run_id).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("digits", "ab" * 16)
    assert [(each.key, each.value) for each in found.tags] == [("mlflow.data.context", "test")]


def test_metrics_are_logged_at_their_step(store, run_id, client):
    store.log_metrics(run_id, {"a": 1.0, "b": float("nan")}, step=7)
    [point] = client.get_metric_history(run_id, "a")
    assert (point.value, point.step) == (1.0, 7)


def test_writing_to_an_unknown_run_is_not_found(store, tmp_path):
    unknown = "0" * 32
    with pytest.raises(NotFoundError, match=f"^tags of run {unknown}: "):
        store.set_tags(unknown, {"a": "b"})
    with pytest.raises(NotFoundError, match=f"^metrics of run {unknown}: "):
        store.log_metrics(unknown, {"a": 1.0}, 1)


# ---------------------------------------------------------------- a run of this process


def status(store, run_id):
    return store.get_run(run_id).status


def test_a_run_that_ends_well_is_finished(store):
    with store.run(name="good") as run:
        assert store.active_run_id() == run.run_id
        assert status(store, run.run_id) == "RUNNING"
    assert status(store, run.run_id) == "FINISHED"
    assert store.active_run_id() is None
    assert run.name == "good"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ZeroDivisionError, "FAILED"),
        (SystemExit, "FAILED"),
        (KeyboardInterrupt, "KILLED"),
        (Terminated, "KILLED"),
    ],
)
def test_a_run_that_ends_with_an_error_says_how(store, error, expected):
    with pytest.raises(error), store.run() as run:
        raise error
    assert status(store, run.run_id) == expected
    assert store.active_run_id() is None


def test_a_run_that_exists_is_continued(store):
    with store.run() as run:
        pass
    with store.run(run_id=run.run_id) as again:
        assert again.run_id == run.run_id
    assert status(store, run.run_id) == "FINISHED"


def test_continuing_an_unknown_run_is_not_found(store):
    with pytest.raises(NotFoundError, match=f"^run {'0' * 32}: "):
        store.run(run_id="0" * 32).__enter__()


def test_the_run_that_mlflow_run_has_started_is_adopted(store, run_id, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with store.run() as run:
        assert run.run_id == run_id
    assert status(store, run_id) == "FINISHED"


def test_runs_nest(store, client):
    with store.run() as parent, store.run(nested=True) as child:
        assert store.active_run_id() == child.run_id
    assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id
    assert [status(store, each.run_id) for each in (parent, child)] == ["FINISHED"] * 2


def test_the_handler_of_sigterm_is_put_back(store):
    before = signal.getsignal(signal.SIGTERM)
    with store.run():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_works_outside_the_main_thread(store):
    from concurrent.futures import ThreadPoolExecutor

    def work():
        with store.run() as run:
            return run.run_id

    with ThreadPoolExecutor(1) as pool:
        assert status(store, pool.submit(work).result()) == "FINISHED"


TRAIN = """
import signal, sys, time
from actiontrack.recorder import Recorder
from actiontrack.store import Store

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run with "&"
store = Store(sys.argv[1])
with store.run(run_id=sys.argv[2]), Recorder(store=store) as recorder:
    recorder.update([1, 2, 3], [0.5, 1.0, 2.0])
    recorder.end_epoch()
    recorder.update([1, 2], [0.5, 1.0])
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 1), (signal.SIGINT, -signal.SIGINT)])
def test_a_signal_marks_the_run_killed_after_what_was_recorded_is_safe(
    store, run_id, tmp_path, spool, sent, code
):
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    process = subprocess.Popen(
        [sys.executable, str(script), store.tracking_uri, run_id],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(sent)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert status(store, run_id) == "KILLED"
    record = store.open_record(run_id)
    assert record.scores()["action"].tolist() == [0.5, 1.0, 2.0]
    assert record.manifest.partial == {"step": 2, "n_seen": 2}
    assert not spool.exists() or list(spool.iterdir()) == []


def test_a_failing_database_is_an_error_of_ours(tmp_path):
    path = tmp_path / "broken.db"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(
        StoreError, match=r"^tracking store sqlite:.*: the tracking database failed: "
    ):
        Store(f"sqlite:///{path}").find_runs(RunQuery())


# A server's own view of the artifacts that it proxies


@pytest.fixture
def proxied(tracking_uri, tmp_path):
    """The store of a server that keeps artifacts in a folder, and a run that it proxies."""
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    location = f"mlflow-artifacts:/{tmp_path.name}"
    experiment = client.create_experiment(f"proxied {tmp_path}", artifact_location=location)
    run_id = client.create_run(experiment).info.run_id
    store = Store(tracking_uri, artifacts_destination=str(tmp_path / "kept"))
    return store, store.get_run(run_id)


def test_a_proxied_artifact_is_where_the_server_keeps_it(proxied, tmp_path):
    store, run = proxied
    root = tmp_path / "kept" / tmp_path.name / run.run_id / "artifacts"
    assert store.artifact_root(run) == str(root)
    assert store.local_root(run) == root


def test_a_client_leaves_a_proxied_uri_as_it_is(proxied, tracking_uri):
    _, run = proxied
    store = Store(tracking_uri)
    assert store.artifact_root(run) == run.artifact_uri
    assert store.local_root(run) is None


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "%2e%2e/outside"])
def test_an_artifact_uri_that_leads_out_of_the_server_is_refused(proxied, path):
    store, run = proxied
    with pytest.raises(NotFoundError, match="not below the server's"):
        store.artifact_root(replace(run, artifact_uri=f"mlflow-artifacts:/{path}"))


def test_the_server_writes_lists_and_reads_what_it_proxies(proxied, tmp_path, monkeypatch):
    store, run = proxied
    given = tmp_path / "note.txt"
    given.write_text("text")
    store.upload(run.run_id, given, "actiontrack/notes")
    assert store.list_files(run, "actiontrack/notes") == ["actiontrack/notes/note.txt"]
    monkeypatch.setattr(store, "local_root", lambda _run: None)  # as of an object store
    assert store.list_files(run, "actiontrack/notes") == ["actiontrack/notes/note.txt"]
    assert store.list_files(run, "actiontrack/none") == []
    (tmp_path / "here").mkdir()
    found = store.download(run, "actiontrack/notes/note.txt", tmp_path / "here")
    assert found.read_text() == "text"


@pytest.mark.parametrize("linked", [".", "blocks", "manifest.json", "verdicts"])
def test_a_record_that_is_or_holds_a_link_is_refused(store, run_id, spool, tmp_path, linked):
    """Whoever may write artifacts must not read what else lies on the machine of the reader."""
    record_history(make_history(), run_id, store, spool)
    record = store.open_record(run_id)
    place = (store.local_root(record.run) / "actiontrack/test-probe" / linked).resolve()
    elsewhere = tmp_path / "elsewhere"
    if linked == "verdicts":
        elsewhere.mkdir()
        (elsewhere / "1.jsonl").write_text("root:x:0:0")
    else:
        place.rename(elsewhere)
    place.symlink_to(elsewhere)
    with pytest.raises(CorruptRecordError, match="is, or lies in, a symbolic link"):
        _history_and_verdicts(store, run_id)


def _history_and_verdicts(store, run_id):
    record = store.open_record(run_id)
    record.history()
    verdicts.read(record)


def test_an_artifact_is_fetched_by_one_request(server, tmp_path, monkeypatch):
    """MLflow's own download asks for the run, for models of that name and for the kind of path."""
    store = Store(server.uri)
    with store.run(name="one request") as run:
        pass
    (tmp_path / "note.txt").write_text("text")
    store.upload(run.run_id, tmp_path / "note.txt", "actiontrack/notes")
    (tmp_path / "here").mkdir()
    sent = []
    send = requests.Session.send

    def counted(session, request, **options):
        sent.append(request.url)
        return send(session, request, **options)

    store.download(run, "actiontrack/notes/note.txt", tmp_path)  # asks for the server's version
    monkeypatch.setattr(requests.Session, "send", counted)
    found = store.download(run, "actiontrack/notes/note.txt", tmp_path / "here")
    assert found.read_text() == "text"
    assert len(sent) == 1
    with pytest.raises(NotFoundError, match=r"other\.txt' of run"):
        store.download(run, "actiontrack/notes/other.txt", tmp_path / "here")
