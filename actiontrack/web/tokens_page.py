"""The page of the tokens of a document, each in a tone that says how large its loss is."""

from typing import Any

import numpy as np
import pandas as pd

from actiontrack.analysis.options import SampleOptions
from actiontrack.scores import score_unit
from actiontrack.web.choice import ChosenSamples, read_parameters
from actiontrack.web.parameters import SampleChoice
from actiontrack.web.rendering import link, render, rows
from actiontrack.web.routes import current_site
from actiontrack.web.samples import sample_row, tokens_of

__all__ = ["tokens_page"]

_TONES = 20  # of the heat map: class t0 to t20
_STEPS_OF_SCALE = 5
_HARDEST = 10


class _TokensPage(SampleChoice, SampleOptions):
    pass


def tokens_page() -> str:
    """The text of one document, its tokens coloured by their accumulated loss."""
    values = read_parameters(_TokensPage)
    chosen, records = ChosenSamples.of(values), current_site().records
    view = chosen.view
    run_id, record = view.info.run_id, view.record
    sample_id = sample_row(records, run_id, record, values.sample_id)["sample_id"]
    tokens = tokens_of(records, run_id, record, values.sample_id)
    texts = tokens["text"].notna().all()
    if not texts:
        tokens["text"] = tokens["position"].map(lambda position: f" {position} ")
    tokens["text"] = tokens["text"].str.replace("\n", "↵\n")
    finite = tokens.loc[np.isfinite(tokens["action"])]
    largest = float(finite["action"].max()) if len(finite) else 0.0
    return render(
        "tokens",
        title=f"Tokens of sample {sample_id}",
        sample_id=sample_id,
        tokens=_toned(tokens, largest),
        n_scored=len(finite),
        has_texts=texts,
        scale=_scale(largest),
        hardest=rows(finite.nlargest(_HARDEST, "action")),
        unit=score_unit("action", view.manifest.delta_kind, loss="nats"),
        up=link("sample", run=run_id, record=record, id=sample_id, **chosen.query),
        **chosen.context(),
    )


def _toned(tokens: pd.DataFrame, largest: float) -> list[dict[str, Any]]:
    """Tokens with their tone from 0 to 20; None for one without a loss."""
    table = rows(tokens)
    for token in table:
        action = token["action"]
        # One that is infinite, of a training that has diverged, is as dark as can be.
        share = None if action is None else min(max(action / largest if largest else 0.0, 0.0), 1.0)
        token["tone"] = None if share is None else round(_TONES * share)
    return table


def _scale(largest: float) -> list[tuple[int, float]]:
    """Tones and the losses that they stand for, from 0 to the largest."""
    shares = np.linspace(0, 1, _STEPS_OF_SCALE).tolist() if largest else []
    return [(round(_TONES * share), largest * share) for share in shares]
