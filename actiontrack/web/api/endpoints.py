"""/actiontrack/api/: the tables and images of the pages, as JSON, CSV, Parquet and PNG.

One table, `ENDPOINTS`, holds every route of the API with its parameters and columns. The routes and
the OpenAPI document are made from it, so that they can't differ.
"""

from typing import Any

import pandas as pd

from actiontrack.analysis import verdicts
from actiontrack.web import access, query
from actiontrack.web.api.endpoint import PAGING, Content, Endpoint, Values, selected
from actiontrack.web.api.openapi import openapi
from actiontrack.web.data import Data, Page
from actiontrack.web.permissions import EDIT
from actiontrack.web.query import Parameter

__all__ = [
    "ENDPOINTS",
]


# What each route answers
def _runs(data: Data, values: Values) -> Page:
    wanted = query.run_filter(values)
    return data.runs(wanted, **selected(values, *PAGING))


def _scores(data: Data, values: Values) -> Page:
    return data.scores(
        values["run"],
        values["record"],
        wanted=query.sample_filter(values),
        **selected(values, "score", "order", *PAGING),
    )


def _distributions(data: Data, values: Values) -> pd.DataFrame:
    return data.histogram(
        values["run"],
        values["record"],
        wanted=query.sample_filter(values),
        score=values["score"],
        bins=values["bins"],
        by_class=values["by"] == "class",
    )


def _correlations(data: Data, values: Values) -> pd.DataFrame:
    options = selected(values, "score", "method", "on_mismatch")
    if values["between"] == "runs":
        return data.run_correlations(values["run"], values["record"], **options)
    options["bootstrap"] = values["bootstrap"]
    return data.correlations(values["run"], values["record"], **options)


def _curves(data: Data, values: Values) -> pd.DataFrame:
    ids = values["id"] or None
    return data.curves(values["run"], values["record"], sample_ids=ids, n=values["n"])


def _neighbours(data: Data, values: Values) -> pd.DataFrame:
    options = selected(values, "n", "k", "score")
    ids = values["id"] or None
    return data.neighbours(values["run"], values["record"], sample_ids=ids, **options)


def _verdicts(data: Data, values: Values) -> pd.DataFrame:
    read = data.current_verdicts if values["current"] else data.verdicts
    return read(values["run"], values["record"])


def _add_verdict(data: Data, values: Values) -> dict[str, Any]:
    who = access.user_name()
    data.add_verdict(
        values["run"],
        values["record"],
        values["id"],
        verdict=values["verdict"],
        who=who,
        new_label=values["new_label"],
        note=values["note"],
    )
    return {"sample_id": values["id"], "verdict": values["verdict"], "who": who}


def _me(_data: Data, _values: Values) -> dict[str, Any]:
    return {"user": access.user_name(), "csrf_token": access.csrf_token()}


def _integer(name: str, about: str, default: int, least: int, most: int) -> Parameter:
    return Parameter(
        name=name, about=about, kind="integer", default=default, least=least, most=most
    )


_OF_RUN = (query.RUN, query.RECORD)
_OF_SEVERAL = (query.SEVERAL, query.RECORD, query.SCORE, query.MISMATCH)
_HEAD = ("run_id", "run_name", "model")

