"""A Dask cluster of two processes gives the numbers of one, bit for bit, or says what failed."""

import asyncio
import io
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster
from helpers import ROOT, message, wait_until
from PIL import Image

from actiontrack import analysis
from actiontrack.analysis.cluster import connection
from actiontrack.analysis.cluster import scores as cluster_scores
from actiontrack.analysis.cluster.connection import connect, gather_results
from actiontrack.analysis.cluster.scores import ClusterScores
from actiontrack.cli import cli
from actiontrack.compare import matrices
from actiontrack.errors import (
    CorruptRecordError,
    MissingDependencyError,
    ParameterError,
    StoreError,
)
from actiontrack.recorder import Recorder
from actiontrack.store import RunQuery
from actiontrack.testing import make_history

N_SAMPLES = 400
_ENVIRONMENT = {
    "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
}


@pytest.fixture(scope="module")
def local_cluster():
    """Two worker processes."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as running:
        yield running


@pytest.fixture
def client(local_cluster):
    with Client(local_cluster, set_as_default=False) as opened:
        yield opened


@pytest.fixture
def runs(store, recorded_history, experiment):
    """Records of five runs of two models: ties, a rare class, and samples that are not finite."""
    base = make_history(n_steps=3, n_samples=N_SAMPLES, n_classes=5)
    labels = np.where(base.labels == 4, 3, base.labels)
    labels[[7, 300]] = 4  # too few to be correlated
    rng = np.random.default_rng(1)
    for number in range(5):
        losses = np.round(base.losses + rng.gamma(1.0, 0.2, base.losses.shape), 2)
        losses[2, number] = np.nan
        history = replace(base, losses=losses.astype(np.float32), labels=labels)
        recorded_history(history, f"model {number % 2}", run_name=f"run {number}")
    return analysis.load_records(RunQuery(experiments=(experiment,)), store=store)


@pytest.fixture(params=["whole", "pieces"])
def size(request, monkeypatch):
    """As it is for so few samples, or blocks, groups and slabs as if there were many."""
    if request.param == "pieces":
        monkeypatch.setattr(matrices, "_BLOCK", 5 * 32)
        monkeypatch.setattr(cluster_scores, "_SLAB", 5 * 70)


def assert_equal(one, other):
    for name in ("pairs", "groups", "runs"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True)
    assert one.note == other.note


@pytest.mark.parametrize("up_to_step", [None, 2])
def test_correlations_and_intervals_are_those_of_one_process(client, runs, size, up_to_step):
    options = {"n_bootstrap": 40, "up_to_step": up_to_step}
    there = analysis.compare_runs(runs, client=client, **options)
    assert_equal(there, analysis.compare_runs(runs, **options))
    held = there.groups.dropna(subset=["mean", "ci_low", "ci_high"])
    assert len(held) == 2 * 3 * 6  # methods; pairs of models; all, within classes, four classes


def test_quantiles_are_those_of_one_process(client, runs):
    there = analysis.correlation_by_quantile(runs, score="loss_variance", client=client)
    here = analysis.correlation_by_quantile(runs, score="loss_variance")
    pd.testing.assert_frame_equal(there, here, check_exact=True)


def test_samples_that_only_some_runs_have_are_left_out_on_workers_too(client, store, new_run):
    records = []
    for first in (0, 3):
        run_id, ids = new_run(), np.arange(first, first + 50)
        with Recorder(store=store, run_id=run_id, class_names=["a", "b"]) as recorder:
            recorder.update(ids, np.sqrt(ids % 7 + first), labels=ids % 2)
            recorder.end_epoch()
        records.append(store.open_record(run_id))
    options = {"on_mismatch": "inner", "n_bootstrap": 10}
    there = analysis.compare_runs(records, client=client, **options)
    assert there.note == "47 of up to 50 samples are shared by all 2 runs"
    assert_equal(there, analysis.compare_runs(records, **options))


def test_scores_do_not_come_back(client, runs, monkeypatch):
    """What is gathered is smaller than the scores; here the matrices are most of it."""
    received, gather = [], gather_results

    def gathered(*arguments):
        found = gather(*arguments)
        received.extend(each.nbytes for each in found)
        return found

    monkeypatch.setattr(cluster_scores, "gather_results", gathered)
    analysis.compare_runs(runs, client=client, n_bootstrap=0)
    matrix = 5 * 5 * 8
    assert sum(received) <= N_SAMPLES + 2 * 7 * matrix
    assert sum(received) < 5 * N_SAMPLES * 8 / 4


def test_the_command_takes_the_address_of_a_cluster(local_cluster, runs, experiment):
    words = ["compare", "--experiment", experiment, "--tidy", "--bootstrap", "20"]
    for more in ([], ["--quantiles"]):
        here = CliRunner().invoke(cli, [*words, *more])
        there = CliRunner().invoke(cli, [*words, *more, "--dask", local_cluster.scheduler_address])
        assert there.exit_code == 0, there.output
        assert there.output == here.output


@pytest.fixture
def maps(store, new_run):
    """Records of maps of more samples than are added up at once, of two sizes, one without."""
    rng, records = np.random.default_rng(0), []
    ids = np.arange(90)
    labels = [rng.integers(0, 3, (4 + each % 2, 5)).astype(np.uint8) for each in ids]
    for _ in range(2):
        run_id = new_run()
        options = {"pixel_loss_name": "focal", "void": "counted", "class_names": ("a", "b", "c")}
        with Recorder(store=store, run_id=run_id, **options) as recorder:
            losses = [rng.exponential(size=each.shape) for each in labels]
            recorder.update(ids, np.array([each.mean() for each in losses]))
            recorder.update_maps(ids, losses)
            recorder.end_epoch()
            recorder.log_pictures("label", ids, [png(each) for each in labels])
        records.append(store.open_record(run_id))
    return records


def png(classes):
    stream = io.BytesIO()
    Image.fromarray(classes).save(stream, "PNG")
    return stream.getvalue()


def test_maps_are_summed_and_correlated_as_by_one_process(client, maps):
    for function, *arguments in (
        (analysis.pixel_classes, maps[0]),
        (partial(analysis.pixel_regions, min_pixels=2), maps[0], 25),
        (analysis.map_correlation, maps),
    ):
        here, there = function(*arguments), function(*arguments, client=client)
        pd.testing.assert_frame_equal(there, here, check_exact=True)
        assert len(here) in {3, 25, 90 * 2}


def test_the_command_for_maps_takes_the_address_of_a_cluster(local_cluster, maps, experiment):
    words = ["maps", "--experiment", experiment]
    here = CliRunner().invoke(cli, words)
    there = CliRunner().invoke(cli, [*words, "--dask", local_cluster.scheduler_address])
    assert there.exit_code == 0, there.output
    assert there.output == here.output


# ---------------------------------------------------------------- what fails, and what it says


def test_without_dask_the_extra_is_named(in_subprocess):
    code = """
