"""Listings of a tracking server, which come in pages."""

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["items", "view_type"]


def items(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """The items of every page, each page asked for when its first item is needed.

    Args:
        ask: gets a page by its token, which is None for the first one.

    Raises:
        Exception: what `ask` raises.
    """
    token: str | None = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def view_type(*, deleted: bool) -> int:
    """MLflow's number for a listing with or without what lies in the trash."""
    from mlflow.entities import ViewType  # noqa: PLC0415

    return int(ViewType.ALL if deleted else ViewType.ACTIVE_ONLY)
