"""The pages below /actiontrack/: from the address of a request to `Data` to a template.

The whole state of a page is in its address, so that a link shows what its sender saw. Templates
escape whatever they are given; links are built from parameters, never from text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import flask
import jinja2
import numpy as np
import numpy.typing as npt
import pandas as pd

import actiontrack
from actiontrack import compare, exploration
from actiontrack.analysis import LOW_IS_HARD
from actiontrack.errors import NotComparableError, NotFoundError, ParameterError
from actiontrack.exploration import SampleFilter
from actiontrack.history import DELTA_KINDS
from actiontrack.web import access
from actiontrack.web.data import Data, Page, RunFilter, RunView
from actiontrack.web.permissions import EDIT
from actiontrack.web.routes import NAME, Route, current_site

__all__ = ["ROUTES", "error_page"]

_SIZES = (24, 48, 96, 192)
_PER_PAGE = 48
_RUNS_PER_PAGE = 50
_CONTRASTS = 36
_NEIGHBOURS = 12
_SHOWN_VERDICTS = 100
_SHOWN_SCORE = 0.5  # of predicted boxes
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
_NO_IMAGES = (
    "This server has no images of these samples. Record with thumbnails (Recorder.log_thumbnails, "
    "or the training parameter thumbnails), or name the dataset's folder in "
    "ACTIONTRACK_IMAGE_ROOTS where the server runs."
)
_BOUNDS = ("x0", "x1", "y0", "y1")

Query = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """Which samples the address asks for, and in which order."""

    wanted: SampleFilter
    score: str
    order: str

    def query(self) -> Query:
        """Parameters that carry this to another page; defaults are left out."""
        wanted = self.wanted
        return {
            "score": _unless(self.score, "action"),
            "order": _unless(self.order, "hardest"),
            "class": list(wanted.classes) or None,
            "correct": _unless(wanted.correct, "all"),
            "low": wanted.low,
            "high": wanted.high,
        }

    def ids(self, data: Data, view: RunView) -> npt.NDArray[Any]:
        """Ids of these samples, in order."""
        return data.ordered_ids(
            view.info.run_id, view.record, wanted=self.wanted, score=self.score, order=self.order
        )


# ------------------------------------------------------------------ pages


def runs_page() -> str:
    """Runs that hold a record, with filters; some can be picked to be compared."""
    data, arguments = _data(), flask.request.args
    wanted = RunFilter(
        experiments=tuple(arguments.getlist("experiment")),
        datasets=tuple(arguments.getlist("dataset")),
        models=tuple(arguments.getlist("model")),
        tags=tuple(_tag(each) for each in arguments.getlist("tag")),
        text=arguments.get("q", ""),
        state=arguments.get("state", "all"),
    )
    choices = data.choices()
    page = data.runs(wanted, page=_count("page", 1), per_page=_count("per_page", _RUNS_PER_PAGE))
    return _render(
        "runs",
        title="Runs",
        wanted=wanted,
        tags=arguments.getlist("tag"),
        choices=choices,
        any_run=bool(choices["experiments"]),
        page=page,
        rows=_rows(page.frame),
    )


def run_page() -> str:
    """One record: summary, distributions, samples, curves and clusters."""
    data, view = _data(), _view()
    samples = _samples()
    run_id = view.info.run_id
    page = data.scores(
        run_id,
        view.record,
        wanted=samples.wanted,
        score=samples.score,
        order=samples.order,
        page=_count("page", 1),
        per_page=_count("per_page", _PER_PAGE),
    )
    state = samples.query()
    return _render(
        "run",
        title=view.info.name,
        charts=True,
        view=view,
        facts=_facts(view),
        siblings=data.siblings(run_id, view.record)["run_id"].tolist(),
        page=page,
        rows=_sample_rows(view, page.frame, samples.score),
        show=flask.request.args.get("show", "images" if view.has_images else "table"),
        sizes=sorted({*_SIZES, page.per_page}),
        k=_count("k", 3),
        log=flask.request.args.get("log") == "1",
        score_name=_score_name(view, samples.score),
        step_name=_step_name(view),
        samples_link=_api("scores", run=run_id, record=view.record, **state),
        no_images=_NO_IMAGES,
        **_state_context(samples),
    )


def sample_page() -> str:
    """One sample: image, scores, loss against epoch in several runs, neighbours."""
    data, view = _data(), _view()
    run_id, sample_id = view.info.run_id, _wanted_id()
    samples = _samples()
    row = _sample(data, view, sample_id)
    ids = samples.ids(data, view)
    place, before, after = _around(ids, row["sample_id"])
    near = _neighbours(data, view, sample_id, k=_NEIGHBOURS)
    verdicts = data.current_verdicts(run_id, view.record)
    given = verdicts.loc[verdicts["sample_id"] == row["sample_id"]]
    return _render(
        "sample",
        title=f"Sample {row['sample_id']}",
        charts=True,
        view=view,
        row=row,
        place=place,
        total=len(ids),
        before=before,
        after=after,
        up=_link("run", run=run_id, record=view.record, **samples.query()),
        ranks=_rows(data.ranks(run_id, view.record, sample_id)),
        siblings=data.siblings(run_id, view.record)["run_id"].tolist(),
        neighbours=near,
        agreeing=sum(each["class"] == row["class"] for each in near),
        verdict=_rows(given)[0] if len(given) else None,
        step_name=_step_name(view),
        **_stage_context(data, view, sample_id),
        **_state_context(samples),
    )


def compare_page() -> str:
    """Several runs: correlations, two runs against each other, contrasts, action and entropy."""
    data, arguments = _data(), flask.request.args
    record = arguments.get("record") or None
    views = [data.run(each, record) for each in access.run_ids()]
    tab = _choice("view", [each for each, _ in _TABS])
    context: Query = {
        "views": views,
        "record": views[0].record if views else None,
        "run_ids": [each.info.run_id for each in views],
        "scores": _common_scores(views),
        "score": arguments.get("score", "action"),
        "method": _choice("method", list(_METHODS)),
        "tab": tab,
        "tabs": _TABS,
        "models": list(dict.fromkeys(_model(each) for each in views)),
        "model_of": _model,
        "without": lambda run_id: _compare_link(
            views, run=[each.info.run_id for each in views if each.info.run_id != run_id]
        ),
        "tab_link": lambda name: _compare_link(views, view=_unless(name, "correlations")),
        "problem": "",
    }
    fill = {
        "correlations": _fill_correlations,
        "scatter": _fill_scatter,
        "contrasts": _fill_contrasts,
        "entropy": _fill_entropy,
    }[tab]
    if len(views) > 1 or (views and tab == "entropy"):
        try:
            context |= fill(data, context)
        except (NotComparableError, NotFoundError, ParameterError) as error:
            context["problem"] = str(error)
    return _render("compare", title="Compare", charts=True, **context)


def review_page() -> str:
    """Samples one after the other, to be judged by a person; the verdicts so far."""
    data, view = _data(), _view()
    run_id = view.info.run_id
    samples = _samples()
    ids = samples.ids(data, view)
    verdicts = data.current_verdicts(run_id, view.record)
    judged = set(verdicts["sample_id"].tolist())
    wanted = flask.request.args.get("id") or _next_unjudged(ids, judged, None)
    row = None if wanted is None else _sample(data, view, str(wanted))
    place, before, _ = _around(ids, row["sample_id"]) if row else (None, None, None)
    given = verdicts.loc[verdicts["sample_id"] == row["sample_id"]] if row else verdicts.iloc[:0]
    return _render(
        "review",
        title="Review",
        view=view,
        row=row,
        nothing=_nothing_to_judge(len(ids)),
        place=place,
        before=before,
        after=_next_unjudged(ids, judged, row["sample_id"]) if row else None,
        total=len(ids),
        n_judged=len(verdicts),
        verdict=_rows(given)[0] if len(given) else None,
        verdicts=_verdict_rows(data, view, verdicts.iloc[::-1].head(_SHOWN_VERDICTS)),
        precision=_rows(data.precision(run_id, view.record, score=samples.score)),
        class_list=_class_list(view),
        suggested=row.get("predicted_class") if row else None,
        neighbours=_neighbours(data, view, str(wanted), k=_NEIGHBOURS // 2) if row else [],
        may_edit=current_site().permissions.may_use_run(run_id, EDIT),
        csrf_token=access.csrf_token(),
        up=_link("run", run=run_id, record=view.record, **samples.query()),
        verdicts_source=_api("verdicts", run=run_id, record=view.record),
        precision_source=_api("precision", run=run_id, record=view.record, score=samples.score),
        **(_stage_context(data, view, str(wanted)) if row else {}),
        **_state_context(samples),
    )


def review_answer() -> Any:
    """Store a verdict, then show the next sample that has none."""
    data, form = _data(), flask.request.form
    view = _view()
    run_id, samples = view.info.run_id, _samples()
    sample_id = form.get("id", "")
    verdict, new_label = form.get("verdict", ""), None
    if "wrong" in form:
        chosen = form.get("chosen", "") if form["wrong"] == "chosen" else form["wrong"]
        verdict, new_label = "wrong_label", _class_index(chosen)
    data.add_verdict(
        run_id,
        view.record,
        sample_id,
        verdict=verdict,
        who=access.user_name(),
        new_label=new_label,
        note=form.get("note", "").strip(),
    )
    judged = set(data.current_verdicts(run_id, view.record)["sample_id"].tolist())
    ids = samples.ids(data, view)
    following = _next_unjudged(ids, judged, _same(ids, sample_id))
    here = sample_id if verdict == "withdrawn" else following
    address = _link("review", run=run_id, record=view.record, id=here, **samples.query())
    return flask.redirect(address, HTTPStatus.SEE_OTHER)


def error_page(message: str, status: int) -> flask.Response:
    """The page that says what went wrong."""
    title = HTTPStatus(status).phrase
    return flask.Response(_render("error", title=title, message=message), status)


#: Every page, registered by `app.install`.
ROUTES: tuple[Route, ...] = (
    Route(path="/", function=runs_page),
    Route(path="/run", function=run_page),
    Route(path="/sample", function=sample_page),
    Route(path="/compare", function=compare_page),
    Route(path="/review", function=review_page),
    Route(path="/review", function=review_answer, method="POST", needs=EDIT),
)


# ------------------------------------------------------------------ parts of the comparison


def _fill_correlations(data: Data, context: Query) -> Query:
    runs, record, method = context["run_ids"], context["record"], context["method"]
    score = context["score"]
    with_intervals = flask.request.args.get("intervals") == "1"
    frame = data.correlations(
        runs, record, score=score, method=method, bootstrap=_RESAMPLES if with_intervals else 0
    )
    columns = list(dict.fromkeys(frame["class"]))
    heat = [
        (title, _heat_rows(part, columns))
        for kind, title in _KINDS.items()
        if len(part := frame.loc[frame["kind"] == kind])
    ]
    return {
        "finding": data.finding(runs, record, score=score),
        "method_name": _METHODS[method],
        "columns": columns,
        "heat": heat,
        "n_samples": int(frame["n_samples"].max()) if len(frame) else 0,
        "with_intervals": with_intervals,
        "heat_source": _api(
            "correlations", run=runs, record=record, score=score, method=method,
            bootstrap=_RESAMPLES,
        ),
    }  # fmt: skip


def _heat_rows(frame: pd.DataFrame, columns: Sequence[str]) -> list[Query]:
    rows = []
    for name, part in frame.groupby(compare.pair_labels(frame), sort=False):
        by_class = {row["class"]: row for row in _rows(part)}
        cells = [_heat_cell(by_class[each]) for each in columns]
        rows.append({"name": name, "n_pairs": int(part["n_pairs"].iloc[0]), "cells": cells})
    return rows


def _heat_cell(row: Query) -> Query:
    """A cell is as dark as the variance that the two rankings share, r²."""
    mean = row["mean"]
    tone = round(20 * max(mean or 0.0, 0.0) ** 2)
    return {"mean": mean, "low": row["ci_low"], "high": row["ci_high"], "tone": tone}


def _fill_scatter(data: Data, context: Query) -> Query:
    views, record, score = context["views"], context["record"], context["score"]
    first, second = _index("a", 1, len(views)), _index("b", 2, len(views))
    runs = [context["run_ids"][each - 1] for each in (first, second)]
    names = [views[each - 1].info.name for each in (first, second)]
    if names[0] == names[1]:
        names = [f"{name} {run[:6]}" for name, run in zip(names, runs, strict=True)]
    frame = data.pairs(runs[0], runs[1], record, score=score)
    chosen = exploration.choose_region(frame, "score_a", "score_b", _region())
    ordered = chosen.sort_values(
        "score_a", ascending=score in LOW_IS_HARD, kind="stable", ignore_index=True
    )
    told = [
        f"{number(a)} / {number(b)}"
        for a, b in zip(ordered["score_a"], ordered["score_b"], strict=True)
    ]
    return {
        "a": first,
        "b": second,
        "pair": runs,
        "name_a": names[0],
        "name_b": names[1],
        **_region_context(context, runs[0], ordered.assign(told=told)),
    }


def _fill_contrasts(data: Data, context: Query) -> Query:
    models, record, score = context["models"], context["record"], context["score"]
    if len(models) < 2:
        return {}
    hard = _choice("hard", models)
    easy = _choice("easy", [each for each in models if each != hard])
    frame = data.contrasts(context["run_ids"], record, score=score, n=_CONTRASTS)
    rows = frame.loc[(frame["hard_for"] == hard) & (frame["easy_for"] == easy)]
    return {
        "hard": hard,
        "easy": easy,
        "rows": _rows(rows),
        "contrasts_source": _api(
            "contrasts", run=context["run_ids"], record=record, score=score, n=_CONTRASTS
        ),
        **_image_context(context),
    }


def _fill_entropy(data: Data, context: Query) -> Query:
    views, record = context["views"], context["record"]
    ensemble = len(views) > 1 and all(each.has_probabilities for each in views)
    given = flask.request.args.get("of", "all" if ensemble else "1")
    runs = context["run_ids"]
    if given != "all":
        runs = [runs[_index("of", 1, len(views)) - 1]]
    frame = data.entropy(runs, record)
    chosen = exploration.choose_region(frame, "action", "entropy", _region())
    ordered = chosen.sort_values("action", ascending=False, kind="stable", ignore_index=True)
    told = [
        f"{action:.2f} / {entropy:.2f}"
        for action, entropy in zip(ordered["action"], ordered["entropy"], strict=True)
    ]
    return {
        "of": given,
        "ensemble": ensemble,
        "entropy_runs": runs,
        **_region_context(context, runs[0], ordered.assign(told=told)),
    }


def _region_context(context: Query, run_id: str, ordered: pd.DataFrame) -> Query:
    size, number_ = _count("per_page", _SIZES[0]), _count("page", 1)
    page = Page(ordered.iloc[(number_ - 1) * size : number_ * size], len(ordered), number_, size)
    hidden = [
        (name, value)
        for name, value in flask.request.args.items(multi=True)
        if name not in {*_BOUNDS, "page"}
    ]
    return {
        "page": page,
        "total": page.total,
        "rows": _rows(page.frame),
        "region": {name: flask.request.args.get(name, "") for name in _BOUNDS},
        "region_state": hidden,
        "chosen": any(each is not None for each in _region()),
        **_image_context(context, run_id),
    }


def _image_context(context: Query, preferred: str | None = None) -> Query:
    """The run whose images are shown: the preferred one if it has any, else the first that has."""
    views = sorted(context["views"], key=lambda each: each.info.run_id != preferred)
    with_images = [each for each in views if each.has_images] or views
    return {"image_run": with_images[0].info.run_id, "has_images": with_images[0].has_images}


# ------------------------------------------------------------------ rows


def _sample_rows(view: RunView, frame: pd.DataFrame, score: str) -> list[Query]:
    """Samples with the names of their predicted and true classes."""
    rows = _rows(frame)
    for row in rows:
        row["value"] = row[score]
        row["predicted_class"] = _class_name(view, row.get("predicted"))
        row["true_class"] = _class_name(view, row.get("true_label"))
    return rows


def _sample(data: Data, view: RunView, sample_id: str) -> Query:
    row = data.sample(view.info.run_id, view.record, sample_id)
    found = _rows(pd.DataFrame([row.to_dict()]))[0]
    return {"predicted_class": None, "true_class": None, "path": None, "correct": None} | found


def _neighbours(data: Data, view: RunView, sample_id: str, *, k: int) -> list[Query]:
    k = min(k, view.manifest.n_samples - 1)
    if not view.has_features or k < 1:
        return []
    frame = data.neighbours(view.info.run_id, view.record, sample_ids=[sample_id], k=k)
    return _rows(frame)


def _stage_context(data: Data, view: RunView, sample_id: str) -> Query:
    """Image, boxes and pictures of a sample."""
    boxes: list[Query] = []
    if view.has_boxes:
        frame = data.boxes(view.info.run_id, view.record, sample_id)
        shown = (frame["kind"] == "truth") | (frame["score"] >= _SHOWN_SCORE)
        boxes = _rows(frame.loc[shown])
    return {
        "boxes": boxes,
        "n_truth": sum(each["kind"] == "truth" for each in boxes),
        "no_images": _NO_IMAGES,
    }


def _verdict_rows(data: Data, view: RunView, verdicts: pd.DataFrame) -> list[Query]:
    rows = _rows(verdicts)
    for row in rows:
        sample = data.sample(view.info.run_id, view.record, row["sample_id"])
        row["label_name"] = str(sample["class"]) if view.has_labels else "–"
    return rows


def _rows(frame: pd.DataFrame) -> list[Query]:
    """Rows as plain Python values: None for what is missing."""
    names = [str(each) for each in frame.columns]
    columns = [[_plain(value) for value in frame[each].tolist()] for each in frame.columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float) and np.isnan(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _facts(view: RunView) -> list[tuple[str, str]]:
    manifest, info = view.manifest, view.info
    unit = DELTA_KINDS.get(manifest.delta_kind, manifest.delta_kind)
    nonfinite = sum(each.n_nonfinite for each in manifest.steps)
    facts = [
        ("Model", _model(view)),
        ("Dataset", info.params.get("dataset", "").strip("'")),
        ("Record", view.record),
        ("Samples", number(manifest.n_samples)),
        ("Classes", number(len(view.class_names)) if view.has_labels else ""),
        ("Epochs", number(manifest.n_steps)),
        ("Loss", manifest.loss_name),
        ("Unit of action", f"{manifest.loss_name} × {unit}"),
        ("Losses not finite", number(nonfinite) if nonfinite else ""),
        ("Started (UTC)", moment(info.start_time)),
        ("Run", info.run_id),
    ]
    return [(name, value) for name, value in facts if value]


# ------------------------------------------------------------------ samples in order


def _around(ids: npt.NDArray[Any], sample_id: Any) -> tuple[int | None, Any, Any]:
    """Place of a sample from 1, and the ids before and after it; None where there is none."""
    found = np.flatnonzero(ids == sample_id)
    if not len(found):
        return None, None, ids[0].item() if len(ids) else None
    at = int(found[0])
    before = ids[at - 1].item() if at > 0 else None
    after = ids[at + 1].item() if at + 1 < len(ids) else None
    return at + 1, before, after


def _next_unjudged(ids: npt.NDArray[Any], judged: set[Any], sample_id: Any) -> Any:
    """The first sample after one (or of all) that has no verdict, going round; None if all have."""
    found = [] if sample_id is None else np.flatnonzero(ids == sample_id).tolist()
    start = found[0] + 1 if found else 0
    rounds = [*ids[start:].tolist(), *ids[:start].tolist()]
    return next((each for each in rounds if each not in judged and each != sample_id), None)


def _same(ids: npt.NDArray[Any], sample_id: str) -> Any:
    """An id of the address as the record has it."""
    return int(sample_id) if ids.dtype.kind in "iu" else sample_id


def _nothing_to_judge(n_samples: int) -> str:
    if n_samples:
        return "Every sample that the filters let through has a verdict. Export them below."
    return "No sample passes the filters. Remove one of them on the page of the run."


# ------------------------------------------------------------------ the address


def _data() -> Data:
    return current_site().data


def _values() -> Any:
    """Parameters of the address, or of a form that was sent."""
    return flask.request.form if flask.request.method == "POST" else flask.request.args


def _view() -> RunView:
    runs = access.run_ids()
    if len(runs) != 1:
        raise ParameterError(
            "run", "must name one run", ", ".join(runs), "Choose it on the page Runs."
        )
    return _data().run(runs[0], _values().get("record") or None)


def _samples() -> _Samples:
    values = _values()
    wanted = SampleFilter(
        classes=tuple(values.getlist("class")),
        correct=values.get("correct", "all"),
        low=_bound("low"),
        high=_bound("high"),
    )
    order = values.get("order", "hardest")
    return _Samples(wanted=wanted, score=values.get("score", "action"), order=order)


def _wanted_id() -> str:
    found = flask.request.args.get("id", "")
    if not found:
        raise ParameterError("id", "must name a sample", found, "Choose one on the page of a run.")
    return found


def _tag(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found:
        raise ParameterError("tag", "must be KEY=VALUE", text, "Add the value of the tag.")
    return key, value


def _count(name: str, default: int) -> int:
    text = _values().get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 10**6):
        raise ParameterError(name, "must be a whole number from 1", text, "Leave it out.")
    return int(text)


def _index(name: str, default: int, most: int) -> int:
    found = _count(name, default)
    if found > most:
        raise ParameterError(name, f"must be at most {most}", found, "Choose one of the runs.")
    return found


def _bound(name: str) -> float | None:
    text = _values().get(name, "")
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if np.isnan(found):
        raise ParameterError(name, "must be a number", text, "Leave it out for no bound.")
    return found


def _region() -> list[float | None]:
    return [_bound(each) for each in _BOUNDS]


def _choice(name: str, choices: Sequence[str]) -> str:
    found: str = _values().get(name) or choices[0]
    if found not in choices:
        raise ParameterError(name, f"must be one of {', '.join(choices)}", found, "Choose another.")
    return found


def _class_index(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit()):
        raise ParameterError("wrong", "must be the index of a class", text, "Choose a class.")
    return int(text) if text else None


def _unless(value: Any, default: Any) -> Any:
    return None if value == default else value


# ------------------------------------------------------------------ names


def _model(view: RunView) -> str:
    return view.manifest.model or view.info.model


def _class_name(view: RunView, index: int | None) -> str | None:
    if index is None:
        return None
    names = view.manifest.class_names
    return names[index] if index < len(names) else str(index)


def _class_list(view: RunView) -> list[tuple[int, str]]:
    """Every class by its index, to choose from."""
    if view.manifest.class_names:
        return list(enumerate(view.manifest.class_names))
    return [(int(each), each) for each in view.class_names if each.isdigit()]


def _score_name(view: RunView, score: str) -> str:
    unit = DELTA_KINDS.get(view.manifest.delta_kind, "")
    return f"{score} ({view.manifest.loss_name} × {unit})" if score == "action" and unit else score


def _step_name(view: RunView) -> str:
    return "epoch" if view.manifest.delta_kind == "epoch" else "step"


def _common_scores(views: Sequence[RunView]) -> list[str]:
    if not views:
        return []
    return [each for each in views[0].scores if all(each in other.scores for other in views)]


# ------------------------------------------------------------------ links


def _link(page: str, /, **parameters: Any) -> str:
    """Address of a page; parameters that are None are left out, lists repeat."""
    path = flask.url_for(f"{NAME}.{'index' if page == 'runs' else page}")
    return path + _query(parameters)


def _here_with(**changes: Any) -> str:
    """The present address with other parameters; None takes one away."""
    query = flask.request.args.to_dict(flat=False) | changes
    return _link(flask.request.path.rpartition("/")[2] or "runs", **query)


def _compare_link(views: Sequence[RunView], **changes: Any) -> str:
    """The comparison without what belongs to one of its views only."""
    kept = {name: flask.request.args.get(name) for name in ("record", "score", "view")}
    runs = [each.info.run_id for each in views]
    return _link("compare", **({"run": runs} | kept | changes))


def _api(path: str, /, **parameters: Any) -> str:
    return f"{_link('runs')}api/{path}{_query(parameters)}"


def _query(parameters: Query) -> str:
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"?{urlencode(given, doseq=True)}" if given else ""


def _with_format(address: str, kind: str) -> str:
    return f"{address}{'&' if '?' in address else '?'}format={kind}"


def _mlflow_run(experiment_id: str, run_id: str) -> str:
    return f"{current_site().mlflow_url}#/experiments/{experiment_id}/runs/{run_id}"


def _static(filename: str) -> str:
    return flask.url_for(f"{NAME}.static", filename=filename)


# ------------------------------------------------------------------ templates


def number(value: Any) -> str:
    """A number for people: four digits, thin spaces between thousands, – for none.

    >>> number(50000), number(3.14159), number(None), number(1234.5678)
    ('50\u202f000', '3.142', '–', '1235')
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, float) and not np.isfinite(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if isinstance(value, int) or (1000 <= size < 1e7):
        text = f"{value:,.0f}" if size >= 10_000 else f"{value:.0f}"
        return text.replace(",", "\u202f").replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def fixed(value: Any) -> str:
    """A correlation or a share with two decimals, – for none."""
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def moment(milliseconds: Any, kind: str = "") -> str:
    """A time of MLflow in UTC; kind "iso" for machines.

    >>> moment(0)
    ''
    """
    if not milliseconds:
        return ""
    when = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return when.isoformat(timespec="seconds") if kind == "iso" else f"{when:%Y-%m-%d %H:%M}"


def count_of(count: int, what: str) -> str:
    """A number of things.

    >>> count_of(1, "run"), count_of(2, "box")
    ('1 run', '2 boxes')
    """
    if count == 1:
        return f"1 {what}"
    return f"{number(count)} {what}{'es' if what.endswith(('x', 's')) else 's'}"


def _stamp(when: Any) -> str:
    return "" if when is None else f"{when:%Y-%m-%d %H:%M}"


_FILTERS = {
    "num": number,
    "fixed": fixed,
    "moment": moment,
    "count_of": count_of,
    "stamp": _stamp,
    "with_format": _with_format,
}


def _state_context(samples: _Samples) -> Query:
    state = {name: value for name, value in samples.query().items() if value is not None}
    pairs = [
        (name, each)
        for name, value in state.items()
        for each in (value if isinstance(value, list) else [value])
    ]
    return {
        "wanted": samples.wanted,
        "score": samples.score,
        "order": samples.order,
        "state": state,
        "state_pairs": pairs,
    }


def _render(template: str, **context: Any) -> str:
    common = {
        "here": template,
        "mlflow_link": current_site().mlflow_url,
        "view": None,
        "charts": False,
    }
    return _environment().get_template(f"{template}.html").render(common | context)


@cache
def _environment() -> jinja2.Environment:
    """Templates of ours alone: what MLflow's application does to its own can't reach them."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("actiontrack.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    environment.globals |= {
        "link": _link,
        "here_with": _here_with,
        "api": _api,
        "static": _static,
        "mlflow_run": _mlflow_run,
        "version": actiontrack.__version__,
    }
    return environment
