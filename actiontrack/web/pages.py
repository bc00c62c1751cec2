"""The pages below /actiontrack/: what an address asks for, from `Data` to a template."""

import math
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import flask
import pandas as pd

from actiontrack.analysis.verdicts import VERDICTS
from actiontrack.errors import ParameterError
from actiontrack.scores import score_unit
from actiontrack.web import access, query
from actiontrack.web.asked import (
    SAMPLES,
    SIZES,
    Samples,
    asked,
    class_list,
    class_name,
    model_name,
    paged,
    score_name,
    step_name,
)
from actiontrack.web.compare_page import compare_page
from actiontrack.web.data import Data, RunView, dataset_of
from actiontrack.web.permissions import EDIT
from actiontrack.web.query import Parameter
from actiontrack.web.rendering import api_link, link, moment, number, plain, render, rows
from actiontrack.web.routes import Route, current_site

__all__ = ["ROUTES", "error_page"]

_RUNS_PER_PAGE = 50
_MAX_BINS = 60
_NEIGHBOURS = 12
_SHOWN_VERDICTS = 100
_SHOWN_SCORE = 0.5  # of predicted boxes
_WRONG = "wrong_label"
_NO_IMAGES = (
    "This server has no images of these samples. Record with thumbnails "
    "(Recorder.log_thumbnails), or name the folder of the dataset in ACTIONTRACK_IMAGE_ROOTS where "
    "the server runs."
)

_SHOW = Parameter(name="show", about="As images or as a table.", choices=("images", "table"))
_LOG = Parameter(name="log", about="Logarithmic counts.", kind="boolean", default=False)
_K = Parameter(name="k", about="Clusters.", kind="integer", default=3, least=2, most=20)
_ID = replace(query.SAMPLE, required=False)
_CHOSEN = Parameter(name="chosen", about="Index of the right class.", kind="integer")
_VERDICT = (
    query.SAMPLE,
    Parameter(name="verdict", about="What is the case.", choices=VERDICTS),
    Parameter(name="wrong", about='Index of the right class, "chosen", or "unknown".'),
    _CHOSEN,
    Parameter(name="note", about="Anything else.", default=""),
    Parameter(name=access.CSRF_FIELD, about="Token of the form."),
)


def runs_page() -> str:
    """Runs that hold a record, with filters; some can be picked to be compared."""
    values = asked(*query.RUN_FILTER, *paged(_RUNS_PER_PAGE))
    wanted, data = query.run_filter(values), _data()
    choices = data.choices()
    page = data.runs(wanted, page=values["page"], per_page=values["per_page"])
    return render(
        "runs",
        title="Runs",
        wanted=wanted,
        tags=values["tag"],
        choices=choices,
        any_run=bool(choices["experiments"]),
        page=page,
        rows=rows(page.frame),
    )


def run_page() -> str:
    """One record: summary, distributions, samples, curves and clusters."""
    values = asked(query.RUN, *SAMPLES, *paged(SIZES[1]), _SHOW, _LOG, _K)
    samples, data = Samples.of(values), _data()
    view = samples.view
    run_id = view.info.run_id
    page = data.scores(
        run_id,
        view.record,
        wanted=samples.wanted,
        score=samples.score,
        order=samples.order,
        page=values["page"],
        per_page=values["per_page"],
    )
    return render(
        "run",
        title=view.info.name,
        charts=True,
        facts=_facts(view),
        siblings=_siblings(view),
        page=page,
        rows=_sample_rows(view, page.frame, samples.score),
        show=values["show"] or ("images" if view.has_images else "table"),
        sizes=sorted({*SIZES, page.per_page}),
        k=values["k"],
        log=values["log"],
        bins=min(max(10, 2 * math.isqrt(view.manifest.n_samples)), _MAX_BINS),
        score_name=score_name(view, samples.score),
        step_name=step_name(view),
        samples_link=api_link("scores", run=run_id, record=view.record, **samples.query),
        no_images=_NO_IMAGES,
        **samples.context(),
    )


