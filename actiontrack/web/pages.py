"""The pages below /actiontrack/: what an address asks for, from records to a template."""

import math
from http import HTTPStatus
from typing import Literal

import flask
from pydantic import Field

from actiontrack.analysis.options import SampleOptions
from actiontrack.analysis.sentences import describe_wrong_labels
from actiontrack.scores import score_unit
from actiontrack.web import samples
from actiontrack.web.choice import (
    MAX_IMAGES,
    SIZES,
    ChosenSamples,
    read_parameters,
    score_name,
    step_name,
)
from actiontrack.web.compare_page import compare_page
from actiontrack.web.images import why_no_images
from actiontrack.web.parameters import Paging, RunFilterOptions, SampleChoice
from actiontrack.web.permissions import EDIT
from actiontrack.web.rendering import api_link, link, moment, number, render, rows
from actiontrack.web.review_page import review_answer, review_page
from actiontrack.web.routes import Route, current_site
from actiontrack.web.runs import Page, RunView, list_runs, run_choices, siblings
from actiontrack.web.sample_parts import (
    neighbour_tiles,
    sample_facts,
    stage_context,
    tiles,
    verdict_of,
)
from actiontrack.web.slices_page import slices_page
from actiontrack.web.tokens_page import tokens_page

__all__ = ["ROUTES", "error_page"]

_RUNS_PER_PAGE = 50
_MAX_BINS = 60
_NEIGHBOURS = 12
_TITLES = {
    400: "This address does not work",
    403: "Not allowed",
    404: "Not found",
    409: "These runs cannot be compared",
    422: "This record cannot be read",
    500: "The server failed",
}


class _RunsPage(RunFilterOptions, Paging):
    per_page: int = Field(_RUNS_PER_PAGE, ge=1, le=MAX_IMAGES)


class _RunPage(SampleChoice, Paging):
    per_page: int = Field(SIZES[1], ge=1, le=MAX_IMAGES)
    show: Literal["images", "table"] | None = None
    log: bool = False
    k: int = Field(3, ge=2, le=20)


class _SamplePage(SampleChoice, SampleOptions):
    pass


def runs_page() -> str:
    """Runs that hold a record, with filters; some can be picked to be compared."""
    values = read_parameters(_RunsPage)
    records = current_site().records
    choices = run_choices(records)
    page = list_runs(records, values.run_filter, page=values.page, per_page=values.per_page)
    return render(
        "runs",
        title="Runs",
        run_filter=values.run_filter,
        tags=values.tag,
        choices=choices,
        any_run=bool(choices["experiments"]),
        page=page,
        rows=rows(page.frame),
    )


def run_page() -> str:
    """One record: summary, distributions, samples, curves and clusters."""
    values = read_parameters(_RunPage)
    chosen = ChosenSamples.of(values)
    view = chosen.view
    run_id, record = view.info.run_id, view.record
    table = current_site().records.ask("scores", run_id, record, **chosen.question)
    page = Page.of(table, page=values.page, per_page=values.per_page)
    return render(
        "run",
        title=view.info.name,
        charts=True,
        facts=_facts(view),
        wrong_labels=_wrong_labels(view),
        siblings=_siblings(view),
        page=page,
        rows=tiles(view, page.frame, chosen.options.score),
        show=values.show or ("images" if view.has_images else "table"),
        sizes=sorted({*SIZES, page.per_page}),
        k=values.k,
        log=values.log,
        bins=min(max(10, 2 * math.isqrt(view.manifest.n_samples)), _MAX_BINS),
        score_name=score_name(view, chosen.options.score),
        step_name=step_name(view),
        samples_link=api_link("scores", run=run_id, record=record, **chosen.query),
        no_images=why_no_images(view.manifest),
        **chosen.context(),
    )


def sample_page() -> str:
    """One sample: image, scores, loss against epoch in several runs, neighbours."""
    values = read_parameters(_SamplePage)
    chosen, records = ChosenSamples.of(values), current_site().records
    view = chosen.view
    run_id, record, sample_id = view.info.run_id, view.record, values.sample_id
    row = sample_facts(view, sample_id)
    position, before, after = chosen.around(row["sample_id"])
    neighbours = neighbour_tiles(view, sample_id, k=_NEIGHBOURS)
    return render(
        "sample",
        title=f"Sample {row['sample_id']}",
        charts=True,
        row=row,
        position=position,
        total=len(chosen.ids()),
        before=before,
        after=after,
        up=link("run", run=run_id, record=record, **chosen.query),
        ranks=rows(samples.sample_ranks(records, run_id, record, sample_id)),
        siblings=_siblings(view),
        neighbours=neighbours,
        agreeing=sum(tile["class"] == row["class"] for tile in neighbours),
        verdict=verdict_of(records.ask("verdicts", run_id, record), row["sample_id"]),
        step_name=step_name(view),
        shows_tokens=samples.shows_tokens(records, run_id, record, sample_id),
        **stage_context(view, sample_id),
        **chosen.context(),
    )


def error_page(message: str, status: int) -> flask.Response:
    """The page that says what went wrong."""
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    return flask.Response(render("error", title=title, message=message), status)


#: Every page, registered by `app.install`.
ROUTES: tuple[Route, ...] = (
    Route(path="/", function=runs_page),
    Route(path="/run", function=run_page),
    Route(path="/sample", function=sample_page),
    Route(path="/tokens", function=tokens_page),
    Route(path="/slices", function=slices_page),
    Route(path="/compare", function=compare_page),
    Route(path="/review", function=review_page),
    Route(path="/review", function=review_answer, method="POST", needs=EDIT),
)


def _siblings(view: RunView) -> list[str]:
    return list(siblings(current_site().records, view.info.run_id, view.record)["run_id"])


def _wrong_labels(view: RunView) -> str:
    """How many labels are wrong, in a sentence; "" where the record does not tell."""
    if not view.tells_wrong_labels or not view.manifest.n_steps:
        return ""
    counts = current_site().records.ask("wrong_labels", view.info.run_id, view.record)
    return describe_wrong_labels(counts)


def _facts(view: RunView) -> list[tuple[str, str]]:
    manifest, info = view.manifest, view.info
    nonfinite = manifest.totals.n_nonfinite
    facts = [
        ("Model", view.model),
        ("Dataset", info.dataset),
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
