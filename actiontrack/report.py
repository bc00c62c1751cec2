"""A report: headings, words, tables and figures, as one HTML page or a folder of files.

The page holds everything it shows, loads nothing and runs no script. Whatever it is given is
text: a class name that looks like HTML or Markdown is shown as it was written. The same report
gives the same bytes.
"""

import base64
import html
import re
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from actiontrack.errors import ParameterError
from actiontrack.plots import save_figure

__all__ = ["Report", "Section"]

_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_ROWS = 200  # of a table on the page; its file holds all
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$])")


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """One part of a report.

    Attributes:
        heading: Its heading.
        text: Plain text; a blank line starts a new paragraph.
        frame: A table. Its index is shown unless it is just 0..n-1; pages show the first 200 rows.
        figure: A matplotlib figure, or the bytes of a PNG file.
        caption: One sentence below the figure or above the table, and the figure's alternative
            text.
    """

    heading: str
    text: str = ""
    frame: pd.DataFrame | None = None
    figure: Figure | bytes | None = None
    caption: str = ""

    def __post_init__(self) -> None:
        """Refuse what can't be written.

        Raises:
            ParameterError: ``figure`` is bytes without the PNG signature, or two columns of
                ``frame`` (its index counts, where it is shown) have the same name.
        """
        if self.frame is not None:
            names = list(_flat(self.frame).columns)
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                rule = "must have columns of distinct names"
                raise ParameterError("frame", rule, twice, "Rename one of them.")
        if isinstance(self.figure, bytes) and not self.figure.startswith(_PNG):
            remedy = "Pass a matplotlib figure or the content of a PNG file."
            raise ParameterError("figure", "must be a PNG image", self.figure[:8], remedy)


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Sections under a title.

    Attributes:
        title: Title of the page.
        sections: Its parts, in order.

    Example:
        >>> page = Report(title="Runs", sections=[Section(heading="Hard", text="a < b")]).to_html()
        >>> "<p>a &lt; b</p>" in page
        True
    """

    title: str
    sections: Sequence[Section] = field(default=())

    def to_html(self) -> str:
        """Write the report as one self-contained HTML page.

        Images are inlined, there is no script and no link to anywhere else; the page follows the
        reader's dark mode, prints, and fits a telephone (wide tables scroll).

        Returns:
            The page, HTML 5 in UTF-8.
        """
        names = self._names()
        return _template().render(
            title=self.title,
            sections=[
                {
                    "anchor": name,
                    "heading": section.heading,
                    "paragraphs": _paragraphs(section.text),
                    "image": base64.b64encode(_png(section.figure)).decode(),
                    "alt": _alternative(section),
                    "caption": section.caption,
                    "table": None if section.frame is None else _table(section.frame),
                }
                for name, section in zip(names, self.sections, strict=True)
            ],
        )

    def to_markdown(self, directory: Path) -> str:
        """Write the report as Markdown, and its figures to ``directory / "figures"``.

        Args:
            directory: Where the Markdown file will lie: figures are linked relative to it.

        Returns:
            The text, in the GitHub flavour; nothing it was given acts as Markdown or HTML.
        """
        self._save_figures(directory)
        parts = [f"# {_escaped(self.title)}"]
        for name, section in zip(self._names(), self.sections, strict=True):
            parts.append(f"## {_escaped(section.heading)}")
            parts += [_escaped(paragraph) for paragraph in _paragraphs(section.text)]
            if section.figure is not None:
                parts.append(f"![{_escaped(_alternative(section))}](figures/{name}.png)")
            if section.caption:
                parts.append(f"*{_escaped(section.caption)}*")
            if section.frame is not None:
                parts.append(_markdown_table(section.frame))
        return "\n\n".join(parts) + "\n"

    def save(self, directory: Path) -> dict[str, Path]:
        """Write the report as files that people and programs can read.

        Args:
            directory: Made if it is missing; files of the same name are overwritten.

        Returns:
            The paths by their name below ``directory``: ``report.html``, ``report.md``, for each
            table ``tables/<section>.csv`` and ``.parquet`` with all of its rows, for each figure
            ``figures/<section>.png`` and, unless it was given as PNG, ``.svg``.
        """
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "report.md").write_text(self.to_markdown(directory), encoding="utf-8")
        (directory / "report.html").write_text(self.to_html(), encoding="utf-8")
        paths = [directory / "report.html", directory / "report.md"]
        paths += [*self._save_tables(directory), *self._figure_paths(directory)]
        return {path.relative_to(directory).as_posix(): path for path in paths}

    def _repr_html_(self) -> str:
        """Show the page in a notebook, in a frame of its own so that its styles stay inside."""
        page = html.escape(self.to_html(), quote=True)
        style = "width:100%;height:40rem;border:0"
        return f'<iframe sandbox="" title="report" style="{style}" srcdoc="{page}"></iframe>'

    def _names(self) -> list[str]:
        """A file name and anchor for each section: its number and its heading in plain letters."""
        return [f"{i:02d}-{_slug(section.heading)}" for i, section in enumerate(self.sections, 1)]

    def _save_tables(self, directory: Path) -> list[Path]:
        paths = []
        for name, section in zip(self._names(), self.sections, strict=True):
            if section.frame is not None:
                paths += _save_table(section.frame, directory / "tables" / name)
        return paths

    def _save_figures(self, directory: Path) -> None:
        for name, section in zip(self._names(), self.sections, strict=True):
            stem = directory / "figures" / name
            if isinstance(section.figure, Figure):
                save_figure(section.figure, stem)
            elif section.figure is not None:
                stem.parent.mkdir(parents=True, exist_ok=True)
                (stem.parent / f"{name}.png").write_bytes(section.figure)

    def _figure_paths(self, directory: Path) -> list[Path]:
        return [
            directory / "figures" / f"{name}.{suffix}"
            for name, section in zip(self._names(), self.sections, strict=True)
            if section.figure is not None
            for suffix in (("png", "svg") if isinstance(section.figure, Figure) else ("png",))
        ]


@cache
def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("actiontrack")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2")


def _alternative(section: Section) -> str:
    return section.caption or section.heading


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def _slug(heading: str) -> str:
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].rstrip("-") or "section"


def _png(figure: Figure | bytes | None) -> bytes:
    if not isinstance(figure, Figure):
        return figure or b""
    with tempfile.TemporaryDirectory() as folder:
        (path,) = save_figure(figure, Path(folder) / "figure", formats=("png",))
        return path.read_bytes()


# ---------------------------------------------------------------- tables


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a telling index as its first columns and strings as column names."""
    plain = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    flat = frame.reset_index(drop=True) if plain else frame.reset_index(allow_duplicates=True)
    return flat.set_axis([_column_name(name) for name in flat.columns], axis=1)