def sample_page() -> str:
    """One sample: image, scores, loss against epoch in several runs, neighbours."""
    values = asked(query.RUN, query.SAMPLE, *SAMPLES)
    samples, data = Samples.of(values), _data()
    view = samples.view
    run_id, row = view.info.run_id, _sample(view, values["id"])
    place, before, after = samples.around(row["sample_id"])
    near = _neighbours(view, values["id"], k=_NEIGHBOURS)
    return render(
        "sample",
        title=f"Sample {row['sample_id']}",
        charts=True,
        row=row,
        place=place,
        total=len(samples.ids()),
        before=before,
        after=after,
        up=link("run", run=run_id, record=view.record, **samples.query),
        ranks=rows(data.ranks(run_id, view.record, values["id"])),
        siblings=_siblings(view),
        neighbours=near,
        agreeing=sum(each["class"] == row["class"] for each in near),
        verdict=_verdict_of(data.current_verdicts(run_id, view.record), row["sample_id"]),
        step_name=step_name(view),
        **_stage(view, values["id"]),
        **samples.context(),
    )


def review_page() -> str:
    """Samples one after the other, to be judged by a person; the verdicts so far."""
    values = asked(query.RUN, _ID, *SAMPLES)
    samples, data = Samples.of(values), _data()
    view = samples.view
    run_id, record = view.info.run_id, view.record
    verdicts = data.current_verdicts(run_id, record)
    judged = set(verdicts["sample_id"].tolist())
    first = samples.next_without(judged) if values["id"] is None else values["id"]
    total = len(samples.ids())
    return render(
        "review",
        title="Review",
        total=total,
        n_judged=len(verdicts),
        nothing=_nothing_to_judge(total),
        verdicts=_verdict_rows(view, verdicts.iloc[::-1].head(_SHOWN_VERDICTS)),
        precision=rows(data.precision(run_id, record, score=samples.score, current=verdicts)),
        class_list=class_list(view),
        may_edit=current_site().permissions.may_use_run(run_id, EDIT),
        csrf_token=access.csrf_token(),
        up=link("run", run=run_id, record=record, **samples.query),
        verdicts_source=api_link("verdicts", run=run_id, record=record),
        precision_source=api_link("precision", run=run_id, record=record, score=samples.score),
        **_judging(samples, verdicts, judged, first),
        **samples.context(),
    )


def review_answer() -> Any:
    """Store a verdict, then show the next sample that has none."""
    values = asked(query.RUN, *SAMPLES, *_VERDICT)
    samples, data = Samples.of(values), _data()
    view = samples.view
    run_id, record = view.info.run_id, view.record
    verdict, new_label = _given_verdict(values)
    data.add_verdict(
        run_id,
        record,
        values["id"],
        verdict=verdict,
        who=access.user_name(),
        new_label=new_label,
        note=values["note"],
    )
    here = _sample(view, values["id"])["sample_id"]
    if verdict != "withdrawn":
        judged = set(data.current_verdicts(run_id, record)["sample_id"].tolist())
        here = samples.next_without(judged, here)
    address = link("review", run=run_id, record=record, id=here, **samples.query)
    return flask.redirect(address, HTTPStatus.SEE_OTHER)


def error_page(message: str, status: int) -> flask.Response:
    """The page that says what went wrong."""
    return flask.Response(render("error", title=HTTPStatus(status).phrase, message=message), status)


#: Every page, registered by `app.install`.
ROUTES: tuple[Route, ...] = (
    Route(path="/", function=runs_page),
    Route(path="/run", function=run_page),
    Route(path="/sample", function=sample_page),
    Route(path="/compare", function=compare_page),
    Route(path="/review", function=review_page),
    Route(path="/review", function=review_answer, method="POST", needs=EDIT),
)


# What the pages show


def _data() -> Data:
    return current_site().data


def _siblings(view: RunView) -> list[str]:
    return list(_data().siblings(view.info.run_id, view.record)["run_id"])


def _sample_rows(view: RunView, frame: pd.DataFrame, score: str) -> list[dict[str, Any]]:
    """Samples with the names of their predicted and true classes."""
    found = rows(frame)
    for row in found:
        row["value"] = row[score]
        row["predicted_class"] = class_name(view, row.get("predicted"))
        row["true_class"] = class_name(view, row.get("true_label"))
    return found


