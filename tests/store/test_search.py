"""Runs are found by id, start of an id, name, experiment and filter."""

import re
import time

import mlflow
import pytest
from helpers import message
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

from actiontrack.errors import (
    NotFoundError,
    ParameterError,
    StoreError,
)
from actiontrack.store import FORMAT_TAG, MODEL_TAG, RunQuery, Store
from actiontrack.store.translation import translated
from actiontrack.testing import make_history, record_history


@pytest.fixture
def query(experiment):
    """A query of the test's own experiment."""
    return lambda **options: RunQuery(**{"experiments": (experiment,)} | options)


def ids(runs):
    return [each.run_id for each in runs]


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
    assert run.tags[FORMAT_TAG] == "2"
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


def test_an_experiment_that_does_not_exist_is_named_with_those_that_do(
    store, experiment, monkeypatch
):
    monkeypatch.setattr("actiontrack.store.experiments._MOST_NAMED", 10_000)
    text = re.escape(f"no experiment 'nope' at {store.tracking_uri}. There are: ")
    with pytest.raises(NotFoundError, match=f"^{text}.*{re.escape(experiment)}.*\\.$"):
        store.find_runs(RunQuery(experiments=("nope",)))


def test_of_many_experiments_the_first_are_named(store, experiment, new_run, monkeypatch):
    monkeypatch.setattr("actiontrack.store.experiments._MOST_NAMED", 1)
    with pytest.raises(NotFoundError, match=r"There are: [^,]+ and \d+ more\.$"):
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


def test_writing_to_an_unknown_run_is_not_found(store, tmp_path):
    unknown = "0" * 32
    with pytest.raises(NotFoundError, match=f"^tags of run {unknown}: "):
        store.set_tags(unknown, {"a": "b"})
    with pytest.raises(NotFoundError, match=f"^metrics of run {unknown}: "):
        store.log_metrics(unknown, {"a": 1.0}, 1)


def test_continuing_an_unknown_run_is_not_found(store):
    with pytest.raises(NotFoundError, match=f"^run {'0' * 32}: "):
        store.run(run_id="0" * 32).__enter__()


def test_the_name_of_a_run_that_holds_the_word_filter_is_no_filter():
    refusal = MlflowException("Names have no slash", INVALID_PARAMETER_VALUE)
    text = "run 'my filter': Names have no slash."
    with pytest.raises(StoreError, match=message(text)), translated("run 'my filter'"):
        raise refusal
