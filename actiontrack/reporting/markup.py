"""Tables of a report as Markdown, LaTeX and HTML cells."""

import html
import re
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from actiontrack.store.runs import short_id

__all__ = [
    "flat_frame",
    "html_table",
    "latex_table",
    "markdown_table",
    "markdown_text",
]

_MAX_ROWS = 50  # of a table on the page; its file holds all
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$])")
_LONG_TABLE = 40  # rows of a LaTeX table from which on it breaks across pages
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


def flat_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a telling index as its first columns and strings as column names."""
    plain = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    flat = frame.reset_index(drop=True) if plain else frame.reset_index(allow_duplicates=True)
    return flat.set_axis([_column_name(name) for name in flat.columns], axis=1)


def _column_name(name: object) -> str:
    return " ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def html_table(frame: pd.DataFrame, run_ids: frozenset[str]) -> dict[str, object]:
    """Header and cells of a table, for the HTML template."""
    flat = flat_frame(frame)
    columns = [
        {"name": name, "number": number}
        for name, number in zip(flat.columns, _numeric(flat), strict=True)
    ]
    rows = [
        [(cell, short_id(cell) if cell in run_ids else "") for cell in row] for row in _cells(flat)
    ]
    return {"columns": columns, "rows": rows, "note": _cut(flat)}


def _cut(flat: pd.DataFrame) -> str:
    """The note below a table that a page cuts, or the empty string."""
    return f"The first {_MAX_ROWS} of {len(flat)} rows." if len(flat) > _MAX_ROWS else ""


def _numeric(flat: pd.DataFrame) -> list[bool]:
    """Whether each column holds numbers, which stand to the right."""
    return [pd.api.types.is_numeric_dtype(dtype) for dtype in flat.dtypes]


def _cells(flat: pd.DataFrame) -> list[list[str]]:
    return [[_cell(value) for value in row] for row in flat.head(_MAX_ROWS).itertuples(index=False)]


def _cell(value: Any) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value)


def latex_table(
    frame: pd.DataFrame,
    *,
    caption: str = "",
    label: str = "",
    run_ids: Collection[str] = (),
) -> str:
    """Write a table in LaTeX: booktabs' rules, numbers to the right, four digits.

    Args:
        frame: As in a `Section`; the first 50 rows are written, run ids short.
        caption: Its caption, plain text.
        label: Its label is ``tab:<label>``.
        run_ids: Ids of runs, of which the first 8 characters are written.

    Returns:
        A ``table``, or a ``longtable`` from 40 rows on, for a document that loads booktabs and
        longtable. Letters such as ρ need LuaLaTeX or XeLaTeX. Nothing that it was given acts as
        LaTeX.
    """
    flat = flat_frame(frame)
    note = f" {cut}" if (cut := _cut(flat)) else ""
    cells = [
        [_latex(short_id(cell) if cell in run_ids else cell) for cell in row]
        for row in _cells(flat)
    ]
    escaped = pd.DataFrame(cells, columns=[_latex(name) for name in flat.columns], dtype=object)
    long = len(cells) >= _LONG_TABLE
    text = escaped.style.hide(axis="index").to_latex(
        column_format="".join("r" if number else "l" for number in _numeric(flat)),
        hrules=True,
        caption=_latex(f"{caption}{note}") or None,
        label=f"tab:{label}" if label else None,
        environment="longtable" if long else None,
        position_float=None if long else "centering",
    )
    return str(text)


def _latex(text: str) -> str:
    """Text that LaTeX shows as it is, on one line."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def markdown_table(frame: pd.DataFrame, run_ids: Collection[str] = ()) -> str:
    """Write a table in Markdown, its first 50 rows.

    Args:
        frame: As in a `Section`.
        run_ids: Ids of runs, of which the first 8 characters are written.

    Returns:
        The table in the GitHub flavour; nothing that it was given acts as Markdown or HTML.
    """
    flat = flat_frame(frame)
    rule = ["---:" if number else "---" for number in _numeric(flat)]
    cells = [
        [f"`{short_id(cell)}`" if cell in run_ids else markdown_text(cell) for cell in row]
        for row in _cells(flat)
    ]
    head = [markdown_text(name) for name in flat.columns]
    lines = [f"| {' | '.join(row)} |" for row in [head, rule, *cells]]
    note = _cut(flat)
    return "\n".join(lines) + (f"\n\n{note}" if note else "")


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    line = " ".join(text.split())
    return _MARKDOWN.sub(r"\\\1", html.escape(line, quote=False))
