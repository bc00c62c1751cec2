"""A script: `mlflow server` that starts in a second, where `warm.WarmPython` runs it.

The command and its checks are MLflow's own; only that it starts uvicorn in yet another interpreter
is left out: the process becomes the server itself.
"""

import os
import runpy
import sys

import mlflow.server
from mlflow.cli import cli


def become(command, extra_env, **_options):
    """Run `python -m MODULE ...` here. Stands for the function by which MLflow starts uvicorn."""
    os.environ.update(extra_env)
    _python, _m, module, *sys.argv[1:] = command
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    os.setsid()
    mlflow.server._exec_cmd = become
    cli(["server", *sys.argv[1:]])