import sys
sys.modules["distributed"] = None
from actiontrack.analysis.cluster.connection import connect
from actiontrack.errors import MissingDependencyError
try:
    connect("tcp://127.0.0.1:1")
except MissingDependencyError as error:
    print(error)
"""
    expected = "comparing on a cluster needs Dask. Install it with: pip install 'actiontrack[dask]'"
    assert in_subprocess(code).stdout.strip() == expected


def test_a_scheduler_whose_failure_has_no_words_is_named(monkeypatch):
    def knock(distributed, address):
        raise TimeoutError

    monkeypatch.setattr(connection, "_knock", knock)
    text = "the Dask scheduler tcp://127.0.0.1:9 does not answer: TimeoutError. Start it with"
    with pytest.raises(StoreError, match=f"^{text}"):
        connect("tcp://127.0.0.1:9")


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(connection, "_TIMEOUT", "0.5s")
    with pytest.raises(
        StoreError, match=r"^the Dask scheduler tcp://127.0.0.1:9 does not answer: "
    ):
        connect("tcp://127.0.0.1:9")


@pytest.mark.parametrize("address", ["carrier://pigeon", "10.0.0.1", "tls://10.0.0.1:8786"])
def test_an_address_that_can_not_be_one_is_refused(address):
    with pytest.raises(StoreError, match=f"^the Dask scheduler {address} does not answer: "):
        connect(address)


def test_a_process_that_asked_a_wrong_address_ends_at_once_and_in_silence(in_subprocess):
    code = """
from actiontrack.analysis.cluster.connection import connect
from actiontrack.errors import StoreError
try:
    connect("10.0.0.1")
except StoreError:
    print("told")
