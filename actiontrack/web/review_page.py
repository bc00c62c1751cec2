"""The page where a person judges one sample after the other."""

from collections.abc import Set
from http import HTTPStatus
from typing import Any

import flask
import pandas as pd
from pydantic import Field

from actiontrack.analysis import exploration
from actiontrack.analysis.options import Options, Required, SampleOptions, Text, validated
from actiontrack.analysis.questions import score_table_of
from actiontrack.analysis.verdicts import VerdictName
from actiontrack.web import access, samples
from actiontrack.web.choice import ChosenSamples, class_list, read_parameters
from actiontrack.web.parameters import SampleChoice
from actiontrack.web.permissions import EDIT
from actiontrack.web.rendering import api_link, link, render, rows
from actiontrack.web.routes import current_site
from actiontrack.web.runs import RunView
from actiontrack.web.sample_parts import (
    neighbour_tiles,
    sample_facts,
    stage_context,
    verdict_of,
)

__all__ = ["review_answer", "review_page"]

_NEIGHBOURS = 6
_LISTED_VERDICTS = 100
_WRONG_LABEL = "wrong_label"


class _ReviewPage(SampleChoice):
    sample_id: Required | None = Field(None, alias="id")


class _ReviewForm(SampleChoice, SampleOptions):
    verdict: VerdictName | None = None
    wrong: Text | None = None  # index of the right class, "chosen" or "unknown"
    chosen: int | None = None
    note: Text = ""
    csrf_token: Text | None = None


class _RightClass(Options):
    wrong: int = Field(ge=0, le=2**31 - 1)


def review_page() -> str:
    """Samples one after the other, to be judged by a person; the verdicts so far."""
    values = read_parameters(_ReviewPage)
    chosen, records = ChosenSamples.of(values), current_site().records
    view = chosen.view
    run_id, record, score = view.info.run_id, view.record, chosen.options.score
    verdicts = records.ask("verdicts", run_id, record)
    judged = set(verdicts["sample_id"].tolist())
    sample_id = chosen.next_without(judged) if values.sample_id is None else values.sample_id
    table = score_table_of(records.open(run_id, record))
    total = len(chosen.ids())
    return render(
        "review",
        title="Review",
        total=total,
        n_judged=len(verdicts),
        nothing=_nothing_to_judge(total),
        verdicts=_verdict_rows(view, verdicts.iloc[::-1].head(_LISTED_VERDICTS)),
        precision=rows(exploration.verdict_precision(table, verdicts, score=score)),
        class_list=class_list(view),
        may_edit=current_site().permissions.may_use_run(run_id, EDIT),
        csrf_token=access.csrf_token(),
        up=link("run", run=run_id, record=record, **chosen.query),
        verdicts_source=api_link("verdicts", run=run_id, record=record),
        precision_source=api_link("precision", run=run_id, record=record, score=score),
        **_judging(chosen, verdicts, judged, sample_id),
        **chosen.context(),
    )


def review_answer() -> Any:
    """Store a verdict, then show the next sample that has none."""
    values = read_parameters(_ReviewForm)
    chosen, records = ChosenSamples.of(values), current_site().records
    view = chosen.view
    run_id, record = view.info.run_id, view.record
    verdict, new_label = _verdict_and_label(values)
    samples.add_verdict(
        records,
        run_id,
        record,
        values.sample_id,
        verdict=verdict,
        who=access.user_name(),
        new_label=new_label,
        note=values.note,
    )
    next_id = sample_facts(view, values.sample_id)["sample_id"]
    if verdict != "withdrawn":
        judged = set(records.ask("verdicts", run_id, record)["sample_id"].tolist())
        next_id = chosen.next_without(judged, next_id)
    address = link("review", run=run_id, record=record, id=next_id, **chosen.query)
    return flask.redirect(address, HTTPStatus.SEE_OTHER)


def _judging(
    chosen: ChosenSamples, verdicts: pd.DataFrame, judged: Set[Any], sample_id: Any
) -> dict[str, Any]:
    """The sample to be judged, its number, and what comes next; or that there is none."""
    if sample_id is None:
        return dict.fromkeys(("row", "position", "before", "after", "verdict", "neighbours"))
    view, text = chosen.view, str(sample_id)
    row = sample_facts(view, text)
    position, before, _ = chosen.around(row["sample_id"])
    return {
        "row": row,
        "position": position,
        "before": before,
        "after": chosen.next_without(judged, row["sample_id"]),
        "verdict": verdict_of(verdicts, row["sample_id"]),
        "neighbours": neighbour_tiles(view, text, k=_NEIGHBOURS),
        **stage_context(view, text),
    }


def _verdict_and_label(values: _ReviewForm) -> tuple[str, int | None]:
    """What a form says, and the index of the right class if it says one."""
    if values.wrong is None:
        return values.verdict or "", None
    if values.wrong == "unknown":
        return _WRONG_LABEL, None
    if values.wrong == "chosen":
        return _WRONG_LABEL, values.chosen
    return _WRONG_LABEL, validated(_RightClass, {"wrong": values.wrong}).wrong


def _verdict_rows(view: RunView, verdicts: pd.DataFrame) -> list[dict[str, Any]]:
    ids = verdicts["sample_id"].tolist()
    names = samples.class_names_of(current_site().records, view.info.run_id, view.record, ids)
    return rows(verdicts.assign(label_name=names if view.has_labels else "–"))


def _nothing_to_judge(n_samples: int) -> str:
    if n_samples:
        return "Every sample that the filters let through has a verdict. Export them below."
    return "No sample passes the filters. Remove one of them on the page of the run."
