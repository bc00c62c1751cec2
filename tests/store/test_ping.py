"""A server that does not answer is told within seconds."""

import re
import time

import pytest
from helpers import message

from actiontrack.errors import (
    NotFoundError,
    StoreError,
)
from actiontrack.store import RunQuery, Store
from actiontrack.store.ping import has_pages

NOWHERE = "http://127.0.0.1:9"


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


def test_a_plain_server_has_no_pages(server):
    assert not has_pages(server.uri)
