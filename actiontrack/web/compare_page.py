"""The page that compares runs: correlations, two runs, contrasts, action against entropy."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import flask
import pandas as pd

from actiontrack import compare
from actiontrack.analysis import exploration
from actiontrack.errors import NotComparableError, NotFoundError, ParameterError
from actiontrack.scores import hardness_sign
from actiontrack.web import query
from actiontrack.web.asked import SIZES, asked, model_name, paged
from actiontrack.web.data import Data, Page, RunView
from actiontrack.web.query import Parameter
from actiontrack.web.rendering import api_link, fixed, link, number, render, rows
from actiontrack.web.routes import current_site

__all__ = ["compare_page"]

_CONTRASTS = 36
_RESAMPLES = 200  # of the intervals of a heat map
_TABS = (
    ("correlations", "Correlations"),
    ("scatter", "Two runs"),
    ("contrasts", "Hard for one"),
    ("entropy", "Action and entropy"),
)
_METHODS = {"spearman": "Spearman’s ρ", "pearson": "Pearson’s r"}
_KINDS = {
    "cross-model": "Different models",
    "same-model": "Two runs of one model: the ceiling",
}
_TONES = 20
_ALL = "all"
_BOUNDS = ("x0", "x1", "y0", "y1")


def _place(name: str, default: int) -> Parameter:
    return Parameter(
        name=name, about="Run, counted from 1.", kind="integer", default=default, least=1, most=100
    )


_PARAMETERS = (
    replace(query.RUNS, least=0),
    query.RECORD,
    query.SCORE,
    replace(query.METHOD, default="spearman"),
    Parameter(name="view", about="View.", default=_TABS[0][0], choices=tuple(dict(_TABS))),
    Parameter(name="intervals", about="With intervals.", kind="boolean", default=False),
    _place("a", 1),
    _place("b", 2),
    Parameter(name="hard", about="Model."),
    Parameter(name="easy", about="Model."),
    Parameter(name="of", about='Run, counted from 1, or "all".'),
    *(Parameter(name=each, about="Bound of the region.", kind="number") for each in _BOUNDS),
    *paged(SIZES[0]),
)

Context = dict[str, Any]


def compare_page() -> str:
    """Several runs side by side, in one of four views."""
    values, data = asked(*_PARAMETERS), current_site().data
    views = [data.run(each, values["record"]) for each in dict.fromkeys(values["run"])]
    context: Context = {
        **values,
        "views": views,
        "record": views[0].record if views else None,
        "run_ids": [each.info.run_id for each in views],
        "scores": _common_scores(views),
        "tab": values["view"],
        "tabs": _TABS,
        "methods": _METHODS,
        "models": list(dict.fromkeys(model_name(each) for each in views)),
        "model_of": model_name,
        "without": lambda run_id: _address(
            views, run=[each.info.run_id for each in views if each.info.run_id != run_id]
        ),
        "tab_link": lambda name: _address(views, view=name if name != _TABS[0][0] else None),
        "problem": "",
        "ready": False,
    }
    if len(views) > 1 or (views and values["view"] == "entropy"):
        try:
            context |= _FILLS[values["view"]](data, context) | {"ready": True}
        except (NotComparableError, NotFoundError, ParameterError) as error:
            context["problem"] = str(error)
    return render("compare", title="Compare", charts=True, **(context | {"view": None}))


def _address(views: Sequence[RunView], **changes: Any) -> str:
    """The comparison without what belongs to one of its views only."""
    kept = {name: flask.request.args.get(name) for name in ("record", "score", "view")}
    runs = {"run": [each.info.run_id for each in views]}
    return link("compare", **(runs | kept | changes))


def _common_scores(views: Sequence[RunView]) -> list[str]:
    if not views:
        return []
    return [each for each in views[0].scores if all(each in other.scores for other in views)]


# Correlations


def _fill_correlations(data: Data, context: Context) -> Context:
    """The heat map; its intervals take a while, so the page asks for them once it is shown."""
    runs, record = context["run_ids"], context["record"]
    options = {"score": context["score"], "method": context["method"]}
    resamples = _RESAMPLES if context["intervals"] else 0
    frame = data.correlations(runs, record, bootstrap=resamples, **options)
    columns = list(dict.fromkeys(frame["class"]))
    heat = [
        (title, _heat_rows(part, columns))
        for kind, title in _KINDS.items()
        if len(part := frame.loc[frame["kind"] == kind])
    ]
    return {
        "finding": data.finding(runs, record, score=context["score"]),
        "columns": columns,
        "heat": heat,
        "n_samples": int(frame["n_samples"].max()) if len(frame) else 0,
        "source": api_link(
            "correlations", run=runs, record=record, bootstrap=_RESAMPLES, **options
        ),
    }


def _heat_rows(frame: pd.DataFrame, columns: Sequence[str]) -> list[Context]:
    found = []
    for name, part in frame.groupby(compare.pair_labels(frame), sort=False):
        by_class = {row["class"]: row for row in rows(part)}
        cells = [_heat_cell(by_class[each]) for each in columns]
        found.append({"name": name, "n_pairs": int(part["n_pairs"].iloc[0]), "cells": cells})
    return found


def _heat_cell(row: Context) -> Context:
    """A cell is as dark as the variance that the two rankings share, r²."""
    mean = row["mean"]
    tone = round(_TONES * max(mean or 0.0, 0.0) ** 2)
    return {"mean": mean, "low": row["ci_low"], "high": row["ci_high"], "tone": tone}


# Two runs


def _fill_scatter(data: Data, context: Context) -> Context:
    views, record, score = context["views"], context["record"], context["score"]
    chosen = [_chosen(views, name, context[name]) for name in ("a", "b")]
    runs, names = [each.info.run_id for each in chosen], [each.info.name for each in chosen]
    if names[0] == names[1]:
        names = [f"{name} {run[:6]}" for name, run in zip(names, runs, strict=True)]
    frame = data.pairs(runs[0], runs[1], record, score=score)
    inside = exploration.choose_region(frame, "score_a", "score_b", _bounds(context))
    ordered = inside.sort_values("score_a", ascending=hardness_sign(score) < 0, kind="stable")
    return {
        "pair": runs,
        "names": names,
        "source": api_link("pairs", run=runs, record=record, score=score),
        "told": f"{score} of {names[0]} / of {names[1]}; the hardest for {names[0]} first",
        **_region(context, ordered, ("score_a", "score_b"), runs[0]),
    }


def _chosen(views: Sequence[RunView], name: str, place: int) -> RunView:
    if place > len(views):
        rule = f"must be at most {len(views)}, the number of runs"
        raise ParameterError(name, rule, place, "Choose one of the runs.")
    return views[place - 1]


# Hard for one, easy for another


def _fill_contrasts(data: Data, context: Context) -> Context:
    models = context["models"]
    if len(models) < 2:
        return {"hard": None, "easy": None}
    hard = _model(models, "hard", context["hard"])
    others = [each for each in models if each != hard]
    easy = _model(others, "easy", context["easy"] if context["easy"] != hard else None)
    options = {"score": context["score"], "n": _CONTRASTS}
    runs, record = context["run_ids"], context["record"]
    frame = data.contrasts(runs, record, **options)
    return {
        "hard": hard,
        "easy": easy,
        "rows": [
            row | {"extra": f"{fixed(row['rank_hard'])} → {fixed(row['rank_easy'])}"}
            for row in rows(frame)
            if (row["hard_for"], row["easy_for"]) == (hard, easy)
        ],
        "source": api_link("contrasts", run=runs, record=record, **options),
        **_images(context["views"]),
    }


def _model(models: Sequence[str], name: str, wanted: str | None) -> str:
    if wanted is not None and wanted not in models:
        rule = f"must be one of {', '.join(models)}"
        raise ParameterError(name, rule, wanted, "Choose one of these models.")
    return wanted or models[0]


# Action against entropy


def _fill_entropy(data: Data, context: Context) -> Context:
    views, record, runs = context["views"], context["record"], context["run_ids"]
    ensemble = len(views) > 1 and all(each.has_probabilities for each in views)
    of = context["of"] or (_ALL if ensemble else "1")
    if of != _ALL:
        place = replace(_place("of", 1), most=len(views)).read([of])
        runs = [runs[place - 1]]
    frame = data.entropy(runs, record)
    inside = exploration.choose_region(frame, "action", "entropy", _bounds(context))
    ordered = inside.sort_values("action", ascending=False, kind="stable")
    return {
        "of": of,
        "ensemble": ensemble,
        "source": api_link("entropy", run=runs, record=record),
        "told": "action / entropy; the greatest action first",
        **_region(context, ordered, ("action", "entropy"), runs[0]),
    }


# Samples of a region


def _bounds(context: Context) -> list[float | None]:
    return [context[each] for each in _BOUNDS]


def _region(context: Context, ordered: pd.DataFrame, told: tuple[str, str], run_id: str) -> Context:
    """One page of the samples in a region, and what its form must keep in the address."""
    page = Page.of(ordered, page=context["page"], per_page=context["per_page"])
    found = rows(page.frame)
    for row in found:
        row["extra"] = " / ".join(number(row[each]) for each in told)
    given = flask.request.args
    return {
        "page": page,
        "total": page.total,
        "rows": found,
        "region": {name: given.get(name, "") for name in _BOUNDS},
        "region_state": [
            pair for pair in given.items(multi=True) if pair[0] not in {*_BOUNDS, "page"}
        ],
        "chosen": any(each is not None for each in _bounds(context)),
        **_images(context["views"], run_id),
    }


def _images(views: Sequence[RunView], preferred: str | None = None) -> Context:
    """The run whose images are shown: the preferred one if it has any, else the first that has."""
    ordered = sorted(views, key=lambda each: each.info.run_id != preferred)
    shown = next((each for each in ordered if each.has_images), ordered[0])
    return {"image_run": shown.info.run_id, "has_images": shown.has_images}


_FILLS = {
    "correlations": _fill_correlations,
    "scatter": _fill_scatter,
    "contrasts": _fill_contrasts,
    "entropy": _fill_entropy,
}
