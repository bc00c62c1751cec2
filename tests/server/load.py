"""One process of the load on a team's server: several recorders, or several readers, in threads.

Called with a JSON object; prints what it saw as another one. See test_load.py.
"""

import csv
import io
import json
import random
import sys
import threading
import time
from pathlib import Path

import numpy as np
import requests

from actiontrack import RunQuery, compare_runs, load_records
from actiontrack.recorder import Recorder
from actiontrack.store import Store

EPOCHS = 10
SAMPLES = 1000


def losses_of(seed, epoch):
    """(SAMPLES,) float32, of which no two runs or epochs share a number."""
    return np.random.default_rng([seed, epoch]).gamma(1, 1, SAMPLES).astype(np.float32)


class Seen:
    """Seconds by what was done, and errors."""

    def __init__(self):
        self.seconds, self.errors, self._lock = {}, [], threading.Lock()

    def add(self, what, start):
        with self._lock:
            self.seconds.setdefault(what, []).append(time.monotonic() - start)

    def fail(self, error):
        with self._lock:
            self.errors.append(error)


def record_one(store, run_id, seed, spool, seen):
    """All epochs of one run, each uploaded before the next begins."""
    recorder = Recorder(store=store, run_id=run_id, spool=spool, patience=120)
    for epoch in range(1, EPOCHS + 1):
        start = time.monotonic()
        recorder.update(np.arange(SAMPLES), losses_of(seed, epoch))
        recorder.end_epoch()
        seen.add("an epoch of a training: update and end_epoch", start)
        if not recorder._writer.uploader.drain(120):
            seen.fail(f"epoch {epoch} of {run_id}: {recorder._writer.uploader.error}")
        seen.add("until the run holds the epoch", start)
    if not recorder.finish():
        seen.fail(f"end of {run_id}: {recorder._writer.uploader.error}")


def browse(given, seen, number):
    """Ask for pages and tables until the recorders are done."""
    session, chance = requests.Session(), random.Random(number)
    session.auth = tuple(given["login"])
    one, two = given["complete"]
    paths = {
        "page of all runs": f"/actiontrack/?experiment={given['experiment']}",
        "page of a run": f"/actiontrack/run?run={one}",
        "page of a comparison": f"/actiontrack/compare?run={one}&run={two}",
        "API: runs": f"/actiontrack/api/runs?experiment={given['experiment']}",
        "API: correlations": f"/actiontrack/api/correlations?run={one}&run={two}",
        "API: scores of a run that is recorded": None,
    }
    known = []
    while not Path(given["done"]).exists():
        what = chance.choice(list(paths))
        path = paths[what]
        if path is None:
            if not known:
                continue
            path = (
                f"/actiontrack/api/scores?format=csv&per_page={SAMPLES}&run={chance.choice(known)}"
            )
        start = time.monotonic()
        answer = session.get(given["uri"] + path, timeout=60)
        seen.add(what, start)
        if answer.status_code != 200:
            seen.fail(f"{path}: {answer.status_code} {answer.text[:200]}")
        elif what == "API: runs":
            known = [row[0] for row in answer.json()["rows"]]
        elif paths[what] is None:
            _check_scores(answer.text, given["seeds"], path, seen)


def _check_scores(text, seeds, path, seen):
    """The action of each sample is the sum of its losses so far, of this run and no other."""
    rows = list(csv.DictReader(io.StringIO(text)))
    run_id = path.rpartition("=")[2]
    found = np.zeros(SAMPLES)
    for row in rows:
        found[int(row["sample_id"])] = float(row["action"])
    losses = [losses_of(seeds[run_id], epoch) for epoch in range(1, EPOCHS + 1)]
    sums = np.cumsum(losses, axis=0, dtype=float)
    if not any(np.allclose(found, each, rtol=1e-5) for each in sums):
        seen.fail(f"{path}: scores that no number of epochs of this run gives")


def compare(given, seen):
    """Read and compare the complete runs in Python, until the recorders are done."""
    query, values = RunQuery(run_ids=tuple(given["complete"])), set()
    while not Path(given["done"]).exists():
        start = time.monotonic()
        records = load_records(query, tracking_uri=given["uri"])
        table = compare_runs(records).table("spearman")
        seen.add("Python: load_records and compare_runs", start)
        values.add(table.to_json())
    if len(values) > 1:
        seen.fail(f"comparisons of the same runs differ: {values}")


def main(given):
    """Do the work of one process."""
    seen, store = Seen(), Store(given["uri"])
    store.ping()
    if given["role"] == "record":
        work = [
            (record_one, (store, run_id, seed, given["spool"], seen))
            for run_id, seed in given["runs"].items()
        ]
    else:
        work = [(browse, (given, seen, number)) for number in range(given["browsers"])]
        work += [(compare, (given, seen))] * given["comparers"]

    def guarded(function, arguments):
        try:
            function(*arguments)
        except Exception as error:  # noqa: BLE001 - what fails is what is counted
            seen.fail(f"{function.__name__}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=guarded, args=each) for each in work]
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    print(json.dumps({"seconds": seen.seconds, "errors": seen.errors}))  # noqa: T201


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
