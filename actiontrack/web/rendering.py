"""From values to HTML: templates of ours, links between pages, numbers and times for people.

Links are built from parameters, never from text, and templates escape all values.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

import flask
import jinja2
import numpy as np
import pandas as pd

from actiontrack._version import __version__
from actiontrack.analysis.sentences import percent
from actiontrack.web.routes import NAME, current_site

__all__ = [
    "api_link",
    "count_of",
    "fixed",
    "here",
    "here_with",
    "link",
    "moment",
    "number",
    "plain",
    "render",
    "rows",
    "score_value",
    "sentence",
]

_DATABRICKS = "/ml/"  # where a workspace has its experiments
_IN_PERCENT = ("p_wrong", "p_suggested")
_THIN = "\u202f"  # no-break space between thousands
_EXACT = 1_000  # from here on a float is shown without decimals
_GROUPED = 10_000  # and from here on in groups of three digits
_LARGE = 1e7  # and from here on as a power of ten


# Links


def link(page: str, /, **parameters: Any) -> str:
    """Address of a page; parameters that are None are left out, lists repeat.

    Args:
        page: "runs", "run", "sample", "slices", "compare" or "review".
        parameters: of the query.
    """
    return flask.url_for(f"{NAME}.{'index' if page == 'runs' else page}") + _query(parameters)


def here_with(**changes: Any) -> str:
    """The present address with other parameters; None removes one."""
    query = flask.request.args.to_dict(flat=False) | changes
    return here() + _query(query)


def here() -> str:
    """The present address without its query, as a browser has it: with the path of a proxy."""
    return flask.request.root_path.rstrip("/") + flask.request.path


def api_link(path: str, /, **parameters: Any) -> str:
    """Address of a route of the API."""
    return f"{link('runs')}api/{path}{_query(parameters)}"


def _query(parameters: Mapping[str, Any]) -> str:
    present = {name: value for name, value in parameters.items() if value is not None}
    return f"?{urlencode(present, doseq=True)}" if present else ""


def _with_format(address: str, kind: str) -> str:
    return f"{address}{'&' if '?' in address else '?'}format={kind}"


def _mlflow_run(experiment_id: str, run_id: str) -> str:
    home = current_site().mlflow_url
    inside = "" if home.endswith(_DATABRICKS) else "#/"
    return f"{home}{inside}experiments/{experiment_id}/runs/{run_id}"


def _static(filename: str) -> str:
    return flask.url_for(f"{NAME}.static", filename=filename)


# Values


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as plain Python values, None for what is missing."""
    names = [str(name) for name in frame.columns]
    columns = [[plain(value) for value in frame[name].tolist()] for name in frame.columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def plain(value: Any) -> Any:
    """A value of pandas or NumPy as Python has it, None for what is missing."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float) and np.isnan(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def number(value: Any) -> str:
    """A number for people: four digits, a thin space between thousands, – for none.

    >>> number(3.14159), number(None), number(1234.5678), number(0.5)
    ('3.142', '–', '1235', '0.5')
    >>> number(50000) == "50\u202f000"
    True
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, float) and not np.isfinite(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if isinstance(value, int) or _EXACT <= size < _LARGE:
        text = f"{value:,.0f}" if size >= _GROUPED else f"{value:.0f}"
    else:
        text = f"{value:.4g}"
    return text.replace(",", _THIN).replace("-", "−")


def fixed(value: Any) -> str:
    """A correlation or a share with two decimals, – for none.

    >>> fixed(0.5), fixed(-0.123), fixed(None)
    ('0.50', '−0.12', '–')
    """
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def score_value(value: Any, score: str) -> str:
    """A score of a sample: in percent if it says how probable something is, else as a number.

    >>> score_value(0.25, "confidence"), score_value(None, "p_wrong")
    ('0.25', '–')
    >>> score_value(0.25, "p_wrong") == "25\u00a0%"
    True
    """
    return number(value) if value is None or score not in _IN_PERCENT else percent(value)


def moment(milliseconds: Any, kind: str = "") -> str:
    """A time of MLflow, in UTC; with the kind "iso" for machines.

    >>> moment(1700000000000), moment(1700000000000, "iso"), moment(0)
    ('2023-11-14 22:13', '2023-11-14T22:13:20+00:00', '')
    """
    if not milliseconds:
        return ""
    when = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return when.isoformat(timespec="seconds") if kind == "iso" else f"{when:%Y-%m-%d %H:%M}"


def count_of(count: int, what: str) -> str:
    """A number of things.

    >>> count_of(1, "run"), count_of(2, "box")
    ('1 run', '2 boxes')
    """
    if count == 1:
        return f"1 {what}"
    return f"{number(count)} {what}{'es' if what.endswith(('x', 's')) else 's'}"


def sentence(message: str) -> str:
    """A message with a capital letter, unless it begins with the name of a parameter or file.

    >>> sentence("the runs differ."), sentence("per_page: must be at least 1.")
    ('The runs differ.', 'per_page: must be at least 1.')
    """
    first = message.partition(" ")[0]
    return message[:1].upper() + message[1:] if first.isalpha() else message


def _stamp(when: Any) -> str:
    return "" if when is None else f"{when:%Y-%m-%d %H:%M}"


# Templates


def render(template: str, /, **context: Any) -> str:
    """A page from its template.

    Args:
        template: its name without ".html".
        context: what it shows; a name that it uses but that is missing is an error.
    """
    common = {
        "here": template,
        "mlflow_link": current_site().mlflow_url,
        "view": None,
        "charts": False,
    }
    return _environment().get_template(f"{template}.html").render(common | context)


@cache
def _environment() -> jinja2.Environment:
    """Templates of ours alone: what MLflow's application does to its own can't reach them."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("actiontrack.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "num": number,
        "fixed": fixed,
        "percent": percent,
        "score_value": score_value,
        "moment": moment,
        "count_of": count_of,
        "sentence": sentence,
        "stamp": _stamp,
        "with_format": _with_format,
    }
    environment.globals |= {
        "link": link,
        "here_with": here_with,
        "api": api_link,
        "static": _static,
        "mlflow_run": _mlflow_run,
        "version": __version__,
    }
    return environment