def _sample(view: RunView, sample_id: str) -> dict[str, Any]:
    row = _data().sample(view.info.run_id, view.record, sample_id)
    absent = dict.fromkeys(("predicted_class", "true_class", "path", "correct"))
    return absent | {str(name): plain(value) for name, value in row.items()}


def _neighbours(view: RunView, sample_id: str, *, k: int) -> list[dict[str, Any]]:
    k = min(k, view.manifest.n_samples - 1)
    if not view.has_features or k < 1:
        return []
    return rows(_data().neighbours(view.info.run_id, view.record, sample_ids=[sample_id], k=k))


def _stage(view: RunView, sample_id: str) -> dict[str, Any]:
    """Image of a sample with its boxes."""
    boxes: list[dict[str, Any]] = []
    if view.has_boxes:
        frame = _data().boxes(view.info.run_id, view.record, sample_id)
        boxes = rows(frame.loc[(frame["kind"] == "truth") | (frame["score"] >= _SHOWN_SCORE)])
    n_truth = sum(each["kind"] == "truth" for each in boxes)
    return {"boxes": boxes, "n_truth": n_truth, "no_images": _NO_IMAGES}


def _facts(view: RunView) -> list[tuple[str, str]]:
    manifest, info = view.manifest, view.info
    nonfinite = sum(each.n_nonfinite for each in manifest.steps)
    facts = [
        ("Model", model_name(view)),
        ("Dataset", dataset_of(info)),
        ("Record", view.record),
        ("Samples", number(manifest.n_samples)),
        ("Classes", number(len(view.class_names)) if view.has_labels else ""),
        ("Epochs" if manifest.delta_kind == "epoch" else "Steps", number(manifest.n_steps)),
        ("Unit of action", score_unit("action", manifest.delta_kind, loss=manifest.loss_name)),
        ("Losses not finite", number(nonfinite) if nonfinite else ""),
        ("Started (UTC)", moment(info.start_time)),
        ("Run", info.run_id),
    ]
    return [(name, value) for name, value in facts if value]


# Review


def _judging(
    samples: Samples, verdicts: pd.DataFrame, judged: set[Any], sample_id: Any
) -> dict[str, Any]:
    """The sample to be judged, where it stands, and what comes next; or that there is none."""
    if sample_id is None:
        return dict.fromkeys(("row", "place", "before", "after", "verdict", "neighbours"))
    view, text = samples.view, str(sample_id)
    row = _sample(view, text)
    place, before, _ = samples.around(row["sample_id"])
    return {
        "row": row,
        "place": place,
        "before": before,
        "after": samples.next_without(judged, row["sample_id"]),
        "verdict": _verdict_of(verdicts, row["sample_id"]),
        "neighbours": _neighbours(view, text, k=_NEIGHBOURS // 2),
        **_stage(view, text),
    }


def _given_verdict(values: dict[str, Any]) -> tuple[str, int | None]:
    """What a form says, and the index of the right class if it says one."""
    wrong = values["wrong"]
    if wrong is None:
        return values["verdict"] or "", None
    if wrong == "unknown":
        return _WRONG, None
    if wrong == "chosen":
        return _WRONG, values["chosen"]
    if not (wrong.isascii() and wrong.isdigit()):
        raise ParameterError("wrong", "must be the index of a class", wrong, "Choose a class.")
    return _WRONG, replace(_CHOSEN, name="wrong").read([wrong])


def _verdict_of(verdicts: pd.DataFrame, sample_id: Any) -> dict[str, Any] | None:
    found = rows(verdicts.loc[verdicts["sample_id"] == sample_id])
    return found[0] if found else None


def _verdict_rows(view: RunView, verdicts: pd.DataFrame) -> list[dict[str, Any]]:
    ids = verdicts["sample_id"].tolist()
    names = _data().classes_of(view.info.run_id, view.record, ids)
    return rows(verdicts.assign(label_name=names if view.has_labels else "–"))


def _nothing_to_judge(n_samples: int) -> str:
    if n_samples:
        return "Every sample that the filters let through has a verdict. Export them below."
    return "No sample passes the filters. Remove one of them on the page of the run."
