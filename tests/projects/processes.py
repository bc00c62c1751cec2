"""A training in a process of its own, forked from one in which everything is imported."""

import os
import signal

from helpers import ROOT

ELSEWHERE = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")


class Process:
    """`python -m projects.train` as a process.

    Args:
        warm_python: what starts it.
        argv: words of the command line.
        folder: its folder.
        environment: variables of the process.
    """

    def __init__(self, warm_python, argv, folder, environment):
        ours = {name: text for name, text in os.environ.items() if name not in ELSEWHERE}
        ours["PYTHONPATH"] = str(ROOT)
        words = ["-m", "projects.train", *argv]
        self._process = warm_python.start(words, folder, ours | environment)

    def terminate(self):
        self._process.send_signal(signal.SIGTERM)

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def wait(self, timeout=240):
        """The exit code, and what was printed."""
        code = self._process.wait(timeout)
        assert code is not None, "the process has not ended in time"
        return code, self._process.stdout + self._process.stderr

    def close(self):
        """End it where it has not ended."""
        self._process.close()
