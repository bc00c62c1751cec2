#!/bin/sh
# MLflow 3.10.1 and 3.17.2 (with SQLAlchemy 2.1). Tried on 2026-11-30 with Python 3.11.
#
# A tracking database that MLflow 3.10.1 has made is read by the client of MLflow 3.17.2: one search for runs,
# nothing is written. The client migrates the database before it answers; it says "Updating database tables" in
# its log and asks nobody. From then on MLflow 3.10.1 refuses the database, and its message names the newer
# schema as "out-of-date" and advises `mlflow db upgrade`, which cannot help: the older one does not know the
# revision. So a colleague with a newer notebook ends the server of a team by looking at its runs.
#
# The documentation of `mlflow db upgrade` says to make a backup and to migrate by that command.
#
# Output seen:
#   made by 3.10.1:       revision 1b5f0d9ad7c1
#   read by 3.17.2:       1 run, revision dc11669786a5
#   read by 3.10.1 again: refused (found version dc11669786a5, but expected 1b5f0d9ad7c1)
#
# Exits with 0 if the library behaves like this, with 1 if it does not.
set -eu
unset PYTHONPATH MLFLOW_TRACKING_URI MLFLOW_RUN_ID
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for version in 3.10.1 3.17.2; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet "mlflow==$version"
done
cat > make.py <<'PYTHON'
import mlflow

client = mlflow.MlflowClient(tracking_uri="sqlite:///runs.db")
client.log_metric(client.create_run("0").info.run_id, "loss", 0.5)
PYTHON
cat > read.py <<'PYTHON'
import mlflow

try:
    client = mlflow.MlflowClient(tracking_uri="sqlite:///runs.db")
    print(len(client.search_runs(["0"])), "run")
except mlflow.exceptions.MlflowException as error:
    print("refused", error.message[error.message.index("(") : error.message.index(")") + 1])
PYTHON
revision() {
  python3 -c "import sqlite3
print(*sqlite3.connect('runs.db').execute('select version_num from alembic_version').fetchone())"
}
"$folder/3.10.1/bin/python" make.py 2> log
made=$(revision)
echo "made by 3.10.1:       revision $made"
read=$("$folder/3.17.2/bin/python" read.py 2>> log)
migrated=$(revision)
echo "read by 3.17.2:       $read, revision $migrated"
again=$("$folder/3.10.1/bin/python" read.py 2>> log)
echo "read by 3.10.1 again: $again"
[ "$made" = 1b5f0d9ad7c1 ] && [ "$migrated" = dc11669786a5 ] && [ "$read" = "1 run" ] &&
  [ "$again" = "refused (found version dc11669786a5, but expected 1b5f0d9ad7c1)" ]
