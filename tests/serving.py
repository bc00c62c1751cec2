"""An `mlflow server` that starts in a second, forked from a process that has imported MLflow.

The command and its checks are MLflow's own; only that it starts uvicorn in yet another interpreter
is left out: the process becomes the server itself. As a script, this is that process.
"""

import os
import runpy
import sys
from pathlib import Path

from helpers import ROOT, Server, wait_until


class WarmServer(Server):
    """A `Server` that `warm.WarmPython` starts.

    Args:
        folder: for its database and artifacts.
        warm_python: what starts it.
    """

    def __init__(self, folder, warm_python):
        self._warm_python = warm_python
        super().__init__(folder)

    def start(self):
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        environment = os.environ | {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.folder),  # for what it leaves when it is killed
        }
        environment.pop("MLFLOW_RUN_ID", None)
        words = [Path(__file__).resolve(), *self.command(), *address]
        self._process = self._warm_python.start(words, self.folder, environment)
        wait_until(self.answers, timeout=90, interval=0.05)

    def answers(self):
        assert self._process.poll() is None, self._process.stderr
        return super().answers()

    def kill(self):
        process = self._process
        super().kill()
        if process is not None:
            process.close()


def become(command, extra_env, **_options):
    """Run `python -m MODULE ...` here. Stands for the function by which MLflow starts uvicorn."""
    os.environ.update(extra_env)
    _python, _m, module, *sys.argv[1:] = command
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    import mlflow.server
    from mlflow.cli import cli

    os.setsid()
    mlflow.server._exec_cmd = become
    cli(["server", *sys.argv[1:]])
