"""/actiontrack/api/: the tables and images of the pages, as JSON, CSV, Parquet and PNG.

One table, `ENDPOINTS`, holds every route of the API: those of `analysis.questions`, and what a
server knows beside. Routes and the OpenAPI document are made from it, so that they can't differ.
"""

from typing import Any

from pydantic import Field, create_model

from actiontrack.analysis.options import Options, Required, SampleOptions, Text, Texts
from actiontrack.analysis.questions import QUESTIONS, Question
from actiontrack.analysis.verdicts import VerdictName
from actiontrack.web import access, samples
from actiontrack.web.api.endpoint import Content, Endpoint
from actiontrack.web.api.openapi import openapi
from actiontrack.web.parameters import OfRecord, OfRun, RunFilterOptions, TableOptions
from actiontrack.web.permissions import EDIT
from actiontrack.web.routes import Site
from actiontrack.web.runs import Page, list_runs

__all__ = ["ENDPOINTS"]


# Parameters


class _Runs(TableOptions, RunFilterOptions):
    pass


class _OfSample(SampleOptions, OfRun):
    pass


class _Picture(_OfSample):
    name: Required = Field(description='Such as "label".')


class _NewVerdict(SampleOptions):
    verdict: VerdictName = Field(description="What is the case.")
    new_label: int | None = Field(
        None, ge=0, le=2**31 - 1, description="Index of the right class, with wrong_label."
    )
    note: Text = Field("", description="Anything else.")
    csrf_token: Text | None = Field(None, description="From /actiontrack/api/me, or as a header.")


# What each route answers


def _runs(site: Site, values: _Runs) -> Page:
    return list_runs(site.records, values.run_filter, page=values.page, per_page=values.per_page)


def _image(site: Site, values: _OfSample) -> Content:
    return Content(
        *samples.image_of(
            site.records, site.image_roots, values.run, values.record, values.sample_id
        )
    )


def _picture(site: Site, values: _Picture) -> Content:
    return Content(
        *samples.picture_of(site.records, values.run, values.record, values.sample_id, values.name)
    )


def _map(site: Site, values: _OfSample) -> Content:
    png = samples.map_of(site.records, values.run, values.record, values.sample_id)
    return Content(png, "image/png")


def _add_verdict(site: Site, values: OfRun, body: _NewVerdict) -> dict[str, Any]:
    who = access.user_name()
    samples.add_verdict(
        site.records,
        values.run,
        values.record,
        body.sample_id,
        verdict=body.verdict,
        who=who,
        new_label=body.new_label,
        note=body.note,
    )
    return {"sample_id": body.sample_id, "verdict": body.verdict, "who": who}


def _me(_site: Site, _values: Options) -> dict[str, Any]:
    return {"user": access.user_name(), "csrf_token": access.csrf_token()}


def _of_question(question: Question) -> Endpoint:
    """The route of a question: the runs that it is about, its options, one page of its answer."""

    def answer(site: Site, values: Any) -> Any:
        options = values.model_dump(by_alias=True, include=set(question.options.model_fields))
        return site.records.ask(question.name, values.run, values.record, **options)

    bases = (TableOptions, question.options, OfRun if question.most == 1 else OfRecord)
    distinct = tuple(base for base in bases if base is not Options)
    runs: dict[str, Any] = {} if question.most == 1 else {"run": (Texts, _runs_field(question))}
    parameters: Any = create_model(f"{question.name}_parameters", __base__=distinct, **runs)
    return Endpoint(
        path=question.name,
        about=question.about,
        answer=answer,
        parameters=parameters,
        columns=question.columns,
        changes=question.changes,
    )


def _runs_field(question: Question) -> Any:
    about = "Ids of two runs, a then b." if question.most == 2 else "Id of a run; repeat it."
    return Field(description=about, min_length=question.least, max_length=question.most)


#: Every route of the API.
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        path="runs",
        about="Runs with a record that you may read, newest first, one row per run and record.",
        answer=_runs,
        parameters=_Runs,
        columns=(
            *("run_id", "run_name", "model", "experiment", "experiment_id", "record"),
            *("status", "complete", "problem"),
        ),
        changes=True,
    ),
    *(_of_question(question) for question in QUESTIONS.values()),
    Endpoint(
        path="image",
        about="The image of a sample.",
        answer=_image,
        parameters=_OfSample,
        kind="image",
    ),
    Endpoint(
        path="picture",
        about="A further picture of a sample, such as its label or prediction.",
        answer=_picture,
        parameters=_Picture,
        kind="image",
    ),
    Endpoint(
        path="map",
        about="The action of each pixel of a sample, as an image.",
        answer=_map,
        parameters=_OfSample,
        kind="image",
    ),
    Endpoint(
        path="verdicts",
        about="Say of a sample that its label is wrong, ambiguous or fine.",
        answer=_add_verdict,
        parameters=OfRun,
        kind="object",
        method="POST",
        needs=EDIT,
        body=_NewVerdict,
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
        answer=lambda _site, _values: openapi(ENDPOINTS),
        kind="object",
        changes=True,
    ),
)
