"""The parameters of addresses and forms: pydantic models, read from what a browser sends.

A name that a page or route does not know is an error, so that a misspelt filter never means "no
filter".
"""

from typing import Annotated, Any, Literal, TypeVar, get_origin

from pydantic import Field
from pydantic.fields import FieldInfo
from werkzeug.datastructures import MultiDict

from actiontrack.analysis.options import Options, OrderedOptions, Required, Text, Texts, validated
from actiontrack.errors import ParameterError
from actiontrack.web.runs import MAX_ROWS, RunFilter

__all__ = [
    "OfRecord",
    "OfRun",
    "Paging",
    "RunFilterOptions",
    "SampleChoice",
    "TableOptions",
    "fields_of",
    "parse",
    "takes_several",
]

_Model = TypeVar("_Model", bound=Options)


class OfRecord(Options):
    """A record of the runs that are named."""

    record: Text | None = Field(
        None, description='Record, such as "test-probe". Default: the usual one.'
    )


class OfRun(OfRecord):
    """One run and its record."""

    run: Required = Field(description="Id of the run.")


class SampleChoice(OfRun, OrderedOptions):
    """Some samples of a record, in an order."""


class Paging(Options):
    """One page of a table."""

    page: int = Field(1, ge=1, le=10**9, description="Page, from 1.")
    per_page: int = Field(100, ge=1, le=MAX_ROWS, description="Rows of a page.")


class TableOptions(Paging):
    """What every table of the API takes."""

    columns: Annotated[Texts, Field(max_length=100)] = Field(
        (), description="Only these columns; repeat it."
    )
    format: Literal["json", "csv", "parquet"] | None = Field(
        None, description="Default: as the header Accept says, else json."
    )


class RunFilterOptions(Options):
    """Which runs a list shows."""

    experiment: Texts = Field((), description="Name of an experiment; repeat it.")
    dataset: Texts = Field((), description='Value of the parameter "dataset"; repeat it.')
    model: Texts = Field((), description="Name of a model; repeat it.")
    tag: Texts = Field((), description="KEY=VALUE; repeat it: a run must have all of them.")
    q: Text = Field("", description="Part of the name or id of a run.")
    state: Literal["all", "complete", "incomplete"] = Field(
        "all", description="State of the record."
    )

    @property
    def run_filter(self) -> RunFilter:
        """The filter that the options mean.

        Raises:
            ParameterError: if a tag is not KEY=VALUE.
        """
        tags = []
        for text in self.tag:
            key, equals, value = text.partition("=")
            if not equals:
                raise ParameterError("tag", "must be KEY=VALUE", text, "Write owner=ada, say.")
            tags.append((key, value))
        return RunFilter(
            experiments=self.experiment,
            datasets=self.dataset,
            models=self.model,
            tags=tuple(tags),
            text=self.q,
            state=self.state,
        )


def fields_of(model: type[Options]) -> dict[str, FieldInfo]:
    """The fields of a model by the name that an address has for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def takes_several(field: FieldInfo) -> bool:
    """Whether a parameter may be repeated."""
    return get_origin(field.annotation) is tuple


def parse(model: type[_Model], sent: MultiDict[str, str]) -> _Model:
    """The values of a query or form. What is blank counts as absent.

    Raises:
        ParameterError: if a value breaks a rule, a name is unknown, or a parameter that has one
            value is repeated.
    """
    fields = fields_of(model)
    values: dict[str, Any] = {}
    for name in sent:
        texts = [text.strip() for text in sent.getlist(name)]
        texts = [text for text in texts if text]
        field = fields.get(name)
        if field is None:
            values[name] = texts  # for the error
        elif texts and takes_several(field):
            values[name] = texts
        elif len(texts) > 1:
            raise ParameterError(name, "must be given once", texts, "Drop the repeats.")
        elif texts:
            values[name] = texts[0]
    return validated(model, values, limited=True)
