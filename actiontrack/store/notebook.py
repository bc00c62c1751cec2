"""Small HTML tables by which objects appear in a notebook; all text is escaped."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from actiontrack.record.manifest import Manifest

__all__ = [
    "facts_html",
    "record_html",
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


def record_html(manifest: Manifest, run: str, model: str, held: Sequence[str]) -> str:
    """What a record is and holds.

    Args:
        manifest: the record's manifest.
        run: id and name of its run.
        model: name of the model.
        held: what it holds beside losses.
    """
    facts = {
        "run": run,
        "model": model,
        "loss": f"{manifest.loss_name}, Δn by {manifest.delta_kind}",
        "samples × steps": f"{manifest.n_samples} × {manifest.n_steps}",
        "classes": len(manifest.class_names) or "not named",
        "state": manifest.status,
        "holds": ", ".join(held) or "losses only",
    }
    return facts_html(f"Record {manifest.name}", facts)


def table_html(heading: str, frame: pd.DataFrame, *, note: str = "") -> str:
    """A heading and a note above the first rows of a frame."""
    first: Any = frame.head(_MAX_ROWS)
    table = first.to_html(border=0, float_format=lambda value: f"{value:.4g}", na_rep="–")
    more = f"<p>The first {_MAX_ROWS} of {len(frame)} rows.</p>" if len(frame) > _MAX_ROWS else ""
    text = f"<p>{html.escape(note)}</p>" if note else ""
    return f"<div><strong>{html.escape(heading)}</strong>{text}{table}{more}</div>"
