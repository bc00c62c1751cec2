"""What an endpoint of the API is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from actiontrack.web import query
from actiontrack.web.data import Data
from actiontrack.web.permissions import READ
from actiontrack.web.query import Parameter

__all__ = [
    "IMAGE_TYPES",
    "MEDIA_TYPES",
    "PAGING",
    "Content",
    "Endpoint",
    "Values",
    "selected",
]

Values = Mapping[str, Any]
MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")


class Content(NamedTuple):
    """What is answered, without what depends on the single request."""

    body: bytes
    mimetype: str
    headers: dict[str, str] = {}  # noqa: RUF012 - of a named tuple, never changed


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One route of the API.

    Attributes:
        path: below /actiontrack/api/.
        about: what it answers, one sentence.
        answer: from the site's data and the values of the parameters to a frame, a page of one,
            an image, or a JSON object.
        parameters: without those of paging and format, which every table has.
        columns: columns that a table has whatever the record holds.
        kind: "table", "image" or "object".
        changes: whether the answer may change while the records do not: its ETag is made from the
            content then, and else from the digests of the records.
        method: "GET" or "POST".
        needs: the right that a user needs on the runs.
        body: fields of a form or JSON object that POST takes.
    """

    path: str
    about: str
    answer: Callable[[Data, Values], Any]
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[str, ...] = ()
    kind: str = "table"
    changes: bool = False
    method: str = "GET"
    needs: str = READ
    body: tuple[Parameter, ...] = ()

    @property
    def all_parameters(self) -> tuple[Parameter, ...]:
        """With those of paging and format."""
        return (*self.parameters, *(_OF_TABLES if self.kind == "table" else ()))


PAGING = ("page", "per_page")
_OF_TABLES = (query.PAGE, query.PER_PAGE, query.COLUMNS, query.FORMAT)


def selected(values: Values, *names: str) -> dict[str, Any]:
    """The values of some parameters, by name."""
    return {name: values[name] for name in names}
