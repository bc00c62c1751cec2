"""The page that compares runs: correlations, two runs, contrasts, action against entropy."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Literal

import flask
import pandas as pd
from pydantic import Field

from actiontrack import compare
from actiontrack.analysis import exploration, questions
from actiontrack.analysis.options import Compared, Number, Options, Text, Texts, validated
from actiontrack.analysis.questions import MAX_RECORDS
from actiontrack.analysis.sentences import describe_comparison
from actiontrack.errors import NotComparableError, NotFoundError, ParameterError
from actiontrack.scores import hardness_sign
from actiontrack.web.choice import (
    MAX_IMAGES,
    SIZES,
    read_parameters,
    step_name,
    view_of,
)
from actiontrack.web.parameters import OfRecord, Paging
from actiontrack.web.rendering import api_link, count_of, fixed, link, number, render, rows
from actiontrack.web.routes import current_site
from actiontrack.web.runs import Page, RunView

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
_RunNumber = Annotated[int, Field(ge=1, le=MAX_RECORDS)]

Context = dict[str, Any]


class _ComparePage(OfRecord, Compared, Paging):
    """Runs are counted from 1 in a, b and of; the bounds x0 to y1 are those of a region."""

    pick: Texts = ()  # RUN:RECORD, from the page of runs
    run: Annotated[Texts, Field(max_length=MAX_RECORDS)] = ()
    method: compare.Method = "spearman"
    view: Literal["correlations", "scatter", "contrasts", "entropy"] = "correlations"
    intervals: bool = False
    a: _RunNumber = 1
    b: _RunNumber = 2
    hard: Text | None = None
    easy: Text | None = None
    of: Text | None = None
    x0: Number | None = None
    x1: Number | None = None
    y0: Number | None = None
    y1: Number | None = None
    per_page: int = Field(SIZES[0], ge=1, le=MAX_IMAGES)

    @property
    def bounds(self) -> list[float | None]:
        """Of the region: least and greatest x, then of y."""
        return [self.x0, self.x1, self.y0, self.y1]


class _OneRun(Options):
    of: _RunNumber


class _Comparison:
    """What the views of the page start from: the runs that are compared, and how.

    Attributes:
        options: parameters of the page.
        views: what the record of each run offers.
        run_ids: of the runs.
        record: name of the record.
        how: options that the questions about several runs share.
    """

    def __init__(self, options: _ComparePage) -> None:
        self.options = options
        self.views = [view_of(run_id, options.record) for run_id in dict.fromkeys(options.run)]
        self.run_ids = [view.info.run_id for view in self.views]
        self.record = self.views[0].record if self.views else None
        self.how: Context = {"score": options.score}
        self.how |= {
            name: value
            for name in ("on_mismatch", "up_to_step")
            if (value := getattr(options, name)) not in {None, "error"}
        }

    @property
    def models(self) -> list[str]:
        """Names of the models of the runs, each once."""
        return list(dict.fromkeys(view.model for view in self.views))

    def ask(self, question: str, run_ids: Sequence[str], **options: Any) -> pd.DataFrame:
        """The answer to a question about some of the runs."""
        return current_site().records.ask(question, run_ids, self.record, **options)


def compare_page() -> Any:
    """Several runs side by side, in one of four views."""
    options = read_parameters(_ComparePage)
    if options.pick:
        return _to_picked(options.pick)
    comparison = _Comparison(options)
    context = _head(comparison)
    if (
        options.view != "entropy"
        and context["shared_step"] is not None
        and options.up_to_step is None
    ):
        context["problem"] = _different_lengths(comparison)
    elif len(comparison.views) > 1 or (comparison.views and options.view == "entropy"):
        try:
            context |= _FILLS[options.view](comparison) | {"ready": True}
        except (NotComparableError, NotFoundError, ParameterError) as error:
            context["problem"] = str(error)
    return render("compare", title="Compare", charts=True, **context)


def _to_picked(picks: Sequence[str]) -> Any:
    """The comparison of the rows that were picked on the page of runs: each a run and a record."""
    pairs = [pick.partition(":")[::2] for pick in picks]
    names = list(dict.fromkeys(record for _, record in pairs))
    if len(names) > 1:
        rule = "must be rows of one record"
        raise ParameterError("pick", rule, ", ".join(names), "Pick rows that agree in it.")
    ids = list(dict.fromkeys(run_id for run_id, _ in pairs))
    return flask.redirect(link("compare", run=ids, record=names[0] or None), HTTPStatus.SEE_OTHER)


def _head(comparison: _Comparison) -> Context:
    """What every view shows: the runs, the tabs, the fields of its form."""
    options, views = comparison.options, comparison.views
    return {
        **{name: getattr(options, name) for name in ("score", "method", "intervals", "a", "b")},
        "views": views,
        "record": comparison.record,
        "records": _common(view.info.records for view in views),
        "run_ids": comparison.run_ids,
        "scores": _common(view.scores for view in views),
        "tab": options.view,
        "tabs": _TABS,
        "methods": _METHODS,
        "models": comparison.models,
        "without": lambda run_id: _address(
            comparison.run_ids, run=[one for one in comparison.run_ids if one != run_id]
        ),
        "tab_link": lambda name: _address(
            comparison.run_ids, view=name if name != _TABS[0][0] else None
        ),
        "problem": "",
        "ready": False,
        **_lengths(comparison),
    }


def _lengths(comparison: _Comparison) -> Context:
    """Up to which step runs of different lengths can be compared."""
    steps = [view.last_step for view in comparison.views]
    last_steps = [step for step in steps if step is not None]
    differ = len(last_steps) == len(steps) and len(set(last_steps)) > 1
    return {
        "up_to_step": comparison.options.up_to_step,
        "shared_step": min(last_steps) if differ else None,
        "step_name": step_name(comparison.views[0]) if comparison.views else "step",
    }


def _different_lengths(comparison: _Comparison) -> str:
    noun = step_name(comparison.views[0])
    lengths = [
        f"{view.info.name} {count_of(view.manifest.n_steps, noun)}" for view in comparison.views
    ]
    return f"The runs have different lengths: {', '.join(lengths)}."


def _address(run_ids: Sequence[str], **changes: Any) -> str:
    """The comparison without what belongs to one of its views only."""
    names = ("record", "score", "view", "on_mismatch", "up_to_step")
    shared = {name: flask.request.args.get(name) for name in names}
    return link("compare", **({"run": list(run_ids)} | shared | changes))


def _common(names_of_each: Any) -> list[str]:
    """Names that occur in each of several lists, in the order of the first."""
    first, *others = [list(names) for names in names_of_each] or [[]]
    return [name for name in first if all(name in other for other in others)]


# Correlations


def _fill_correlations(comparison: _Comparison) -> Context:
    """The heat map; its intervals take a while, so the page asks for them once it is shown."""
    choice, run_ids = comparison.options, comparison.run_ids
    options = comparison.how | {"method": choice.method}
    resamples = _RESAMPLES if choice.intervals else 0
    frame = comparison.ask("correlations", run_ids, bootstrap=resamples, **options)
    columns = list(dict.fromkeys(frame["class"]))
    heat = [
        (title, _heat_rows(part, columns))
        for kind, title in _KINDS.items()
        if len(part := frame.loc[frame["kind"] == kind])
    ]
    where = {"run": run_ids, "record": comparison.record}
    return {
        "finding": _finding(comparison),
        "columns": columns,
        "heat": heat,
        "n_samples": int(frame["n_samples"].max()) if len(frame) else 0,
        "source": api_link("correlations", **where, bootstrap=_RESAMPLES, **options),
        "quantiles_source": api_link("quantiles", **where, **comparison.how),
    }


def _finding(comparison: _Comparison) -> str:
    """The comparison in plain sentences."""
    records = current_site().records
    opened = records.open_all(comparison.run_ids, comparison.record)
    return describe_comparison(questions.compare_records(opened, comparison.options))


def _heat_rows(frame: pd.DataFrame, columns: Sequence[str]) -> list[Context]:
    heat_rows = []
    for name, part in frame.groupby(compare.pair_labels(frame), sort=False):
        by_class = {row["class"]: row for row in rows(part)}
        cells = [_heat_cell(by_class[column]) for column in columns]
        heat_rows.append({"name": name, "n_pairs": int(part["n_pairs"].iloc[0]), "cells": cells})
    return heat_rows


def _heat_cell(row: Context) -> Context:
    """A cell is as dark as the variance that the two rankings share, r²."""
    mean = row["mean"]
    tone = round(_TONES * max(mean or 0.0, 0.0) ** 2)
    return {"mean": mean, "low": row["ci_low"], "high": row["ci_high"], "tone": tone}


# Two runs


def _fill_scatter(comparison: _Comparison) -> Context:
    options, views = comparison.options, comparison.views
    pair = [_run_of_number(views, "a", options.a), _run_of_number(views, "b", options.b)]
    run_ids, names = [view.info.run_id for view in pair], [view.info.name for view in pair]
    if names[0] == names[1]:
        names = [f"{name} {run_id[:6]}" for name, run_id in zip(names, run_ids, strict=True)]
    frame = comparison.ask("pairs", run_ids, **comparison.how)
    inside = exploration.choose_region(frame, "score_a", "score_b", options.bounds)
    low_is_hard = hardness_sign(options.score) < 0
    ordered = inside.sort_values("score_a", ascending=low_is_hard, kind="stable")
    return {
        "names": names,
        "source": api_link("pairs", run=run_ids, record=comparison.record, **comparison.how),
        "caption": f"{options.score} of {names[0]} / of {names[1]}; the hardest for {names[0]} "
        "first",
        **_region(comparison, ordered, ("score_a", "score_b"), run_ids[0]),
    }


def _run_of_number(views: Sequence[RunView], name: str, position: int) -> RunView:
    if position > len(views):
        rule = f"must be at most {len(views)}, the number of runs"
        raise ParameterError(name, rule, position, "Choose one of the runs.")
    return views[position - 1]


# Hard for one, easy for another


def _fill_contrasts(comparison: _Comparison) -> Context:
    choice, models = comparison.options, comparison.models
    if len(models) < 2:
        return {"hard": None, "easy": None}
    hard = _model(models, "hard", choice.hard)
    others = [model for model in models if model != hard]
    easy = _model(others, "easy", choice.easy if choice.easy != hard else None)
    options = comparison.how | {"n": _CONTRASTS}
    frame = comparison.ask("contrasts", comparison.run_ids, **options)
    return {
        "hard": hard,
        "easy": easy,
        "rows": [
            row | {"extra": f"{fixed(row['rank_hard'])} → {fixed(row['rank_easy'])}"}
            for row in rows(frame)
            if (row["hard_for"], row["easy_for"]) == (hard, easy)
        ],
        "source": api_link(
            "contrasts", run=comparison.run_ids, record=comparison.record, **options
        ),
        **_images(comparison.views),
    }


def _model(models: Sequence[str], name: str, model: str | None) -> str:
    if model is not None and model not in models:
        rule = f"must be one of {', '.join(models)}"
        raise ParameterError(name, rule, model, "Choose one of these models.")
    return model or models[0]


# Action against entropy


def _fill_entropy(comparison: _Comparison) -> Context:
    views, run_ids = comparison.views, comparison.run_ids
    ensemble = len(views) > 1 and all(view.has_probabilities for view in views)
    of = comparison.options.of or (_ALL if ensemble else "1")
    if of != _ALL:
        position = validated(_OneRun, {"of": of}).of
        run_ids = [_run_of_number(views, "of", position).info.run_id]
    frame = comparison.ask("entropy", run_ids)
    inside = exploration.choose_region(frame, "action", "entropy", comparison.options.bounds)
    ordered = inside.sort_values("action", ascending=False, kind="stable")
    return {
        "of": of,
        "ensemble": ensemble,
        "source": api_link("entropy", run=run_ids, record=comparison.record),
        "caption": "action / entropy; the greatest action first",
        **_region(comparison, ordered, ("action", "entropy"), run_ids[0]),
    }


# Samples of a region


def _region(
    comparison: _Comparison, ordered: pd.DataFrame, columns: tuple[str, str], run_id: str
) -> Context:
    """One page of the samples in a region, and what its form must keep in the address."""
    options, query = comparison.options, flask.request.args
    page = Page.of(ordered, page=options.page, per_page=options.per_page)
    tiles = rows(page.frame)
    for tile in tiles:
        tile["extra"] = " / ".join(number(tile[column]) for column in columns)
    return {
        "page": page,
        "total": page.total,
        "rows": tiles,
        "region": {name: query.get(name, "") for name in _BOUNDS},
        "region_state": [
            pair for pair in query.items(multi=True) if pair[0] not in {*_BOUNDS, "page"}
        ],
        "is_chosen": any(bound is not None for bound in options.bounds),
        **_images(comparison.views, run_id),
    }


def _images(views: Sequence[RunView], preferred: str | None = None) -> Context:
    """The run whose images are shown: the preferred one if it has any, else the first that has."""
    ordered = sorted(views, key=lambda view: view.info.run_id != preferred)
    view = next((one for one in ordered if one.has_images), ordered[0])
    return {"image_run": view.info.run_id, "has_images": view.has_images}


_FILLS = {
    "correlations": _fill_correlations,
    "scatter": _fill_scatter,
    "contrasts": _fill_contrasts,
    "entropy": _fill_entropy,
}
