"""What `mlflow server --app-name actiontrack` imports, in its own process and in each worker.

Importing it checks the configuration: in the process of the command, before there is any worker.
"""

from actiontrack.web.app import create_app, prepare

__all__ = ["create_app"]

prepare()
