"""A training in a process of its own, forked from one in which everything is imported."""

import os
import signal
import sys
from pathlib import Path


class Process:
    """`python -m projects.train` as a process.

    Args:
        context: of `multiprocessing`.
        argv: words of the command line.
        environment: variables of the process.
        log: where stdout and stderr go.
    """

    def __init__(self, context, argv, environment, log):
        self._log = log
        self._process = context.Process(target=train_here, args=(argv, environment, str(log)))
        self._process.start()

    def terminate(self):
        os.kill(self._process.pid, signal.SIGTERM)

    def kill(self):
        self._process.kill()
        self._process.join()

    def wait(self, timeout=240):
        """The exit code, and what was printed."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, "the process has not ended in time"
        return self._process.exitcode, self._log.read_text()


def train_here(argv, environment, log):
    from projects import train
    from projects.params.reading import run_main

    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        os.environ.pop(name, None)  # of the test that was running when the first process began
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(Path(log).parent)
    sys.exit(run_main(train.main, argv))
