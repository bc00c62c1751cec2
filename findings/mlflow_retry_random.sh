#!/bin/sh
# MLflow 3.17.2. Tried on 2026-12-01 with Python 3.11 and SQLAlchemy as MLflow installs it (Linux, x86-64).
#
# A thread that writes tags of a run changes what `random` gives the rest of the program: when two clients insert
# the same new tag of one run at the same moment, the SQL store waits before its next attempt, and draws how long
# from Python's global generator, which a program has seeded for its training. The retries of the REST client draw
# there, too (`mlflow.utils.rest_utils`, by reading; not run here).
#
# Two threads, each with a client of its own, set five new tags of one run, up to 400 times, while the main thread
# draws nothing. Output seen:
#   the state of random changed after 1 rounds of tags
# The number of rounds differs from run to run.
#
# Exits with 0 if the library behaves like this, with 1 if it does not.
set -eu
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mlflow==3.17.2
cd "$folder"
MLFLOW_DISABLE_TELEMETRY=true "$folder/venv/bin/python" - <<'PYTHON'
import logging
import random
import sys
import threading

from mlflow import MlflowClient
from mlflow.entities import RunTag

logging.disable(logging.INFO)
uri = "sqlite:///mlflow.db"
clients = [MlflowClient(tracking_uri=uri) for _ in range(2)]
run = clients[0].create_run("0").info.run_id
random.seed(5)
before = random.getstate()


def work(client, number, turn):
    client.log_batch(run, tags=[RunTag(f"{turn}.{tag}", str(number)) for tag in range(5)])


for turn in range(400):
    threads = [threading.Thread(target=work, args=(client, number, turn)) for number, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if random.getstate() != before:
        print(f"the state of random changed after {turn + 1} rounds of tags")
        sys.exit(0)
print("the state of random is as before")
sys.exit(1)
PYTHON
