"""Runs of a server are loaded by few requests: what a table needs comes with the list of runs."""

import uuid

import pandas as pd
import pytest
import requests
from helpers import remote_run

from actiontrack import analysis
from actiontrack.analysis.loading import sound_records
from actiontrack.errors import CorruptRecordError, NotFoundError
from actiontrack.recorder import Recorder
from actiontrack.store import RunQuery, Store
from actiontrack.store.tags import MANIFEST_TAG
from actiontrack.testing import make_history, record_history

TAG = f"{MANIFEST_TAG}test-probe"
N_RUNS = 3


@pytest.fixture
def remote(server):
    return Store(server.uri)


@pytest.fixture
def runs(server, remote, spool):
    """The query of an experiment of three runs behind the server."""
    name = f"listed {uuid.uuid4()}"
    for _ in range(N_RUNS):
        run_id = remote_run(server, name)
        record_history(make_history(n_samples=20), run_id, remote, spool)
    return RunQuery(experiments=(name,))


@pytest.fixture
def asked(monkeypatch):
    """The addresses that are asked for, in order."""
    addresses = []
    send = requests.Session.send

    def noted(session, request, **options):
        addresses.append(request.url)
        return send(session, request, **options)

    monkeypatch.setattr(requests.Session, "send", noted)
    return addresses


def files(addresses):
    """Names of the files that were asked for, ascending."""
    return sorted(address.rpartition("/")[2] for address in addresses if "/artifacts/" in address)


def path_of(server, run, name):
    """Where the server keeps a file of a record."""
    inside = run.artifact_uri.removeprefix("mlflow-artifacts:/").lstrip("/")
    return server.folder / "artifacts" / inside / "actiontrack" / "test-probe" / name


def test_a_table_of_runs_needs_the_list_of_runs_alone(runs, remote, asked):
    records, damaged = sound_records(runs, store=remote, every_record=True, manifests_only=True)
    frame = analysis.runs_frame(records)
    assert (len(frame), damaged, files(asked)) == (N_RUNS, [], [])
    assert len(asked) <= 3  # whether it answers, its experiments, their runs


@pytest.mark.parametrize("on_damage", ["error", "skip"])
def test_scores_of_runs_need_one_file_of_each(runs, remote, asked, on_damage):
    scores = analysis.load_scores(runs, store=remote, on_damage=on_damage)
    assert len(scores) == N_RUNS * 20
    assert files(asked) == ["scores.parquet"] * N_RUNS
    assert len(asked) <= N_RUNS + 4  # and once the version of the server


def test_a_comparison_of_runs_needs_one_file_of_each_and_the_samples_of_one(runs, remote, asked):
    analysis.compare_runs(analysis.load_records(runs, store=remote), n_bootstrap=0)
    assert files(asked) == ["samples.parquet"] + ["scores.parquet"] * N_RUNS


def test_runs_of_earlier_versions_are_loaded_by_the_file_of_their_manifest(runs, remote, asked):
    expected = analysis.load_scores(runs, store=remote)
    for run in remote.find_runs(runs):
        remote._client.delete_tag(run.run_id, TAG)
    asked.clear()
    pd.testing.assert_frame_equal(analysis.load_scores(runs, store=remote), expected)
    assert files(asked) == ["manifest.json"] * N_RUNS + ["scores.parquet"] * N_RUNS


def test_a_record_that_changed_after_its_run_was_listed_is_read_as_it_is(
    server, remote, spool, tmp_path
):
    run_id, query = remote_run(server, tmp_path.name), RunQuery(experiments=(tmp_path.name,))

    def record(losses):
        with Recorder(run_id=run_id, store=remote, spool=spool, resume=True) as recorder:
            recorder.update([0, 1], losses)
            recorder.end_epoch()
        return remote.get_run(run_id).tags[TAG]

    listed = record([1.0, 2.0])
    assert record([4.0, 8.0]) != listed
    remote.set_tags(run_id, {TAG: listed})
    assert analysis.load_scores(query, store=remote)["action"].tolist() == [5.0, 10.0]


def test_a_damaged_file_behind_a_server_is_refused_and_named(runs, remote, server):
    run = remote.find_runs(runs)[0]
    path = path_of(server, run, "scores.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptRecordError, match=rf"^run {run.run_id} .*scores\.parquet"):
        analysis.load_scores(runs, store=remote)
    assert analysis.load_scores(runs, store=remote, on_damage="skip")["run_id"].nunique() == 2


def test_a_record_whose_files_are_gone_from_the_server_is_refused(runs, remote, server):
    run = remote.find_runs(runs)[0]
    for name in ("manifest.json", "scores.parquet"):
        path_of(server, run, name).unlink()
    with pytest.raises(NotFoundError, match=r"its manifest\.json is missing"):
        analysis.load_scores(runs, store=remote)
    assert analysis.load_scores(runs, store=remote, on_damage="skip")["run_id"].nunique() == 2
