"""Pages and an API inside the MLflow server: `mlflow server --app-name actiontrack`.

::

    app.py         the `mlflow.app` entry point: our routes in MLflow's server, errors as answers
    login.py       MLflow's basic auth, as far as our routes need it
    access.py      who may read and write what, and the defence against forged requests
    records.py     open records with bounded caches; nothing is computed there
    runs.py        lists of runs, and what a record offers
    samples.py     one sample: its row, its images, the verdict of a person
    parameters.py  the parameters of addresses and forms
    api/           /actiontrack/api/: JSON, CSV, Parquet, and the OpenAPI document
    images.py      encoded images that are safe to hand to a browser
    pages.py       the pages, with compare_page.py and review_page.py
"""

__all__: list[str] = []
