"""Runs that tests have recorded, kept to be copied: recording takes ten times as long."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import joblib
from mlflow.entities import Metric, RunTag


@dataclass(frozen=True)
class _Kept:
    artifacts: Path
    tags: list[RunTag]
    metrics: list[Metric]


class RecordedRuns:
    """Runs by what was recorded into them.

    Args:
        folder: for copies of their artifacts.
        client: MLflow's client of the store that they are in.
    """

    def __init__(self, folder, client):
        self._folder, self._client, self._kept = folder, client, {}

    def fill(self, run_id, artifacts, content, record):
        """Record into a new run, or copy what a run of the same content got from its recorder.

        Args:
            run_id: the new run.
            artifacts: its folder.
            content: what is recorded: values that decide the tags, metrics and artifacts.
            record: function of the run's id that records it.
        """
        key = joblib.hash(content)
        if key in self._kept:
            self._copy(self._kept[key], run_id, artifacts)
        else:
            before = self._client.get_run(run_id).data.tags
            record(run_id)
            self._kept[key] = self._keep(run_id, artifacts, before)
        return run_id

    def _keep(self, run_id, artifacts, before):
        data = self._client.get_run(run_id).data
        folder = self._folder / uuid4().hex
        shutil.copytree(artifacts, folder)
        tags = [RunTag(name, text) for name, text in data.tags.items() if name not in before]
        histories = (self._client.get_metric_history(run_id, name) for name in data.metrics)
        return _Kept(folder, tags, [metric for history in histories for metric in history])

    def _copy(self, kept, run_id, artifacts):
        self._client.log_batch(run_id, metrics=kept.metrics, tags=kept.tags)
        shutil.copytree(kept.artifacts, artifacts)
