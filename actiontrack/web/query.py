"""The parameters of a request: declared once, for reading them and for describing them.

A name that a route does not know is an error, so that a misspelt filter never means "no filter".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from werkzeug.datastructures import MultiDict

from actiontrack.analysis.exploration import CORRECT, ORDERS, SampleFilter
from actiontrack.errors import ParameterError
from actiontrack.web.data import MAX_ROWS, METHODS, STATES, RunFilter

__all__ = ["Parameter", "parse", "run_filter", "sample_filter"]

_REMEDY = "Correct the address."
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a query.

    Attributes:
        name: as in the address.
        about: what it is for.
        kind: "string", "integer", "number" or "boolean".
        default: what is meant without it.
        required: whether it must be given.
        many: whether it may be repeated; the value is a tuple then.
        choices: the only values.
        least: least number of values of a repeated one, or least value of a number.
        most: the same for the greatest.
    """

    name: str
    about: str
    kind: str = "string"
    default: Any = None
    required: bool = False
    many: bool = False
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None

    def read(self, given: Sequence[str]) -> Any:
        """The value of what a query gives.

        Raises:
            ParameterError: if it is missing or breaks a rule.
        """
        values = [each for each in (text.strip() for text in given) if each]
        if self.required and not values:
            raise ParameterError(self.name, "must be given", "", f"Add {self.name}=… .")
        if self.many:
            return self._read_many(values)
        if len(values) > 1:
            raise ParameterError(self.name, "must be given once", values, _REMEDY)
        return self._read_one(values[0]) if values else self.default

    def _read_many(self, values: Sequence[str]) -> tuple[Any, ...]:
        low, high = self.least or 0, self.most or float("inf")
        if not low <= len(values) <= high:
            rule = f"must be given {low:g} times or more"
            if high < float("inf"):
                rule = f"must be given {low:g} to {high:g} times"
            raise ParameterError(self.name, rule, len(values), _REMEDY)
        return tuple(self._read_one(each) for each in values)

    def _read_one(self, text: str) -> Any:
        if self.choices and text not in self.choices:
            rule = f"must be one of {', '.join(self.choices)}"
            raise ParameterError(self.name, rule, text, _REMEDY)
        if self.kind == "boolean":
            if text.lower() not in _TRUE | _FALSE:
                raise ParameterError(self.name, "must be true or false", text, _REMEDY)
            return text.lower() in _TRUE
        if self.kind in {"integer", "number"}:
            return self._number(text)
        return text

    def _number(self, text: str) -> float:
        try:
            value = int(text) if self.kind == "integer" else float(text)
        except ValueError:
            raise ParameterError(self.name, f"must be a {self._noun()}", text, _REMEDY) from None
        if value != value:  # noqa: PLR0124 - not a number
            raise ParameterError(self.name, "must be a number", text, _REMEDY)
        low = -float("inf") if self.many or self.least is None else self.least
        high = float("inf") if self.many or self.most is None else self.most
        if not low <= value <= high:
            rule = f"must lie in {low:g} to {high:g}"
            raise ParameterError(self.name, rule, text, _REMEDY)
        return value

    def _noun(self) -> str:
        return "whole number" if self.kind == "integer" else "number"

    def schema(self) -> dict[str, Any]:
        """The parameter as OpenAPI describes it."""
        one: dict[str, Any] = {"type": self.kind}
        if self.choices:
            one["enum"] = list(self.choices)
        elif self.kind == "string" and (self.required or self.many):
            one["pattern"] = r"\S"  # what is empty or blank counts as not given
        if self.default is not None:
            one["default"] = self.default
        if self.many:
            one = {"type": "array", "items": one}
            bounds = {"minItems": self.least, "maxItems": self.most}
        else:
            bounds = {"minimum": self.least, "maximum": self.most}
        one |= {
            key: int(value) if self.many or self.kind == "integer" else value
            for key, value in bounds.items()
            if value is not None
        }
        return {
            "name": self.name,
            "in": "query",
            "description": self.about,
            "required": self.required or (self.many and bool(self.least)),
            "schema": one,
            **({"style": "form", "explode": True} if self.many else {}),
        }


