"""A report: headings, words, tables and figures, as one HTML page or a folder of files.

The page holds everything it shows, loads nothing and runs no script. Whatever it is given is
text: a class name that looks like HTML, Markdown or LaTeX is shown as it was written. The same
report gives the same bytes. Sections name the runs that their numbers come from.
"""

import base64
import html
import json
import re
import struct
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from actiontrack.errors import ParameterError, writing
from actiontrack.plots import save_figure
from actiontrack.record.escaping import to_csv
from actiontrack.reporting.markup import (
    flat_frame,
    html_table,
    latex_table,
    markdown_table,
    markdown_text,
)
from actiontrack.store.runs import short_id

__all__ = [
    "Report",
    "Section",
    "Source",
]

_PNG = b"\x89PNG\r\n\x1a\n"
_NAMED_RUNS = 8  # of a section in Markdown; the page and report.json name all


@dataclass(frozen=True, kw_only=True)
class Source:
    """A record that a report has its numbers from.

    Attributes:
        run_id: Id of the run.
        name: Name of the run.
        record: Name of the record, such as "test-probe".
        digest: sha256 of the record's manifest, which holds the digest of every file of it.
    """

    run_id: str
    name: str
    record: str
    digest: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """One part of a report.

    Attributes:
        heading: Its heading.
        text: Plain text; a blank line starts a new paragraph.
        frame: A table. Its index is shown unless it is just 0..n-1; pages show the first 50 rows.
        figure: A matplotlib figure, or the bytes of a PNG file.
        caption: One sentence below the figure or above the table, and the figure's alternative
            text.
        run_ids: The runs that its numbers come from; each is one of the report's sources.
        level: 2 for a section of the report, 3 for one that belongs to the section before it.
    """

    heading: str
    text: str = ""
    frame: pd.DataFrame | None = None
    figure: Figure | bytes | None = None
    caption: str = ""
    run_ids: tuple[str, ...] = ()
    level: int = 2

    def __post_init__(self) -> None:
        """Refuse what can't be written.

        Raises:
            ParameterError: ``figure`` is bytes without the PNG signature, two columns of
                ``frame`` (its index counts, where it is shown) have the same name, or the level
                is neither 2 nor 3.
        """
        if self.level not in {2, 3}:
            raise ParameterError("level", "must be 2 or 3", self.level, "Leave it out for 2.")
        if self.frame is not None:
            names = list(flat_frame(self.frame).columns)
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
        sources: The records that its numbers come from.

    Raises:
        ParameterError: A section names a run that is no source, or the first section belongs to
            none.

    Example:
        >>> page = Report(title="Runs", sections=[Section(heading="Hard", text="a < b")]).to_html()
        >>> "<p>a &lt; b</p>" in page
        True
    """

    title: str
    sections: Sequence[Section] = field(default=())
    sources: Sequence[Source] = field(default=())

    def __post_init__(self) -> None:
        """Refuse sections whose runs are not among the sources."""
        for section in self.sections:
            unknown = [run_id for run_id in section.run_ids if run_id not in self._run_ids]
            if unknown:
                rule = f"must be sources of the report (section {section.heading!r})"
                raise ParameterError("run_ids", rule, unknown[0], "Add the record to the sources.")
        if self.sections and self.sections[0].level != 2:
            level = self.sections[0].level
            raise ParameterError("level", "must be 2 for the first section", level, "Leave it out.")

    def to_html(self) -> str:
        """Write the report as one self-contained HTML page.

        Images are inlined, there is no script and no link to anywhere else; the page follows the
        reader's dark mode, prints (a browser's "save as PDF" gives numbered A4 pages), and fits a
        telephone (wide tables scroll).

        Returns:
            The page, HTML 5 in UTF-8.
        """
        run_ids = self._run_ids
        return _template().render(
            title=self.title,
            sources=self._sources(),
            sources_text=_SOURCES,
            sections=[
                {
                    "anchor": name,
                    "heading": section.heading,
                    "level": section.level,
                    "paragraphs": _paragraphs(section.text),
                    "image": base64.b64encode(png).decode(),
                    "size": _size(png) if isinstance(section.figure, Figure) else None,
                    "alt": _alternative(section),
                    "caption": section.caption,
                    "table": None if section.frame is None else html_table(section.frame, run_ids),
                    "runs": [(run_id, short_id(run_id)) for run_id in section.run_ids],
                    "runs_note": self._runs_note(section),
                }
                for name, section, png in zip(
                    self._names(), self.sections, self._images, strict=True
                )
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
        parts = [f"# {markdown_text(self.title)}"]
        for name, section in zip(self._names(), self.sections, strict=True):
            parts.append(f"{'#' * section.level} {markdown_text(section.heading)}")
            parts += [markdown_text(paragraph) for paragraph in _paragraphs(section.text)]
            if section.figure is not None:
                parts.append(f"![{markdown_text(_alternative(section))}](figures/{name}.png)")
            if section.caption:
                parts.append(f"*{markdown_text(section.caption)}*")
            if section.frame is not None:
                parts.append(markdown_table(section.frame, self._run_ids))
            parts += self._markdown_runs(section)
        if self.sources:
            frame = pd.DataFrame([asdict(source) for source in self.sources])
            parts += ["## Sources", markdown_text(_SOURCES), markdown_table(frame, frozenset())]
        return "\n\n".join(parts) + "\n"

    def to_json(self) -> str:
        """Which runs each section, table and figure comes from, for programs.

        Returns:
            ``title``, ``sources`` (run_id, name, record, digest) and ``sections``, each with
            ``heading``, ``anchor`` (on the page), ``run_ids``, ``tables`` and ``figures`` (paths
            of the files that `save` writes).
        """
        sections = [
            {
                "heading": section.heading,
                "anchor": name,
                "run_ids": list(section.run_ids),
                "tables": [] if section.frame is None else _files("tables", name, _TABLES),
                "figures": _files("figures", name, _figure_formats(section)),
            }
            for name, section in zip(self._names(), self.sections, strict=True)
        ]
        content = {"title": self.title, "sources": [asdict(source) for source in self.sources]}
        return json.dumps(content | {"sections": sections}, indent=1, ensure_ascii=False) + "\n"

    def save(self, directory: Path) -> dict[str, Path]:
        """Write the report as files that people and programs can read.

        Args:
            directory: Made if it is missing; files of the same name are overwritten.

        Returns:
            The paths by their name below ``directory``: ``report.html``, ``report.md``,
            ``report.json`` (see `to_json`), for each table ``tables/<section>.csv`` and
            ``.parquet`` with all of its rows and ``.tex`` with those of the page, for each figure
            ``figures/<section>.png`` and, unless it was given as PNG, ``.svg``.

        Raises:
            StoreError: The directory can't be written.
        """
        with writing(directory):
            return self._save(directory)

    def _save(self, directory: Path) -> dict[str, Path]:
        directory.mkdir(parents=True, exist_ok=True)
        texts = {
            "report.html": self.to_html(),
            "report.md": self.to_markdown(directory),
            "report.json": self.to_json(),
        }
        for name, text in texts.items():
            (directory / name).write_text(text, encoding="utf-8")
        paths = [directory / name for name in texts]
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

    @cached_property
    def _run_ids(self) -> frozenset[str]:
        """Ids of the runs among the sources."""
        return frozenset(source.run_id for source in self.sources)

    @cached_property
    def _images(self) -> list[bytes]:
        """The figure of each section as PNG, drawn once; nothing for a section without one."""
        return [_png(section.figure) for section in self.sections]

    def _sources(self) -> list[dict[str, str]]:
        """The sources; a run with several records has one anchor."""
        first = {source.run_id: source for source in reversed(self.sources)}
        return [
            asdict(source)
            | {"anchor": f"run-{source.run_id}" if source is first[source.run_id] else ""}
            for source in self.sources
        ]

    def _runs_note(self, section: Section) -> str:
        """Which runs the numbers of a section come from; empty where that is obvious."""
        if len(self._run_ids) < 2 or not section.run_ids:
            return ""
        if set(section.run_ids) == self._run_ids:
            return f"From all {len(self._run_ids)} runs of this report."
        count = len(section.run_ids)
        return "From run" if count == 1 else f"From {count} runs:"

    def _markdown_runs(self, section: Section) -> list[str]:
        note = self._runs_note(section)
        if not note or note.endswith("."):
            return [f"*{markdown_text(note)}*"] if note else []
        named = ", ".join(f"`{short_id(run_id)}`" for run_id in section.run_ids[:_NAMED_RUNS])
        further = len(section.run_ids) - _NAMED_RUNS
        return [f"*{note}* {named}" + (f" and {further} more" if further > 0 else "")]

    def _save_tables(self, directory: Path) -> list[Path]:
        paths = []
        for name, section in zip(self._names(), self.sections, strict=True):
            if section.frame is not None:
                paths += _save_table(section, directory / "tables" / name, self._run_ids)
        return paths

    def _save_figures(self, directory: Path) -> None:
        for name, section, png in zip(self._names(), self.sections, self._images, strict=True):
            if section.figure is None:
                continue
            path = directory / "figures" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)
            if isinstance(section.figure, Figure):
                save_figure(section.figure, path.with_suffix(""), formats=("svg",))

    def _figure_paths(self, directory: Path) -> list[Path]:
        return [
            directory / path
            for name, section in zip(self._names(), self.sections, strict=True)
            for path in _files("figures", name, _figure_formats(section))
        ]


@cache
def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("actiontrack.reporting")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2")


_TABLES = ("csv", "parquet", "tex")
_SOURCES = "The records that the numbers come from, with the sha256 of each record's manifest."


def _files(folder: str, name: str, suffixes: Sequence[str]) -> list[str]:
    return [f"{folder}/{name}.{suffix}" for suffix in suffixes]


def _figure_formats(section: Section) -> tuple[str, ...]:
    if section.figure is None:
        return ()
    return ("png", "svg") if isinstance(section.figure, Figure) else ("png",)


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


def _size(png: bytes) -> tuple[int, int]:
    """Width and height in CSS pixels of a figure that was drawn at 150 dots an inch."""
    width, height = struct.unpack(">II", png[16:24])
    return round(width * 96 / 150), round(height * 96 / 150)


def _save_table(section: Section, stem: Path, run_ids: frozenset[str]) -> list[Path]:
    assert section.frame is not None  # noqa: S101 - asked for by the caller
    stem.parent.mkdir(parents=True, exist_ok=True)
    flat = flat_frame(section.frame)
    paths = [stem.parent / f"{stem.name}.{suffix}" for suffix in _TABLES]
    paths[0].write_text(to_csv(flat), encoding="utf-8")
    flat.to_parquet(paths[1], index=False)
    text = latex_table(
        section.frame, caption=_alternative(section), label=stem.name, run_ids=run_ids
    )
    paths[2].write_text(text, encoding="utf-8")
    return paths
