"""Environments with another MLflow, for tests against its server, kept in a cache.

One is made anew when its requirements change, and that with the newest MLflow every week.
"""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import platformdirs
import pytest

#: What `uv pip install` is told for each, here and by `make matrix`. SQLAlchemy 2.1 is newer than
#: MLflow 2 knows of.
REQUIREMENTS = {
    "2.22": ("mlflow[auth]>=2.22,<2.23", "sqlalchemy<2.1", "setuptools<81"),
    "3.10": ("mlflow[auth]>=3.10,<3.11",),
    "3.14": ("mlflow[auth]>=3.14,<3.15",),
    "newest": ("mlflow[auth]>=3.17",),
}
REQUIRED = bool(os.environ.get("CI")) or os.environ.get("ACTIONTRACK_SERVER") == "required"


def python_with_mlflow(version):
    """Python of an environment with this MLflow.

    ACTIONTRACK_MLFLOW_3_10 and the like name one that is there already. Where none can be made, the
    test is skipped, or fails where servers are required.
    """
    name = f"ACTIONTRACK_MLFLOW_{version.replace('.', '_').upper()}"
    if os.environ.get(name):
        return os.environ[name]
    folder = Path(platformdirs.user_cache_dir("actiontrack-tests")) / f"mlflow-{version}"
    python = folder / "bin" / "python"
    made_of, complete = _made_of(version, datetime.now(UTC)), folder / "complete"
    if not complete.exists() or complete.read_text(encoding="utf-8") != made_of:
        try:
            _make(folder, python, REQUIREMENTS[version])
            complete.write_text(made_of, encoding="utf-8")
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            reason = f"no environment with MLflow {version} ({name}): {said[-300:]}"
            (pytest.fail if REQUIRED else pytest.skip)(reason)
    return str(python)


def _made_of(version, now):
    """What an environment is remembered by, in lines: the newest grows old with its week."""
    year, week, _ = now.isocalendar()
    weeks = [f"week {week} of {year}"] if version == "newest" else []
    return "\n".join([*REQUIREMENTS[version], *weeks]) + "\n"


def _make(folder, python, requirements):
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        raise OSError("uv is not installed")
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [uv, "venv", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--python", str(python), *requirements],
    ):
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
