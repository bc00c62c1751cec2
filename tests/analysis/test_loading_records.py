"""Scores of the runs of a query."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from analysis_helpers import N_SAMPLES

from actiontrack import analysis
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.recorder import Recorder
from actiontrack.store import RunQuery, Store
from actiontrack.testing import record_history


def test_scores_of_a_query_are_the_sums_of_the_recorded_losses(record, history, experiment):
    record(history, model="softmax")
    scores = analysis.load_scores(RunQuery(experiments=(experiment,)))
    expected = sum(row.astype(float) for row in history.losses)
    np.testing.assert_allclose(scores["action"], expected, rtol=1e-12)
    assert scores["sample_id"].tolist() == history.sample_ids.tolist()
    assert set(scores["model"]) == {"softmax"}
    assert scores["class"].tolist() == [f"class {each}" for each in history.labels]
    assert scores["complete"].all()


def test_several_runs_follow_each_other_in_one_frame(four_runs, experiment):
    scores = analysis.load_scores(RunQuery(experiments=(experiment,)))
    assert len(scores) == 4 * N_SAMPLES
    assert scores.groupby("run_id").size().tolist() == [N_SAMPLES] * 4


def test_a_query_without_a_match_says_what_was_asked_and_where(experiment, tracking_uri):
    message = (
        f"no run with a record matches: experiment {experiment} at {tracking_uri}. "
        "List what there is with: actiontrack runs"
    )
    with pytest.raises(NotFoundError, match=re.escape(message)):
        analysis.load_scores(RunQuery(experiments=(experiment,)))


def test_scores_up_to_a_step_sum_the_first_steps_only(record, history):
    frame = analysis.score_frame([record(history)], up_to_step=2)
    np.testing.assert_allclose(
        frame["action"], history.losses[:2].astype(float).sum(axis=0), rtol=1e-12
    )


def test_scores_beyond_the_last_step_are_refused(record, history):
    message = (
        "up_to_step: must be a recorded step, at most 4, got 5. "
        "Choose a step that every run has reached."
    )
    with pytest.raises(ParameterError, match=re.escape(message)):
        analysis.score_frame([record(history)], up_to_step=5)


def test_labels_without_names_become_their_numbers(record, history):
    frame = analysis.score_frame([record(replace(history, class_names=()))])
    assert frame["class"].astype(str).tolist() == [str(each) for each in history.labels]


def test_records_without_labels_have_one_class(record, history):
    frame = analysis.score_frame([record(replace(history, labels=None))])
    assert set(frame["class"]) == {"all"}


def test_frames_are_saved_as_parquet_and_csv(tmp_path, record, history):
    scores = analysis.score_frame([record(history)])
    parquet, csv = analysis.save_frame(scores, tmp_path / "out" / "scores")
    assert pd.read_parquet(parquet)["action"].tolist() == scores["action"].tolist()
    np.testing.assert_allclose(pd.read_csv(csv)["action"], scores["action"])


def test_an_unfinished_record_is_read_up_to_its_last_epoch_and_marked(new_run, store, spool):
    run_id = new_run()
    recorder = Recorder(run_id=run_id, store=store, spool=spool)
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    for _ in range(2):
        recorder.update(np.arange(6), logits=logits, labels=np.arange(6) % 3)
        recorder.end_epoch()
    recorder.update(np.arange(4), logits=logits[:4], labels=np.arange(4) % 3)
    recorder.close()
    scores = analysis.load_scores(RunQuery(run_ids=(run_id,)))
    assert not scores["complete"].any()
    assert scores["n_steps"].tolist() == [2] * 6


def test_everything_works_through_a_server_with_proxied_artifacts(server, spool, history):
    remote = Store(server.uri)
    client = remote._client
    run_id = client.create_run("0").info.run_id
    record_history(history, run_id, remote, spool, model="remote")
    scores = analysis.load_scores(RunQuery(run_ids=(run_id,)), tracking_uri=server.uri)
    np.testing.assert_allclose(
        scores["action"], history.losses.astype(float).sum(axis=0), rtol=1e-12
    )
    curves = analysis.loss_curves([remote.open_record(run_id)], n=1)
    assert len(curves) == history.n_steps