def parse(parameters: Sequence[Parameter], given: MultiDict[str, str]) -> dict[str, Any]:
    """The values of all parameters.

    Raises:
        ParameterError: if one breaks a rule, or is unknown.
    """
    known = {each.name for each in parameters}
    unknown = [each for each in given if each not in known]
    if unknown:
        rule = f"must only hold {', '.join(sorted(known))}" if known else "must be empty"
        raise ParameterError("query", rule, unknown[0], _REMEDY)
    return {each.name: each.read(given.getlist(each.name)) for each in parameters}


#: Parameters by their name in the code; routes of API and pages choose from them.
RECORD = Parameter(name="record", about='Record, such as "test-probe". Default: the usual one.')
RUN = Parameter(name="run", about="Id of the run.", required=True)
RUNS = Parameter(name="run", about="Id of a run; repeat it.", many=True, least=1, most=100)
SEVERAL = Parameter(name="run", about="Id of a run; repeat it.", many=True, least=2, most=100)
TWO = Parameter(name="run", about="Ids of two runs, a then b.", many=True, least=2, most=2)
SAMPLE = Parameter(name="id", about="Id of the sample.", required=True)
SAMPLES = Parameter(name="id", about="Id of a sample; repeat it.", many=True, most=1000)
SCORE = Parameter(name="score", about="Score, a column of /api/scores.", default="action")
ORDER = Parameter(
    name="order", about="Which samples come first.", default="hardest", choices=ORDERS
)
METHOD = Parameter(name="method", about="Correlation. Default: both.", choices=METHODS)
MISMATCH = Parameter(
    name="on_mismatch",
    about="If the samples of the runs differ: refuse, or take those that all share.",
    default="error",
    choices=("error", "inner"),
)
PAGE = Parameter(name="page", about="Page, from 1.", kind="integer", default=1, least=1, most=1e9)
PER_PAGE = Parameter(
    name="per_page", about="Rows of a page.", kind="integer", default=100, least=1, most=MAX_ROWS
)
FORMAT = Parameter(
    name="format",
    about="Default: as the header Accept says, else json.",
    choices=("json", "csv", "parquet"),
)
COLUMNS = Parameter(name="columns", about="Only these columns; repeat it.", many=True, most=100)
SAMPLE_FILTER = (
    Parameter(name="class", about="Name of a class; repeat it.", many=True, most=10_000),
    Parameter(
        name="correct",
        about="By the prediction of the last step.",
        default="all",
        choices=CORRECT,
    ),
    Parameter(name="low", about="Least value of the score.", kind="number"),
    Parameter(name="high", about="Greatest value of the score.", kind="number"),
)
RUN_FILTER = (
    Parameter(name="experiment", about="Name of an experiment; repeat it.", many=True),
    Parameter(name="dataset", about='Value of the parameter "dataset"; repeat it.', many=True),
    Parameter(name="model", about="Name of a model; repeat it.", many=True),
    Parameter(name="tag", about="KEY=VALUE; all of those that are given.", many=True),
    Parameter(name="q", about="Part of the name or id of a run.", default=""),
    Parameter(name="state", about="State of the record.", default="all", choices=STATES),
)


def sample_filter(values: Mapping[str, Any]) -> SampleFilter:
    """The filter that the values of `SAMPLE_FILTER` mean."""
    return SampleFilter(
        classes=values["class"],
        correct=values["correct"],
        low=values["low"],
        high=values["high"],
    )


def run_filter(values: Mapping[str, Any]) -> RunFilter:
    """The filter that the values of `RUN_FILTER` mean.

    Raises:
        ParameterError: if a tag is not KEY=VALUE.
    """
    tags = []
    for each in values["tag"]:
        key, found, value = each.partition("=")
        if not found:
            raise ParameterError("tag", "must be KEY=VALUE", each, _REMEDY)
        tags.append((key, value))
    return RunFilter(
        experiments=values["experiment"],
        datasets=values["dataset"],
        models=values["model"],
        tags=tuple(tags),
        text=values["q"],
        state=values["state"],
    )