#: Every route of the API.
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        path="runs",
        about="Runs with a record that you may read, newest first, one row per run and record.",
        answer=_runs,
        parameters=query.RUN_FILTER,
        columns=(*_HEAD, "experiment", "experiment_id", "record", "status", "complete", "problem"),
        changes=True,
    ),
    Endpoint(
        path="scores",
        about="Every score of every sample of a run.",
        answer=_scores,
        parameters=(*_OF_RUN, query.SCORE, query.ORDER, *query.SAMPLE_FILTER),
        columns=(*_HEAD, "record", "complete", "sample_id", "class", "action", "n_steps"),
    ),
    Endpoint(
        path="distributions",
        about="Histogram of a score: how many samples lie from low to high.",
        answer=_distributions,
        parameters=(
            *_OF_RUN,
            query.SCORE,
            _integer("bins", "Bins of equal width.", 50, 1, 1000),
            Parameter(
                name="by",
                about="All samples together, or each class in the same bins.",
                default="all",
                choices=("all", "class"),
            ),
            *query.SAMPLE_FILTER,
        ),
        columns=("class", "low", "high", "count"),
    ),
    Endpoint(
        path="classes",
        about="Distribution of a score per class, hardest class first.",
        answer=lambda data, values: data.classes(
            values["run"], values["record"], score=values["score"]
        ),
        parameters=(*_OF_RUN, query.SCORE),
        columns=(*_HEAD, "rank", "class", "n", "mean", "std", "median", "q05", "q95"),
    ),
    Endpoint(
        path="curves",
        about="Loss against step of given samples, or of the n hardest of each run.",
        answer=_curves,
        parameters=(
            query.RUNS,
            query.RECORD,
            query.SAMPLES,
            _integer("n", "Samples, without ids.", 10, 1, 1000),
        ),
        columns=(*_HEAD, "sample_id", "step", "loss", "action"),
    ),
    Endpoint(
        path="clusters",
        about="K-means of all loss curves: centres, and the curves closest to each.",
        answer=lambda data, values: data.clusters(
            values["run"], values["record"], k=values["k"], n_closest=values["n"]
        ),
        parameters=(
            *_OF_RUN,
            _integer("k", "Clusters.", 3, 1, 20),
            _integer("n", "Curves closest to each centre.", 3, 1, 50),
        ),
        columns=(*_HEAD, "cluster", "trend", "kind", "rank", "sample_id", "step", "loss"),
    ),
    Endpoint(
        path="neighbours",
        about="Nearest neighbours of samples in feature space.",
        answer=_neighbours,
        parameters=(
            *_OF_RUN,
            query.SAMPLES,
            query.SCORE,
            _integer("n", "The n hardest, without ids.", 6, 1, 100),
            _integer("k", "Neighbours of each.", 8, 1, 100),
        ),
        columns=(*_HEAD, "query_id", "query_class", "rank", "sample_id", "class", "distance"),
    ),
    Endpoint(
        path="correlations",
        about="Correlation of a score between models or runs, overall and per class. Rows of the "
        "kind same-model are the ceiling of the others.",
        answer=_correlations,
        parameters=(
            *_OF_SEVERAL,
            query.METHOD,
            Parameter(
                name="between",
                about="Means over the pairs of runs of two models, or each pair of runs.",
                default="models",
                choices=("models", "runs"),
            ),
            _integer("bootstrap", "Resamples for ci_low and ci_high; 0 for none.", 0, 0, 1000),
        ),
        columns=("method", "class", "n_samples", "n_dropped"),
    ),
    Endpoint(
        path="quantiles",
        about="Correlation among the samples above each quantile of the score.",
        answer=lambda data, values: data.quantiles(
            values["run"], values["record"], **selected(values, "score", "method", "on_mismatch")
        ),
        parameters=(*_OF_SEVERAL, query.METHOD),
        columns=("method", "kind", "model_a", "model_b", "quantile", "mean", "n_samples"),
    ),
    Endpoint(
        path="pairs",
        about="One score of two runs side by side.",
        answer=lambda data, values: data.pairs(
            values["run"][0],
            values["run"][1],
            values["record"],
            **selected(values, "score", "on_mismatch"),
        ),
        parameters=(query.TWO, query.RECORD, query.SCORE, query.MISMATCH),
        columns=("sample_id", "class", "score_a", "score_b"),
    ),
    Endpoint(
        path="contrasts",
        about="Samples that are hard for one model and easy for another.",
        answer=lambda data, values: data.contrasts(
            values["run"], values["record"], **selected(values, "score", "on_mismatch", "n")
        ),
        parameters=(*_OF_SEVERAL, _integer("n", "Samples of each pair.", 12, 1, 1000)),
        columns=("hard_for", "easy_for", "place", "sample_id", "class", "difference"),
    ),
    Endpoint(
        path="entropy",
        about="Action against predictive entropy, of one run or of an ensemble of runs.",
        answer=lambda data, values: data.entropy(values["run"], values["record"]),
        parameters=(query.RUNS, query.RECORD),
        columns=("sample_id", "class", "action", "entropy", "correct"),
    ),
    Endpoint(
        path="image",
        about="The image of a sample.",
        answer=lambda data, values: Content(
            *data.image(values["run"], values["record"], values["id"])
        ),
        parameters=(*_OF_RUN, query.SAMPLE),
        kind="image",
    ),
    Endpoint(
        path="picture",
        about="A further picture of a sample, such as its label or prediction.",
        answer=lambda data, values: Content(
            *data.picture(values["run"], values["record"], values["id"], values["name"])
        ),
        parameters=(
            *_OF_RUN,
            query.SAMPLE,
            Parameter(name="name", about='Such as "label".', required=True),
        ),
        kind="image",
    ),
    Endpoint(
        path="map",
        about="The action of each pixel of a sample, as an image.",
        answer=lambda data, values: Content(
            data.map_png(values["run"], values["record"], values["id"]), "image/png"
        ),
        parameters=(*_OF_RUN, query.SAMPLE),
        kind="image",
    ),
    Endpoint(
        path="boxes",
        about="Annotated and predicted boxes of a sample.",
        answer=lambda data, values: data.boxes(values["run"], values["record"], values["id"]),
        parameters=(*_OF_RUN, query.SAMPLE),
        columns=("sample_id", "kind", "class", "score", "left", "top", "right", "bottom"),
    ),
    Endpoint(
        path="verdicts",
        about="What people said of samples.",
        answer=_verdicts,
        parameters=(
            *_OF_RUN,
            Parameter(
                name="current",
                about="Only the verdict that counts of each sample, or all of them.",
                kind="boolean",
                default=True,
            ),
        ),
        columns=verdicts.COLUMNS,
        changes=True,
    ),
    Endpoint(
        path="verdicts",
        about="Say of a sample that its label is wrong, ambiguous or fine.",
        answer=_add_verdict,
        parameters=(query.RUN, query.RECORD),
        kind="object",
        method="POST",
        needs=EDIT,
        body=(
            Parameter(name="id", about="Id of the sample.", required=True),
            Parameter(
                name="verdict", about="What is the case.", required=True, choices=verdicts.VERDICTS
            ),
            Parameter(
                name="new_label",
                about="Index of the right class, with wrong_label.",
                kind="integer",
                least=0,
                most=2**31 - 1,
            ),
            Parameter(name="note", about="Anything else.", default=""),
            Parameter(name=access.CSRF_FIELD, about="From /actiontrack/api/me, or as a header."),
        ),
    ),
    Endpoint(
        path="precision",
        about="Precision at k from the verdicts: how many of the hardest have a wrong label.",
        answer=lambda data, values: data.precision(
            values["run"], values["record"], score=values["score"], ks=values["k"] or None
        ),
        parameters=(
            *_OF_RUN,
            query.SCORE,
            Parameter(
                name="k", about="The k hardest; repeat it.", kind="integer", many=True, most=100
            ),
        ),
        columns=("k", "n_judged", "n_wrong", "n_ambiguous", "n_fine", "precision"),
        changes=True,
    ),
    Endpoint(
        path="me",
        about="Your name here, and the token that a request that writes must send back.",
        answer=_me,
        kind="object",
        changes=True,
    ),
    Endpoint(
        path="openapi.json",
        about="This description.",
        answer=lambda _data, _values: openapi(ENDPOINTS),
        kind="object",
        changes=True,
    ),
)
