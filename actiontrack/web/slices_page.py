"""The page of the slices of a record: which groups of its samples are hard, and where they lie."""

from typing import Any, Literal

from actiontrack.analysis.options import SlicesOptions
from actiontrack.analysis.sentences import describe_slices
from actiontrack.analysis.slices import Strip, has_metadata, read_metadata, strips
from actiontrack.analysis.slices.answers import sample_set_of, slices_of
from actiontrack.errors import DataError, NotComparableError, ParameterError
from actiontrack.record.attributes import chosen_columns
from actiontrack.store import StoredRecord
from actiontrack.web.choice import read_parameters, view_of
from actiontrack.web.parameters import OfRun
from actiontrack.web.rendering import api_link, fixed, link, number, render, rows
from actiontrack.web.routes import current_site

__all__ = ["slices_page"]

_MOST_ROWS = 100
_LEAST_P = 1e-4  # smaller ones are not told apart on a page
_DEFAULTS = {"score": "action", "pairs": True, "min_size": 30}
_WIDTH = 330  # of a strip, in its own units

Context = dict[str, Any]


class _SlicesPage(OfRun, SlicesOptions):
    show: Literal["found", "all"] = "found"


def slices_page() -> str:
    """The slices of a record, hardest first, each with a strip of its samples."""
    options = read_parameters(_SlicesPage)
    view = view_of(options.run, options.record)
    opened = current_site().records.open(view.info.run_id, view.record)
    if options.score not in view.scores:
        rule = f"must be one of {', '.join(view.scores)}"
        raise ParameterError("score", rule, options.score, "Choose one of these.")
    context: Context = {"kept": has_metadata(opened), "problem": "", "rows": [], "names": []}
    if context["kept"]:
        try:
            context |= _fill(opened, options, view.record)
        except (DataError, NotComparableError) as error:
            context["problem"] = str(error)
    return render(
        "slices",
        title=f"Slices of {view.info.name}",
        view=view,
        attributes=options.attributes,
        **{name: getattr(options, name) for name in ("score", "pairs", "min_size", "show")},
        **context,
    )


def _fill(opened: StoredRecord, options: _SlicesPage, record: str) -> Context:
    names = chosen_columns(read_metadata(opened), ())
    shown = options.model_copy(update={"fdr": 1.0} if options.show == "all" else {})
    choice = SlicesOptions.model_validate(
        shown.model_dump(by_alias=True, include=set(SlicesOptions.model_fields))
    )
    result = slices_of([opened], choice)
    table = result.table.head(_MOST_ROWS)
    drawn = strips(sample_set_of([opened], choice), table["slice"].tolist())
    query = choice.model_dump(by_alias=True, exclude_defaults=True)
    of_record = {"run": opened.run.run_id, "record": record}
    return {
        "names": names,
        "sentence": describe_slices(result),
        "n_tried": result.n_tried,
        "n_rows": len(result.table),
        "rows": [
            _row(row, strip, of_record, options.score)
            for row, strip in zip(rows(table), drawn, strict=True)
        ],
        "source": api_link("slices", **of_record, **query),
    }


def _row(row: Context, strip: Strip, of_record: Context, score: str) -> Context:
    """A row of the table, its numbers as people read them."""
    by_score = None if score == _DEFAULTS["score"] else score
    interval = "–"
    if row["ci_low"] is not None:
        interval = f"{_signed(row['ci_low'] - 0.5)} to {_signed(row['ci_high'] - 0.5)}"
    return {
        **row,
        "difference": _signed(row["rank_difference"]),
        "interval": interval,
        "p": _small(row["p_value"]),
        "q": _small(row["q_value"]),
        "is_harder": row["rank_difference"] > 0,
        "link": link("run", **of_record, score=by_score, slice=row["slice"]) + "#samples",
        "ticks": " ".join(f"M{rank * _WIDTH:.1f} 5v14" for rank in strip.ranks),
        "mean_at": f"{strip.mean * _WIDTH:.1f}",
        "box": (f"{strip.low * _WIDTH:.1f}", f"{(strip.high - strip.low) * _WIDTH:.1f}"),
        "alt": (
            f"Ranks of {number(row['n'])} samples within their classes, from 0, the easiest, to 1: "
            f"mean {fixed(strip.mean)}, middle half {fixed(strip.low)} to {fixed(strip.high)}."
        ),
    }


def _signed(value: float) -> str:
    text = f"{round(value, 2) + 0.0:+.2f}"  # no negative zero
    return text.replace("-", "−")


def _small(value: float) -> str:
    return f"< {_LEAST_P:.4f}" if value < _LEAST_P else f"{value:.2g}"
