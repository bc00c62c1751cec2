"""What `mlflow server --app-name actiontrack` imports, in its own process and in each worker.

Importing it checks the configuration: in the process of the command, before there is any worker.
What is wrong with it ends the process with one line and the exit code of the error.
"""

import sys

from actiontrack.errors import ActionTrackError
from actiontrack.web.inside import create_app, prepare

__all__ = ["create_app"]

try:
    prepare()
except ActionTrackError as error:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(error.exit_code)
