"""Pages and an API inside the MLflow server: `mlflow server --app-name actiontrack`.

::

    app.py       the `mlflow.app` entry point; the only module here that touches MLflow's server
    access.py    who may read and write what, and the defence against forged requests
    data.py      what pages and API show, with bounded caches; neither computes by itself
    api.py       /actiontrack/api/: JSON, CSV, Parquet, and the OpenAPI document
    images.py    encoded images that are safe to hand to a browser
    pages.py     the pages themselves
"""

__all__: list[str] = []
