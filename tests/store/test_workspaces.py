"""Large shared workspaces, and services that take fewer filters than MLflow's own server."""

import json

import mlflow
import pytest
from helpers import remote_run

from actiontrack.errors import NotFoundError, ParameterError, StoreError
from actiontrack.store import RunQuery, Store
from actiontrack.store import search as search_module
from actiontrack.testing import make_history, record_history
from actiontrack.web.records import Records

SEARCH = "/api/2.0/mlflow/runs/search"
EXPERIMENTS = "/api/2.0/mlflow/experiments/search"
REFUSAL = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": "no such operator"})


@pytest.fixture(scope="module")
def shared(server, tmp_path_factory):
    """Three runs with a record in experiments of their own: name of the experiment -> run id."""
    store, spool = Store(server.uri), tmp_path_factory.mktemp("spool")
    runs = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACTIONTRACK_SPOOL", str(spool))
        for name in ("shared a", "shared b", "shared c"):
            run_id = remote_run(server, name)
            client = mlflow.MlflowClient(server.uri)
            client.set_tag(run_id, "mlflow.runName", f"run of {name}")
            record_history(make_history(), run_id, store, spool)
            client.set_terminated(run_id)
            runs[name] = run_id
    return runs


@pytest.fixture
def far(forwarder):
    """A store whose requests are counted."""
    return Store(forwarder.uri)


def newest(shared):
    return list(shared.values())[::-1]


def ids(runs, shared):
    """Those of the module's own runs: the server is that of the whole session."""
    return [run.run_id for run in runs if run.run_id in shared.values()]


def refusing(forwarder, *words):
    """Let the service refuse searches whose filter holds one of these."""

    def answer(request, status, body):
        if request[1] == SEARCH and any(
            word in json.loads(forwarder.sent[-1]).get("filter", "") for word in words
        ):
            return 400, REFUSAL.encode()
        return status, body

    forwarder.answer = answer


def searched(forwarder):
    """What each search of runs asked for."""
    both = zip(forwarder.asked, forwarder.sent, strict=True)
    return [json.loads(sent) for (_, path), sent in both if path == SEARCH]


@pytest.mark.parametrize("size", [1, 2])
def test_experiments_are_searched_in_batches_with_the_runs_of_one_search(
    far, forwarder, shared, monkeypatch, size
):
    names = tuple(shared)
    whole = far.find_runs(RunQuery(experiments=names))
    monkeypatch.setattr(search_module, "_BATCH", size)
    forwarder.forget()
    assert far.find_runs(RunQuery(experiments=names)) == whole
    assert [len(each["experiment_ids"]) for each in searched(forwarder)] == [size] * (3 // size) + (
        [1] if 3 % size else []
    )
    [run] = far.find_runs(RunQuery(experiments=names, max_runs=1))
    assert run.run_id == newest(shared)[0]


def test_a_full_id_is_looked_up_without_a_search(far, forwarder, shared):
    run_id = shared["shared a"]
    assert far.find_runs(RunQuery(run_ids=(run_id,)))[0].run_id == run_id
    paths = [path.rpartition("/mlflow/")[2] for _, path in forwarder.asked]
    assert paths == ["/health", "runs/get", "experiments/get"]
    with pytest.raises(NotFoundError):
        far.find_runs(RunQuery(run_ids=("0" * 32,)))
    assert not searched(forwarder)


def test_experiments_are_listed_once_however_many_names_there_are(far, forwarder, shared):
    names = tuple(f"run of {name}" for name in shared)
    runs = far.find_runs(RunQuery(run_ids=names))
    assert [run.name for run in runs] == list(names)
    assert forwarder.count()[EXPERIMENTS] == 1


def test_the_start_of_an_id_is_searched_and_not_scanned_for(far, forwarder, shared):
    run_id = shared["shared b"]
    assert far.find_runs(RunQuery(run_ids=(run_id[:12],)))[0].run_id == run_id
    assert [each["filter"] for each in searched(forwarder)] == [
        f"attributes.run_name = '{run_id[:12]}'",
        f"attributes.run_id LIKE '{run_id[:12]}%'",
    ]