"""
    ended = in_subprocess(code)
    assert (ended.stdout, ended.stderr) == ("told\n", "")


def test_a_cluster_without_workers_is_refused(runs):
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        Client(empty, set_as_default=False) as opened,
    ):
        expected = (
            f"the Dask cluster {empty.scheduler_address} has no worker. Start one with "
            "'dask worker'."
        )
        with pytest.raises(StoreError, match=message(expected)):
            analysis.compare_runs(runs, client=opened)


def test_a_worker_of_another_version_is_refused(client, runs, monkeypatch):
    monkeypatch.setattr(connection, "__version__", "99")
    with pytest.raises(StoreError, match=r"has actiontrack \d.*, this process 99\. Install the "):
        analysis.compare_runs(runs, client=client)


def test_workers_that_do_not_see_the_artifacts_say_so(client, runs):
    first = runs[0]
    _ = first.samples
    folder = first.store.local_root(first.run)
    away = folder.with_name("elsewhere")
    folder.rename(away)
    with pytest.raises(StoreError) as caught:
        analysis.compare_runs(runs, client=client)
    assert (
        f"can't read record test-probe of run {first.run.run_id} ({first.run.name}): there is "
        f"nothing at {first.run.artifact_uri}. Give workers the same way to the artifacts"
    ) in str(caught.value)


def test_a_damaged_record_is_told_as_in_one_process(client, runs):
    path = runs[1].store.local_root(runs[1].run) / "actiontrack/test-probe/scores.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptRecordError) as here:
        analysis.compare_runs(runs, n_bootstrap=0)
    with pytest.raises(CorruptRecordError, match=message(here.value)):
        analysis.compare_runs(runs, n_bootstrap=0, client=client)


def test_an_unknown_score_is_told_as_in_one_process(client, runs):
    with pytest.raises(LookupError) as here:
        analysis.compare_runs(runs, score="beauty")
    with pytest.raises(LookupError, match=message(here.value)):
        analysis.compare_runs(runs, score="beauty", client=client)


@pytest.mark.long
def test_a_worker_that_dies_is_told(runs, tmp_path):
    with _Scheduler(tmp_path) as scheduler, connect(scheduler.address) as opened:
        scheduler.add_worker()
        opened.wait_for_workers(1, timeout=60)
        scores = ClusterScores(opened, runs, _die, positions=None, n_samples=N_SAMPLES)
        with pytest.raises(StoreError, match=r"^the Dask cluster \S+ failed: Attempted to run"):
            scores.finite()


def _die(record):
    os._exit(1)


@pytest.mark.long
def test_a_scheduler_that_dies_is_told(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "_TIMEOUT", "2s")
    with _Scheduler(tmp_path) as scheduler, connect(scheduler.address) as opened:
        scheduler.end()
        with pytest.raises(StoreError, match=r"^the Dask cluster \S+ failed: "):
            analysis.compare_runs(runs, client=opened)


@pytest.mark.long
def test_a_worker_without_this_package_is_told(runs, tmp_path):
    without = tmp_path / "without.py"
    without.write_text("import sys\nsys.modules['actiontrack'] = None\n")
    with _Scheduler(tmp_path) as scheduler, connect(scheduler.address) as opened:
        scheduler.add_worker("--preload", str(without))
        opened.wait_for_workers(1, timeout=60)
        with pytest.raises(MissingDependencyError, match="lacks actiontrack"):
            analysis.compare_runs(runs, client=opened)


def test_an_asynchronous_client_is_refused(local_cluster, runs):
    async def compare():
        async with Client(local_cluster.scheduler_address, asynchronous=True) as opened:
            analysis.compare_runs(runs, client=opened)

    with pytest.raises(ParameterError, match=r"^client: must not be asynchronous, got "):
        asyncio.run(compare())


def test_a_record_that_is_sent_carries_addresses_and_no_files(runs):
    record = runs[0]
    expected = record.scores(["action"])
    sent = pickle.dumps(record)
    assert len(sent) < 20_000
    arrived = pickle.loads(sent)  # noqa: S301 - our own bytes
    assert arrived.manifest == record.manifest
    pd.testing.assert_frame_equal(arrived.scores(["action"]), expected)


class _Scheduler:
    """A scheduler and workers as commands start them; work that kills one is not tried again."""

    def __init__(self, folder):
        self._folder, self._processes = folder, []
        self.address = ""

    def __enter__(self):
        self._start("dask_scheduler", "--port", "0", "--no-dashboard")
        log = self._folder / "dask_scheduler.log"
        wait_until(lambda: "Scheduler at:" in log.read_text(), timeout=60)
        self.address = log.read_text().split("Scheduler at:")[1].split()[0]
        return self

    def add_worker(self, *options):
        self._start("dask_worker", self.address, "--no-nanny", "--no-dashboard", *options)

    def _start(self, command, *options):
        with (self._folder / f"{command}.log").open("w") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", f"distributed.cli.{command}", *options],
                    cwd=self._folder,
                    env=os.environ | _ENVIRONMENT,
                    stdout=log,
                    stderr=log,
                )
            )

    def end(self):
        for each in reversed(self._processes):
            each.kill()
            each.wait()
        self._processes.clear()

    def __exit__(self, *error):
        self.end()