def _column_name(name: object) -> str:
    return " ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _table(frame: pd.DataFrame) -> dict[str, object]:
    flat = _flat(frame)
    note = f"The first {_MAX_ROWS} of {len(flat)} rows." if len(flat) > _MAX_ROWS else ""
    columns = [
        {"name": name, "number": pd.api.types.is_numeric_dtype(dtype)}
        for name, dtype in zip(flat.columns, flat.dtypes, strict=True)
    ]
    return {"columns": columns, "rows": _cells(flat), "note": note}


def _cells(flat: pd.DataFrame) -> list[list[str]]:
    return [[_cell(value) for value in row] for row in flat.head(_MAX_ROWS).itertuples(index=False)]


def _cell(value: Any) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value)


def _save_table(frame: pd.DataFrame, stem: Path) -> list[Path]:
    stem.parent.mkdir(parents=True, exist_ok=True)
    flat = _flat(frame)
    paths = [stem.parent / f"{stem.name}.{suffix}" for suffix in ("csv", "parquet")]
    flat.to_csv(paths[0], index=False, lineterminator="\n", encoding="utf-8")
    flat.to_parquet(paths[1], index=False)
    return paths


def _markdown_table(frame: pd.DataFrame) -> str:
    table, flat = _table(frame), _flat(frame)
    numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in flat.dtypes]
    rule = ["---:" if number else "---" for number in numeric]
    rows = [[_escaped(cell) for cell in row] for row in [list(flat.columns), *_cells(flat)]]
    lines = [f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]]]
    return "\n".join(lines) + (f"\n\n{table['note']}" if table["note"] else "")


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    line = " ".join(text.split())
    return _MARKDOWN.sub(r"\\\1", html.escape(line, quote=False))