def test_an_experiment_is_looked_up_by_its_name(far, forwarder, shared):
    assert ids(far.find_runs(RunQuery(experiments="shared b")), shared) == [shared["shared b"]]
    assert EXPERIMENTS not in forwarder.count()


@pytest.mark.parametrize("word", ["LIKE", "!=", "run_name", "attributes"])
def test_what_a_service_refuses_is_looked_for_here_and_remembered(far, forwarder, shared, word):
    refusing(forwarder, word)
    texts = ("", f"run of {next(iter(shared))}", shared["shared b"][:12])
    expected = [newest(shared), [shared["shared a"]], [shared["shared b"]]]
    for _ in range(2):
        forwarder.forget()
        queries = [RunQuery(run_ids=(text,) if text else ()) for text in texts]
        assert [ids(far.find_runs(query), shared) for query in queries] == expected
    assert not [each for each in searched(forwarder) if word in each.get("filter", "")]


def test_a_wrong_filter_of_the_user_is_not_taken_for_a_poor_service(far, forwarder, shared):
    with pytest.raises(ParameterError, match="must be a filter that MLflow understands"):
        far.find_runs(RunQuery(filter_string="nonsense"))
    forwarder.forget()
    assert ids(far.find_runs(RunQuery()), shared) == newest(shared)
    assert all("actiontrack.format" in each["filter"] for each in searched(forwarder))


def test_the_filter_of_the_user_counts_where_ours_is_refused(far, forwarder, shared):
    refusing(forwarder, "!=")
    runs = far.find_runs(RunQuery(filter_string="attributes.run_name = 'run of shared c'"))
    assert ids(runs, shared) == [shared["shared c"]]


def test_the_first_question_is_asked_with_the_login_and_the_headers_of_the_client(
    far, forwarder, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a token of mine")
    far.ping()
    [headers], [(method, path)] = forwarder.headers, forwarder.asked
    assert (method, path) == ("GET", "/health")
    assert headers["Authorization"] == "Bearer a token of mine"
    assert headers["User-Agent"].startswith("mlflow-python-client/")


def test_the_pages_ask_for_no_file_to_list_runs_and_four_times_for_a_run(far, forwarder, shared):
    records = Records(far)
    for info in records.runs():
        if info.run_id in shared.values():
            records.open_of(info, "test-probe", as_listed=True)
    assert set(forwarder.count()) == {"/health", EXPERIMENTS, SEARCH}
    records.open(shared["shared a"]).scores()  # asks what the server can do, once
    forwarder.forget()
    records.open(shared["shared b"]).scores()
    asked = forwarder.count()
    assert sum(asked.values()) <= 4
    assert set(asked.values()) == {1}


class Delayed:
    """A client of a service that shows tags a few questions after they were set."""

    def __init__(self, client, times):
        self._client, self._times, self._shown = client, times, None

    def __getattr__(self, name):
        return getattr(self._client, name)

    def get_run(self, run_id):
        self._times -= 1
        if self._shown is None:
            self._shown = self._client.get_run(run_id)
            self._shown.data.tags.clear()
        return self._shown if self._times >= 0 else self._client.get_run(run_id)


@pytest.fixture
def _no_pauses(monkeypatch):
    monkeypatch.setattr("actiontrack.store.claims._PAUSES_S", (0.0,) * 5)


@pytest.mark.usefixtures("_no_pauses")
def test_a_claim_waits_until_its_tag_is_shown(client, tracking_uri, run_id):
    store = Store(tracking_uri, client=Delayed(client, 3))
    store.claim_record(run_id, "test-probe", ["host a (1)"])
    store.check_claim(run_id, "test-probe", "host a (1)")
    assert client.get_run(run_id).data.tags["actiontrack.writer.test-probe.1"] == "host a (1)"


@pytest.mark.usefixtures("_no_pauses")
def test_a_tag_that_is_never_shown_is_told_and_no_claim(client, tracking_uri, run_id):
    store = Store(tracking_uri, client=Delayed(client, 100))
    with pytest.raises(StoreError, match="does not show the tag that was just set"):
        store.claim_record(run_id, "test-probe", ["host a (1)"])
