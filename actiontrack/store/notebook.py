"""How objects show themselves in a notebook: small tables, whose text is only text."""

import html
from collections.abc import Mapping
from typing import Any

import pandas as pd

__all__ = [
    "facts_html",
    "table_html",
]

_MAX_ROWS = 20


def facts_html(heading: str, facts: Mapping[str, object]) -> str:
    """A heading above a table of names and values.

    >>> facts_html("Run", {"name": "<b>"}).count("&lt;b&gt;")
    1
    """
    rows = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    return f"<div><strong>{html.escape(heading)}</strong><table><tbody>{rows}</tbody></table></div>"


def table_html(heading: str, frame: pd.DataFrame, *, note: str = "") -> str:
    """A heading and a note above the first rows of a frame."""
    first: Any = frame.head(_MAX_ROWS)
    table = first.to_html(border=0, float_format=lambda value: f"{value:.4g}", na_rep="–")
    more = f"<p>The first {_MAX_ROWS} of {len(frame)} rows.</p>" if len(frame) > _MAX_ROWS else ""
    text = f"<p>{html.escape(note)}</p>" if note else ""
    return f"<div><strong>{html.escape(heading)}</strong>{text}{table}{more}</div>"
