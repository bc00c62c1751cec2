"""Options of questions as pydantic models, and pydantic's complaints in our own words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from actiontrack.analysis.exploration import SampleFilter
from actiontrack.analysis.fixes import AT_LEAST
from actiontrack.compare import Method
from actiontrack.errors import ParameterError

__all__ = [
    "ByMethodOptions",
    "ClustersOptions",
    "Compared",
    "ContrastsOptions",
    "CorrelationsOptions",
    "CurvesOptions",
    "FilteredScore",
    "FixesOptions",
    "HistogramOptions",
    "NeighboursOptions",
    "Number",
    "Options",
    "OrderedOptions",
    "PrecisionOptions",
    "Required",
    "SampleOptions",
    "Scored",
    "ServerLimit",
    "SlicesOptions",
    "Text",
    "Texts",
    "VerdictsOptions",
    "WrongLabelsOptions",
    "validated",
]


class Options(BaseModel):
    """Named options that are read from text or from Python values; unknown names are an error.

    A field with an alias, such as "class", which Python reserves, is named by it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


def _encodable(text: str) -> str:
    """Refuse half of a surrogate pair, which neither a file nor an answer can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be text without lone surrogates") from None
    return text


def _not_nan(value: float) -> float:
    if math.isnan(value):
        raise ValueError("must be a number")
    return value


#: Text that UTF-8 can encode.
Text = Annotated[str, AfterValidator(_encodable)]
#: Text that is not blank.
Required = Annotated[str, Field(pattern=r"\S"), AfterValidator(_encodable)]
#: Several of them.
Texts = tuple[Required, ...]
#: A finite number or an infinity.
Number = Annotated[float, AfterValidator(_not_nan)]


@dataclass(frozen=True)
class ServerLimit:
    """The most that a server takes of a number, or of the values of a repeated option.

    Whoever asks on a machine of their own may ask for more, see `validated`.

    Attributes:
        most: the greatest number, or the greatest number of values.
    """

    most: int

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check after the type and the other rules."""
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the limit as JSON Schema does."""
        described = dict(handler(schema))
        name = "maxItems" if described.get("type") == "array" else "maximum"
        return described | {name: self.most}

    def _check(self, value: Any, info: ValidationInfo) -> Any:
        is_tuple = isinstance(value, tuple)
        size = len(value) if is_tuple else value
        if size <= self.most or not (info.context or {}).get("limited"):
            return value
        if is_tuple:
            sizes = {"field_type": "Tuple", "max_length": self.most, "actual_length": size}
            raise PydanticKnownError("too_long", sizes)
        raise PydanticKnownError("less_than_equal", {"le": self.most})


_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], values: Mapping[str, Any], *, limited: bool = False) -> _Model:
    """The options that some values mean, with defaults filled in.

    Args:
        model: which options there are.
        values: by name, or by alias where a field has one. Text is converted.
        limited: whether the limits of a server hold, see `ServerLimit`.

    Raises:
        ParameterError: if a name is unknown, or a value is missing or breaks a rule.
    """
    try:
        return model.model_validate(dict(values), context={"limited": limited})
    except ValidationError as error:
        raise _explained(model, error) from None


_WHOLE = ("must be a whole number", "Write one, such as 3.")
_NUMBER = ("must be a number", "Write one, such as 0.5.")
#: Rule and remedy of each kind of complaint; the names in braces are those of its context.
_RULES = {
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "int_type": _WHOLE,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "bool_parsing": ("must be true or false", "Write one of these."),
    "literal_error": ("must be one of {expected}", "Choose one of these."),
    "greater_than_equal": ("must be at least {ge:g}", "Choose a larger number."),
    "less_than_equal": ("must be at most {le:g}", "Choose a smaller number."),
    "too_short": ("must be given at least {min_length} times", "Add what is missing."),
    "too_long": ("must be given at most {max_length} times", "Leave some out."),
    "value_error": ("{error}", "Correct it."),
    "string_unicode": ("must be text without lone surrogates", "Correct it."),
    "string_pattern_mismatch": ("must not be blank", "Fill it in, or leave it out."),
}


def _explained(model: type[BaseModel], error: ValidationError) -> ParameterError:
    """The first complaint of pydantic with argument, rule, value and remedy."""
    complaint: Mapping[str, Any] = error.errors(include_url=False)[0]
    name = str((*complaint["loc"], "query")[0])  # a name that is no text has no place
    kind, value = complaint["type"], complaint["input"]
    if kind == "extra_forbidden":
        names = sorted(field.alias or key for key, field in model.model_fields.items())
        rule = f"must only hold {', '.join(names)}" if names else "must be empty"
        return ParameterError("query", rule, name, "Correct the name, or leave it out.")
    if kind == "missing":
        return ParameterError(name, "must be given", "", f"Add {name}=… .")
    context = dict(complaint.get("ctx", {}))
    if "expected" in context:
        context["expected"] = context["expected"].replace("'", "").replace(" or ", ", ")
    rule, remedy = _RULES.get(kind, (complaint["msg"], "Correct it."))
    value = len(value) if kind in {"too_short", "too_long"} else value
    return ParameterError(name, rule.format(**context), value, remedy)


# The options of the questions


class Scored(Options):
    """A score by which samples are ranked."""

    score: Text = Field("action", description="Score, a column of the question scores.")


class FilteredScore(Scored):
    """A score and the samples that count."""

    classes: Annotated[Texts, ServerLimit(10_000)] = Field(
        (), alias="class", description="Name of a class; repeat it."
    )
    correct: Literal["all", "correct", "wrong"] = Field(
        "all", description="By the prediction of the last step, against the label."
    )
    low: Number | None = Field(None, description="Least value of the score.")
    high: Number | None = Field(None, description="Greatest value of the score.")
    slices: Annotated[Texts, ServerLimit(10)] = Field(
        (), alias="slice", description="ATTRIBUTE = GROUP, as slices names it; all, if repeated."
    )

    @property
    def sample_filter(self) -> SampleFilter:
        """The samples that the options let through."""
        return SampleFilter(
            classes=self.classes, correct=self.correct, low=self.low, high=self.high
        )


class OrderedOptions(FilteredScore):
    """Of the question scores."""

    order: Literal["hardest", "easiest"] = Field("hardest", description="Which samples come first.")


class HistogramOptions(FilteredScore):
    """Of the question distributions."""

    bins: Annotated[int, ServerLimit(1000)] = Field(50, ge=1, description="Bins of equal width.")
    by: Literal["all", "class"] = Field(
        "all", description="All samples together, or each class in the same bins."
    )


class _SamplesOptions(Options):
    """Some samples of a record."""

    ids: Annotated[Texts, ServerLimit(1000)] = Field(
        (), alias="id", description="Id of a sample; repeat it."
    )


class CurvesOptions(_SamplesOptions):
    """Of the question curves."""

    n: Annotated[int, ServerLimit(1000)] = Field(
        10, ge=1, description="Hardest samples of each run, without ids."
    )


class ClustersOptions(Options):
    """Of the question clusters."""

    k: Annotated[int, ServerLimit(20)] = Field(3, ge=1, description="Clusters.")
    n: Annotated[int, ServerLimit(50)] = Field(
        3, ge=1, description="Curves closest to each centre."
    )


class NeighboursOptions(_SamplesOptions, Scored):
    """Of the question neighbours."""

    n: Annotated[int, ServerLimit(100)] = Field(
        6, ge=1, description="Hardest samples, without ids."
    )
    k: Annotated[int, ServerLimit(100)] = Field(8, ge=1, description="Neighbours of each.")


class SampleOptions(Options):
    """Of the questions about one sample."""

    sample_id: Required = Field(alias="id", description="Id of the sample.")


class VerdictsOptions(Options):
    """Of the question verdicts."""

    current: bool = Field(
        default=True, description="Only the verdict that counts of each sample, or all of them."
    )


class PrecisionOptions(Scored):
    """Of the question precision."""

    ks: Annotated[tuple[int, ...], ServerLimit(100)] = Field(
        (), alias="k", description="The k hardest; repeat it."
    )


class _UpToStep(Options):
    """A part of a training."""

    up_to_step: int | None = Field(
        None, ge=0, le=2**31, description="Go by the steps up to this one only."
    )


class FixesOptions(_UpToStep):
    """Of the question fixes."""

    at_least: Number = Field(
        AT_LEAST, ge=0, le=1, description="Least probability that the label is wrong."
    )


class WrongLabelsOptions(_UpToStep):
    """Of the question wrong_labels."""

    by: Literal["all", "class"] = Field(
        "all", description="All labels together, or those of each class."
    )


class Compared(Scored):
    """How runs are set against each other."""

    on_mismatch: Literal["error", "inner"] = Field(
        "error",
        description="If the samples of the runs differ: refuse, or take those that all share.",
    )
    up_to_step: int | None = Field(
        None, ge=0, le=2**31, description="Score up to this step only, so that lengths may differ."
    )

    @property
    def choice(self) -> dict[str, Any]:
        """The arguments of `align` and its like."""
        return self.model_dump(include={"score", "on_mismatch", "up_to_step"})


class SlicesOptions(Compared):
    """Of the question slices."""

    attributes: Annotated[Texts, ServerLimit(100)] = Field(
        (), alias="attribute", description="Slice by this one; repeat it. Default: all."
    )
    pairs: bool = Field(default=True, description="Cross attributes, and each with the class.")
    bins: Annotated[int, ServerLimit(100)] = Field(5, ge=2, description="Of numbers and times.")
    min_size: int = Field(30, ge=5, le=10**9, description="Fewest samples of a slice.")
    fdr: Number = Field(
        0.05, gt=0, le=1, description="Rate of false discoveries in the answer; 1 for all slices."
    )


class ByMethodOptions(Compared):
    """Of the question quantiles."""

    method: Method | None = Field(None, description="Correlation. Default: both.")


class CorrelationsOptions(ByMethodOptions):
    """Of the question correlations."""

    between: Literal["models", "runs"] = Field(
        "models", description="Means over the pairs of runs of two models, or each pair of runs."
    )
    bootstrap: Annotated[int, ServerLimit(1000)] = Field(
        0, ge=0, description="Resamples for ci_low and ci_high; 0 for none."
    )


class ContrastsOptions(Compared):
    """Of the question contrasts."""

    n: Annotated[int, ServerLimit(1000)] = Field(12, ge=1, description="Samples of each pair.")
