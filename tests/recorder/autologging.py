"""What the tests of autologging have in common: what every framework guarantees."""

import contextlib
import logging
from typing import ClassVar

import mlflow

import actiontrack
from actiontrack.store import Store
from actiontrack.testing import AdapterTests


@contextlib.contextmanager
def autologged(*frameworks, **options):
    """Autologging that is on in a block only."""
    actiontrack.autolog(*frameworks, **options)
    try:
        yield
    finally:
        actiontrack.autolog(disable=True)


def warnings_of(caplog):
    """What we have logged as warnings."""
    return [
        line.getMessage()
        for line in caplog.records
        if line.name == "actiontrack" and line.levelno >= logging.WARNING
    ]


def runs_of(store, experiment):
    """The runs of an experiment, latest first."""
    frame = mlflow.search_runs(experiment_names=[experiment])
    return [store.get_run(run_id) for run_id in frame["run_id"]] if len(frame) else []


class AutologTests(AdapterTests):
    """The tests of adapters, with a training that knows nothing of the record."""

    framework: ClassVar[str]
    options: ClassVar[dict] = {}

    def make_store(self, folder):
        del folder
        return Store(mlflow.get_tracking_uri())

    def train(self, options):
        with contextlib.ExitStack() as stack:
            if options is not None:
                stack.enter_context(autologged(self.framework, **self.options, **options))
            return self.train_as_always()

    def train_until_error(self, options):
        with autologged(self.framework, **self.options, **options):
            self.train_as_always(fails=True)

    def train_as_always(self, *, fails=False):
        """Train from a fixed seed, two steps at least."""
        raise NotImplementedError


class FailingError(Exception):
    """What a training that is to fail raises after its first step."""
