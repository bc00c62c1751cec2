"""Pages and an API inside the MLflow server: `mlflow server --app-name actiontrack`.

::

    app.py           our routes on any Flask application, errors as answers
    inside.py        the same in MLflow's server, behind its basic auth
    serve.py         what `mlflow server` imports, in its own process and in each worker
    routes.py        what a route is: a path, what a user needs for it, the function that answers
    permissions.py   what a login allows
    access.py        who may read and write what, and the defence against forged requests
    messages.py      messages without the folders of this server
    records.py       open records with bounded caches; nothing is computed there
    runs.py          lists of runs, and what a record offers
    samples.py       one sample: its row, its images, the verdict of a person
    choice.py        the samples that the address of a page chooses
    parameters.py    the parameters of addresses and forms
    body.py          the fields of a form or of a JSON object
    api/             /actiontrack/api/: JSON, CSV, Parquet, and the OpenAPI document
    images.py        encoded images that are safe to hand to a browser
    pages.py         the pages, with compare_page.py and review_page.py
    sample_parts.py  parts that pages with samples share
    rendering.py     from values to HTML: templates, links, numbers and times for people
"""

__all__: list[str] = []
