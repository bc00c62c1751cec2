"""What an endpoint of the API is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from actiontrack.analysis.options import Options
from actiontrack.web.permissions import READ

__all__ = ["IMAGE_TYPES", "MEDIA_TYPES", "Content", "Endpoint"]

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
        answer: from the site and the parameters (and the body) to a frame, a page of one, an
            image, or a JSON object.
        parameters: of the query.
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
    answer: Callable[..., Any]
    parameters: type[Options] = Options
    columns: tuple[str, ...] = ()
    kind: str = "table"
    changes: bool = False
    method: str = "GET"
    needs: str = READ
    body: type[Options] | None = None
